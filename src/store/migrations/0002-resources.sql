-- Resources, what they refer to, tags, and what images were made from.

CREATE TABLE resource (
    id        INTEGER PRIMARY KEY,
    kind      TEXT NOT NULL,           -- the type in ARNs: component, image-recipe, workflow/build, ...
    name      TEXT NOT NULL,           -- as the person wrote it
    slug      TEXT NOT NULL,           -- as in ARNs
    major     INTEGER NOT NULL,        -- 0 in all four for kinds without versions
    minor     INTEGER NOT NULL,
    patch     INTEGER NOT NULL,
    build     INTEGER NOT NULL,        -- 0 for kinds without build numbers
    arn       TEXT NOT NULL UNIQUE,
    document  TEXT NOT NULL,           -- canonical JSON
    digest    TEXT NOT NULL,           -- of the content: without tags and version
    file      TEXT,                    -- where it was read; relative paths in it start from there
    revision  INTEGER NOT NULL,        -- counts the changes of kinds that are changed in place, from 1
    created   TEXT NOT NULL,
    updated   TEXT NOT NULL,
    UNIQUE (kind, slug, major, minor, patch, build)
) STRICT;

-- What a resource without versions said before it was changed.
CREATE TABLE resource_history (
    resource  INTEGER NOT NULL REFERENCES resource (id) ON DELETE CASCADE,
    revision  INTEGER NOT NULL,
    document  TEXT NOT NULL,
    digest    TEXT NOT NULL,
    replaced  TEXT NOT NULL,
    PRIMARY KEY (resource, revision)
) STRICT, WITHOUT ROWID;

-- A reference names a resource and says which versions will do; NULL is an x.
CREATE TABLE resource_reference (
    resource  INTEGER NOT NULL REFERENCES resource (id) ON DELETE CASCADE,
    field     TEXT NOT NULL,
    text      TEXT NOT NULL,           -- as the document says it
    kind      TEXT NOT NULL,           -- the type in ARNs; workflow alone is any of its three types
    slug      TEXT NOT NULL,
    major     INTEGER,
    minor     INTEGER,
    patch     INTEGER,
    build     INTEGER
) STRICT;
CREATE INDEX resource_reference_resource ON resource_reference (resource);
CREATE INDEX resource_reference_slug ON resource_reference (slug, kind);

CREATE TABLE resource_tag (
    resource  INTEGER NOT NULL REFERENCES resource (id) ON DELETE CASCADE,
    key       TEXT NOT NULL,
    value     TEXT NOT NULL,
    PRIMARY KEY (resource, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE image_tag (
    image     INTEGER NOT NULL REFERENCES image (id) ON DELETE CASCADE,
    key       TEXT NOT NULL,
    value     TEXT NOT NULL,
    PRIMARY KEY (image, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX image_tag_key ON image_tag (key, value);

-- The texts of component documents that images were made from, so that a build can be repeated when files and store have
-- moved on.
CREATE TABLE component_text (
    digest    TEXT PRIMARY KEY,        -- SHA-256
    text      TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What an image was made from, resolved.
CREATE TABLE image_input (
    image     INTEGER NOT NULL REFERENCES image (id) ON DELETE CASCADE,
    position  INTEGER NOT NULL,
    role      TEXT NOT NULL,           -- recipe, parent, component, infrastructure, distribution, pipeline
    name      TEXT NOT NULL,
    version   TEXT,                    -- with the build number, where there is one
    arn       TEXT,                    -- of resources of the store
    source    TEXT,                    -- the file it was read from
    digest    TEXT,                    -- SHA-256
    detail    TEXT NOT NULL,           -- JSON: parameters of a component, the whole of a configuration
    PRIMARY KEY (image, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX image_input_arn ON image_input (arn);
CREATE INDEX image_input_digest ON image_input (digest);

ALTER TABLE image ADD COLUMN platform TEXT NOT NULL DEFAULT 'Linux';
ALTER TABLE image ADD COLUMN architecture TEXT;
ALTER TABLE image ADD COLUMN os TEXT;

-- The last build number given for a version. Numbers are not given again when an image or a component is removed.
CREATE TABLE build_number (
    kind      TEXT NOT NULL,
    slug      TEXT NOT NULL,
    major     INTEGER NOT NULL,
    minor     INTEGER NOT NULL,
    patch     INTEGER NOT NULL,
    last      INTEGER NOT NULL,
    PRIMARY KEY (kind, slug, major, minor, patch)
) STRICT, WITHOUT ROWID;
INSERT INTO build_number
    SELECT 'image', slug, major, minor, patch, max(build) FROM image GROUP BY slug, major, minor, patch;
