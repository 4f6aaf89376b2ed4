-- Sessions that a living node is just giving to another one. A row lives for the seconds that this takes; one that is older
-- means nothing.

CREATE TABLE standfast_handovers (
    company_id text        NOT NULL PRIMARY KEY,
    from_node  uuid        NOT NULL,
    to_node    uuid        NOT NULL,
    state      text        NOT NULL CHECK (state IN ('offered', 'awaited', 'free')),
    at         timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- A migration after which older versions cannot use the schema says from which version on it can be used. None does so far.
ALTER TABLE IF EXISTS standfast_migrations ADD COLUMN IF NOT EXISTS breaks_below integer NULL;
