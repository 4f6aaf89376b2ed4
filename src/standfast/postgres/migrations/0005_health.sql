-- What one node of a fleet does for all of them, and what the tables were found to hold over time.

-- until: whoever has the duty renews it before then; after it, or when its node is dead, another takes it.
CREATE TABLE standfast_duties (
    duty  text        NOT NULL PRIMARY KEY,
    node  uuid        NOT NULL,
    until timestamptz NOT NULL,
    since timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- counted_at: when the keys were last counted one by one; exact: they were at taken_at. Rows between two counts carry
-- the last one on. census: what a count found, by age, type and company; null in the rows between.
CREATE TABLE standfast_census (
    taken_at     timestamptz NOT NULL DEFAULT now(),
    node         uuid        NOT NULL,
    node_name    text        NOT NULL,
    counted_at   timestamptz NOT NULL,
    exact        boolean     NOT NULL,
    auth_records bigint      NOT NULL,
    keys         bigint      NOT NULL,
    expired      bigint      NOT NULL,
    table_bytes  bigint      NOT NULL,
    index_bytes  bigint      NOT NULL,
    census       jsonb       NULL,
    PRIMARY KEY (taken_at, node)
);
