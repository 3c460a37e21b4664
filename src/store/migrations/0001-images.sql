-- Images, their states and their steps.
CREATE TABLE image (
    id        INTEGER PRIMARY KEY,
    name      TEXT NOT NULL,           -- as the person wrote it
    slug      TEXT NOT NULL,           -- as in ARNs
    major     INTEGER NOT NULL,
    minor     INTEGER NOT NULL,
    patch     INTEGER NOT NULL,
    build     INTEGER NOT NULL,
    arn       TEXT NOT NULL UNIQUE,
    run       TEXT NOT NULL UNIQUE,
    state     TEXT NOT NULL,
    reason    TEXT,
    parent    TEXT NOT NULL,
    recipe    TEXT NOT NULL,           -- JSON
    folder    TEXT NOT NULL,           -- where the outputs are, or would have been
    logs      TEXT NOT NULL,
    owner_pid INTEGER NOT NULL,
    owner_start INTEGER NOT NULL,
    created   TEXT NOT NULL,
    updated   TEXT NOT NULL,
    UNIQUE (slug, major, minor, patch, build)
) STRICT;
CREATE INDEX image_state ON image (state);
CREATE TABLE image_history (
    image     INTEGER NOT NULL REFERENCES image (id) ON DELETE CASCADE,
    state     TEXT NOT NULL,
    reason    TEXT,
    time      TEXT NOT NULL
) STRICT;
CREATE INDEX image_history_image ON image_history (image);
CREATE TABLE step (
    image     INTEGER NOT NULL REFERENCES image (id) ON DELETE CASCADE,
    name      TEXT NOT NULL,
    outcome   TEXT NOT NULL,
    seconds   REAL NOT NULL,
    detail    TEXT NOT NULL,
    finished  TEXT NOT NULL
) STRICT;
CREATE INDEX step_image ON step (image);
