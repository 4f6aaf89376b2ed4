-- Which companies' sessions Standfast is to keep connected.
CREATE TABLE standfast_sessions (
    company_id  text        NOT NULL PRIMARY KEY CHECK (company_id ~ '^[A-Za-z0-9_-]{1,50}$'),
    wanted      boolean     NOT NULL DEFAULT true,
    phone       text        NULL,
    unlinked_at timestamptz NULL, -- when WhatsApp said that the device was removed: the creds are dead
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);
