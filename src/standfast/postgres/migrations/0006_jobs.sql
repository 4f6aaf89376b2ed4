-- What cleanup took out and can put back, which backups were made, and what the jobs of a fleet have done.

CREATE TABLE standfast_cleanups (
    run            text        NOT NULL PRIMARY KEY CHECK (run ~ '^[A-Za-z0-9_-]{1,50}$'),
    node           uuid        NOT NULL,
    node_name      text        NOT NULL,
    policy         text        NOT NULL,
    retention_days int         NOT NULL,
    started_at     timestamptz NOT NULL DEFAULT now(),
    ended_at       timestamptz NULL,
    undone_at      timestamptz NULL,
    report         jsonb       NULL
);

-- The rows of whatsapp_keys as they were. taken: the key has left whatsapp_keys; before that, its removal is on its way.
CREATE TABLE standfast_trash (
    run        text        NOT NULL REFERENCES standfast_cleanups ON DELETE CASCADE,
    company_id text        NOT NULL,
    key_type   text        NOT NULL,
    key_id     text        NOT NULL,
    value      text        NOT NULL, -- as the column's own text, whatever its type
    created_at timestamptz NULL,
    updated_at timestamptz NULL,
    expires_at timestamptz NULL,
    taken      boolean     NOT NULL DEFAULT false,
    trashed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run, company_id, key_type, key_id)
);

-- Written before a backup's snapshot is taken: each backup holds its own row, by which a restore knows it.
CREATE TABLE standfast_backups (
    name     text        NOT NULL PRIMARY KEY,
    node     uuid        NOT NULL,
    sentinel uuid        NOT NULL DEFAULT gen_random_uuid(),
    begun_at timestamptz NOT NULL DEFAULT now()
);

-- One row for each run of a job, so that a fleet does each once and catches up once on what it missed.
CREATE TABLE standfast_jobs (
    job        text        NOT NULL,
    due_at     timestamptz NOT NULL,
    node       uuid        NOT NULL,
    node_name  text        NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at   timestamptz NULL,
    outcome    text        NULL CHECK (outcome IN ('done', 'failed', 'skipped')),
    report     jsonb       NULL,
    PRIMARY KEY (job, due_at)
);

-- Pre-keys that WhatsApp no longer hands out, and since when: noted with what the key was then (written_at), so that an
-- id that is given to another key begins anew.
CREATE TABLE standfast_unlisted_pre_keys (
    company_id text        NOT NULL,
    key_id     text        NOT NULL,
    written_at timestamptz NULL,
    since      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (company_id, key_id)
);
