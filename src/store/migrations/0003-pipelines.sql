-- What happens to pipelines: their state, their runs; and what lifecycle policies did.
-- Times are seconds since 1970, so that they can be compared.

CREATE TABLE pipeline_state (
    pipeline TEXT PRIMARY KEY,        -- its name as in ARNs
    digest   TEXT NOT NULL,           -- of the document that the state belongs to; another one starts anew
    status   TEXT,                    -- ENABLED or DISABLED, if it was set beside the document
    reason   TEXT,                    -- why it is disabled
    failures INTEGER NOT NULL,        -- scheduled runs that failed in a row
    anchor   INTEGER NOT NULL,        -- from when on rates count their periods
    checked  INTEGER NOT NULL         -- until when the schedule has been looked at
) STRICT;

CREATE TABLE pipeline_run (
    id          INTEGER PRIMARY KEY,
    pipeline    TEXT NOT NULL,
    started_by  TEXT NOT NULL,        -- MANUAL, SCHEDULE or CATCH_UP
    due         INTEGER,              -- the time of the schedule
    outcome     TEXT NOT NULL,        -- RUNNING, SUCCEEDED, FAILED, CANCELLED or SKIPPED
    reason      TEXT,
    image       TEXT,                 -- the ARN of what it makes
    inputs      TEXT,                 -- JSON: versions and digests of what went in
    owner_pid   INTEGER NOT NULL,
    owner_start INTEGER NOT NULL,
    started     INTEGER NOT NULL,
    finished    INTEGER
) STRICT;
-- Of several schedulers only one gets a time.
CREATE UNIQUE INDEX pipeline_run_due ON pipeline_run (pipeline, due) WHERE due IS NOT NULL;
CREATE INDEX pipeline_run_pipeline ON pipeline_run (pipeline, id);
CREATE INDEX pipeline_run_running ON pipeline_run (outcome) WHERE outcome = 'RUNNING';

CREATE TABLE lifecycle_execution (
    id       TEXT PRIMARY KEY,        -- lce-UUID
    policy   TEXT NOT NULL,
    status   TEXT NOT NULL,           -- IN_PROGRESS, SUCCESS or FAILED
    started  INTEGER NOT NULL,
    finished INTEGER
) STRICT;
CREATE INDEX lifecycle_execution_policy ON lifecycle_execution (policy, started);

CREATE TABLE lifecycle_result (
    execution TEXT NOT NULL REFERENCES lifecycle_execution (id) ON DELETE CASCADE,
    image     TEXT NOT NULL,          -- its ARN
    action    TEXT NOT NULL,          -- DEPRECATE, DISABLE or DELETE
    status    TEXT NOT NULL,          -- SUCCESS or FAILED
    reason    TEXT NOT NULL
) STRICT;
CREATE INDEX lifecycle_result_execution ON lifecycle_result (execution);
