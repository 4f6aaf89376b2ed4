-- Which node holds a company, how far PostgreSQL has come in its history, and how changes arrive here in order.
--
-- A company's sequence counts its changes and never goes back; its epoch names who may make them. Epochs follow
-- the server's clock (milliseconds), so that those given out after the database was restored from an older copy
-- are beyond all that were given out before: an epoch that a node remembers is then never somebody else's.
CREATE TABLE standfast_identity (
    id  uuid    NOT NULL PRIMARY KEY DEFAULT gen_random_uuid(),
    one boolean NOT NULL DEFAULT true UNIQUE CHECK (one)
);
INSERT INTO standfast_identity DEFAULT VALUES;

CREATE TABLE standfast_nodes (
    node        uuid        NOT NULL PRIMARY KEY,
    name        text        NOT NULL,
    instance    uuid        NOT NULL, -- the process that speaks for the node
    alive_until timestamptz NOT NULL,
    revision    bigint      NOT NULL DEFAULT 0, -- grows whenever something was taken from the node
    started_at  timestamptz NOT NULL DEFAULT now(),
    seen_at     timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- node: who leases the company; null, or a node past its alive_until: nobody.
-- claimed_by: whose the epoch is, also after a release; null for a store that leases nothing.
-- base: where the unbroken row of claimed_by's epochs begins under which nothing was written.
ALTER TABLE standfast_writers
    ADD COLUMN node uuid NULL,
    ADD COLUMN claimed_by uuid NULL,
    ADD COLUMN base bigint NOT NULL DEFAULT 0;

CREATE FUNCTION standfast_next_epoch(p_floor bigint) RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT greatest(p_floor + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
$$;

-- The row of a node, locked, while the node is alive: a heartbeat cannot come between this look and what follows.
CREATE FUNCTION standfast_living(p_node uuid) RETURNS SETOF standfast_nodes LANGUAGE plpgsql AS $$
DECLARE
    n standfast_nodes;
BEGIN
    SELECT * INTO n FROM standfast_nodes WHERE node = p_node FOR UPDATE;
    IF FOUND AND n.alive_until > clock_timestamp() THEN
        RETURN NEXT n;
    END IF;
END
$$;

CREATE FUNCTION standfast_taken_from(p_node uuid) RETURNS void LANGUAGE sql AS $$
    UPDATE standfast_nodes SET revision = revision + 1 WHERE node = p_node
$$;

-- A node makes a company its own. Nothing is written unless the row's epoch is p_expected (0: there is no row):
-- a call that its client gave up on, executed by a stalled server later, must not fence that client off.
CREATE FUNCTION standfast_acquire(
    p_company text, p_node uuid, p_known bigint, p_expected bigint, p_create boolean, p_force boolean,
    OUT outcome text, OUT epoch bigint, OUT sequence bigint, OUT relation text, OUT holder text, OUT holder_for_s float8
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    w      standfast_writers;
    h      standfast_nodes;
    v_next bigint;
BEGIN
    SELECT * INTO w FROM standfast_writers WHERE company_id = p_company FOR UPDATE;
    epoch := coalesce(w.epoch, 0);
    sequence := coalesce(w.sequence, 0);
    relation := CASE
        WHEN p_known = 0 THEN 'fresh'
        WHEN epoch < p_known THEN 'behind'
        WHEN epoch = p_known OR (w.claimed_by = p_node AND p_known >= w.base) THEN 'continued'
        ELSE 'superseded'
    END;
    IF NOT p_create AND NOT EXISTS (SELECT FROM whatsapp_auth WHERE company_id = p_company) THEN
        outcome := 'absent';
        RETURN;
    END IF;
    IF w.node <> p_node AND NOT p_force THEN
        SELECT * INTO h FROM standfast_living(w.node);
        IF FOUND THEN
            outcome := 'held';
            holder := h.name;
            holder_for_s := extract(epoch FROM h.alive_until - clock_timestamp());
            RETURN;
        END IF;
    END IF;
    outcome := 'moved';
    IF epoch <> p_expected THEN
        RETURN;
    END IF;
    v_next := standfast_next_epoch(greatest(epoch, p_known));
    IF w.company_id IS NULL THEN
        INSERT INTO standfast_writers (company_id, epoch, node, claimed_by)
        VALUES (p_company, v_next, p_node, p_node) ON CONFLICT (company_id) DO NOTHING;
        IF NOT FOUND THEN
            RETURN;
        END IF;
    ELSE
        UPDATE standfast_writers
        SET epoch = v_next, node = p_node, claimed_by = p_node, affected = 0, updated_at = now(),
            base = CASE WHEN claimed_by = p_node THEN base ELSE epoch END
        WHERE company_id = p_company;
        IF w.node <> p_node THEN
            PERFORM standfast_taken_from(w.node);
        END IF;
    END IF;
    outcome := 'acquired';
    epoch := v_next;
END
$$;

-- A store that leases nothing begins to write. holder: the living node that leases the company; then nothing was done.
CREATE FUNCTION standfast_begin(p_company text, OUT epoch bigint, OUT sequence bigint, OUT holder text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    w standfast_writers;
BEGIN
    INSERT INTO standfast_writers (company_id, epoch) VALUES (p_company, 0) ON CONFLICT (company_id) DO NOTHING;
    SELECT * INTO w FROM standfast_writers WHERE company_id = p_company FOR UPDATE;
    SELECT name INTO holder FROM standfast_living(w.node);
    IF FOUND THEN
        RETURN;
    END IF;
    epoch := standfast_next_epoch(w.epoch);
    sequence := w.sequence;
    UPDATE standfast_writers
    SET epoch = standfast_begin.epoch, base = w.epoch, affected = 0, node = NULL, claimed_by = NULL, updated_at = now()
    WHERE company_id = p_company;
    PERFORM standfast_taken_from(w.node);
END
$$;

-- For processes of versions before this migration, which count from 0 in each epoch.
CREATE OR REPLACE FUNCTION standfast_claim(p_company text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    b record;
BEGIN
    SELECT * INTO b FROM standfast_begin(p_company);
    IF b.holder IS NOT NULL THEN
        RAISE EXCEPTION 'another node leases the company' USING ERRCODE = 'SF001';
    END IF;
    UPDATE standfast_writers SET sequence = 0 WHERE company_id = p_company;
    RETURN b.epoch;
END
$$;
DROP SEQUENCE standfast_epochs;

-- As in migration 3, and the epoch counts as written under.
CREATE OR REPLACE FUNCTION standfast_admit(p_company text, p_epoch bigint, p_sequence bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    w standfast_writers;
BEGIN
    UPDATE standfast_writers SET sequence = p_sequence, affected = 0, base = p_epoch, updated_at = now()
    WHERE company_id = p_company AND epoch = p_epoch AND sequence < p_sequence;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    SELECT * INTO w FROM standfast_writers WHERE company_id = p_company;
    IF w.epoch IS DISTINCT FROM p_epoch THEN
        RAISE EXCEPTION 'another writer holds the company' USING ERRCODE = 'SF001';
    END IF;
    IF w.sequence > p_sequence THEN
        RAISE EXCEPTION 'a later write has been applied' USING ERRCODE = 'SF002';
    END IF;
    RETURN w.affected;
END
$$;

-- Whether changes p_first..p_last may be applied now ('admitted': the row is locked), and if not, why.
-- A whole state is let in at any sequence, but only once in an epoch, or later than what is there.
CREATE FUNCTION standfast_admit_delivery(
    p_company text, p_epoch bigint, p_first bigint, p_last bigint, p_whole boolean,
    OUT outcome text, OUT sequence bigint
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    w standfast_writers;
BEGIN
    UPDATE standfast_writers SET sequence = p_last, affected = 0, base = p_epoch, updated_at = now()
    WHERE company_id = p_company AND epoch = p_epoch
      AND (sequence = p_first - 1 OR p_whole AND (base < p_epoch OR sequence < p_last));
    IF FOUND THEN
        outcome := 'admitted';
        sequence := p_last;
        RETURN;
    END IF;
    SELECT * INTO w FROM standfast_writers WHERE company_id = p_company;
    sequence := coalesce(w.sequence, 0);
    outcome := CASE
        WHEN w.epoch > p_epoch THEN 'fenced'
        WHEN w.epoch IS NULL OR w.epoch < p_epoch THEN 'behind'
        WHEN sequence >= p_last THEN 'applied'
        WHEN sequence >= p_first THEN 'partly'
        ELSE 'behind'
    END;
END
$$;

-- Changes of several companies in one transaction; p_companies sorted, so that two calls never wait for each other
-- in a circle. Keys name their company by its place in p_companies. A company that something holds locked fails the
-- call after a second: the others are then delivered without it.
CREATE FUNCTION standfast_deliver(
    p_companies text[], p_epochs bigint[], p_firsts bigint[], p_lasts bigint[],
    p_wholes boolean[], p_cleared boolean[], p_creds bytea[],
    p_deleted_places int[], p_deleted_types text[], p_deleted_ids text[],
    p_places int[], p_types text[], p_ids text[], p_values bytea[]
) RETURNS TABLE (outcome text, sequence bigint) LANGUAGE plpgsql SET lock_timeout = '1s' AS $$
#variable_conflict use_column
DECLARE
    v_admitted boolean[] := '{}';
BEGIN
    FOR i IN 1 .. cardinality(p_companies) LOOP
        SELECT a.outcome, a.sequence INTO outcome, sequence
        FROM standfast_admit_delivery(p_companies[i], p_epochs[i], p_firsts[i], p_lasts[i], p_wholes[i]) a;
        v_admitted[i] := outcome = 'admitted';
        IF v_admitted[i] THEN
            outcome := 'applied';
        END IF;
        RETURN NEXT;
    END LOOP;
    IF true = ANY (p_cleared) THEN
        DELETE FROM whatsapp_keys k USING unnest(p_companies, p_cleared) WITH ORDINALITY AS d (company, cleared, place)
        WHERE k.company_id = d.company AND d.cleared AND v_admitted[d.place];
    END IF;
    IF cardinality(p_deleted_ids) > 0 THEN
        DELETE FROM whatsapp_keys k
        USING unnest(p_deleted_places, p_deleted_types, p_deleted_ids) AS d (place, key_type, key_id)
        WHERE v_admitted[d.place] AND k.company_id = p_companies[d.place]
          AND k.key_type = d.key_type AND k.key_id = d.key_id;
    END IF;
    IF cardinality(p_ids) > 0 THEN
        INSERT INTO whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at)
        SELECT p_companies[u.place], u.key_type, u.key_id, convert_from(u.value, 'UTF8')::jsonb, now(), now()
        FROM unnest(p_places, p_types, p_ids, p_values) AS u (place, key_type, key_id, value)
        WHERE v_admitted[u.place]
        ON CONFLICT (company_id, key_type, key_id) DO UPDATE
            SET value = excluded.value, updated_at = excluded.updated_at, expires_at = NULL;
    END IF;
    DELETE FROM whatsapp_auth a USING unnest(p_companies, p_wholes, p_creds) WITH ORDINALITY AS d (company, whole, creds, place)
    WHERE a.company_id = d.company AND d.whole AND d.creds IS NULL AND v_admitted[d.place];
    INSERT INTO whatsapp_auth (company_id, creds, created_at, updated_at)
    SELECT d.company, convert_from(d.creds, 'UTF8')::jsonb, now(), now()
    FROM unnest(p_companies, p_creds) WITH ORDINALITY AS d (company, creds, place)
    WHERE d.creds IS NOT NULL AND v_admitted[d.place]
    ON CONFLICT (company_id) DO UPDATE SET creds = excluded.creds, updated_at = excluded.updated_at;
END
$$;
