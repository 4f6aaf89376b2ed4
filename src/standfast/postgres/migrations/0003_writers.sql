-- Who writes a company's auth state, and how far it has come.
--
-- A write that its client gave up on may still sit in a stalled server's socket and be executed later. So each
-- write carries its writer's epoch and a sequence number, and the row of the company lets it through only in
-- order: what comes late, twice or from a former writer changes nothing.
CREATE SEQUENCE standfast_epochs;

CREATE TABLE standfast_writers (
    company_id text        NOT NULL PRIMARY KEY CHECK (company_id ~ '^[A-Za-z0-9_-]{1,50}$'),
    epoch      bigint      NOT NULL,
    sequence   bigint      NOT NULL DEFAULT 0,
    affected   bigint      NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- A new writer's epoch. Epochs come from one sequence for all, so that none is ever used twice.
CREATE FUNCTION standfast_claim(p_company text) RETURNS bigint LANGUAGE sql AS $$
    INSERT INTO standfast_writers AS w (company_id, epoch) VALUES (p_company, nextval('standfast_epochs'))
    ON CONFLICT (company_id) DO UPDATE
        SET epoch = excluded.epoch, sequence = 0, affected = 0, updated_at = now()
    RETURNING w.epoch
$$;

-- NULL: go on, the row is locked. A number: this very write was applied before and affected so many rows.
CREATE FUNCTION standfast_admit(p_company text, p_epoch bigint, p_sequence bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    w standfast_writers;
BEGIN
    UPDATE standfast_writers SET sequence = p_sequence, affected = 0, updated_at = now()
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

CREATE FUNCTION standfast_create_creds(p_company text, p_epoch bigint, p_sequence bigint, p_creds bytea)
RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    IF standfast_admit(p_company, p_epoch, p_sequence) IS NOT NULL THEN
        RETURN 1;
    END IF;
    INSERT INTO whatsapp_auth (company_id, creds, created_at, updated_at)
    VALUES (p_company, convert_from(p_creds, 'UTF8')::jsonb, now(), now())
    ON CONFLICT (company_id) DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the company has creds' USING ERRCODE = 'SF003';
    END IF;
    RETURN 1;
END
$$;

-- p_identities: every form in which stores write the public identity key that the new creds hold.
CREATE FUNCTION standfast_save_creds(
    p_company text, p_epoch bigint, p_sequence bigint, p_creds bytea, p_identities bytea
) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    IF standfast_admit(p_company, p_epoch, p_sequence) IS NOT NULL THEN
        RETURN 1;
    END IF;
    UPDATE whatsapp_auth SET creds = convert_from(p_creds, 'UTF8')::jsonb, updated_at = now()
    WHERE company_id = p_company
      AND creds::jsonb #> '{signedIdentityKey,public}'
          IN (SELECT jsonb_array_elements(convert_from(p_identities, 'UTF8')::jsonb));
    IF FOUND THEN
        RETURN 1;
    END IF;
    IF EXISTS (SELECT FROM whatsapp_auth WHERE company_id = p_company) THEN
        RAISE EXCEPTION 'the stored creds have another identity' USING ERRCODE = 'SF004';
    END IF;
    RAISE EXCEPTION 'the company has no creds' USING ERRCODE = 'SF005';
END
$$;

CREATE FUNCTION standfast_set_keys(
    p_company text, p_epoch bigint, p_sequence bigint,
    p_deleted_types text[], p_deleted_ids text[], p_types text[], p_ids text[], p_values bytea[]
) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    IF standfast_admit(p_company, p_epoch, p_sequence) IS NOT NULL THEN
        RETURN cardinality(p_ids) + cardinality(p_deleted_ids);
    END IF;
    IF cardinality(p_deleted_ids) > 0 THEN
        DELETE FROM whatsapp_keys k USING unnest(p_deleted_types, p_deleted_ids) AS d (key_type, key_id)
        WHERE k.company_id = p_company AND k.key_type = d.key_type AND k.key_id = d.key_id;
    END IF;
    IF cardinality(p_ids) > 0 THEN
        INSERT INTO whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at)
        SELECT p_company, u.key_type, u.key_id, convert_from(u.value, 'UTF8')::jsonb, now(), now()
        FROM unnest(p_types, p_ids, p_values) AS u (key_type, key_id, value)
        ON CONFLICT (company_id, key_type, key_id) DO UPDATE
            SET value = excluded.value, updated_at = excluded.updated_at, expires_at = NULL;
    END IF;
    RETURN cardinality(p_ids) + cardinality(p_deleted_ids);
END
$$;

CREATE FUNCTION standfast_clear_keys(p_company text, p_epoch bigint, p_sequence bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_affected bigint := standfast_admit(p_company, p_epoch, p_sequence);
BEGIN
    IF v_affected IS NULL THEN
        DELETE FROM whatsapp_keys WHERE company_id = p_company;
        GET DIAGNOSTICS v_affected = ROW_COUNT;
        UPDATE standfast_writers SET affected = v_affected WHERE company_id = p_company;
    END IF;
    RETURN v_affected;
END
$$;

CREATE FUNCTION standfast_remove(p_company text, p_epoch bigint, p_sequence bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_affected bigint := standfast_admit(p_company, p_epoch, p_sequence);
    v_creds    bigint;
BEGIN
    IF v_affected IS NULL THEN
        DELETE FROM whatsapp_keys WHERE company_id = p_company;
        GET DIAGNOSTICS v_affected = ROW_COUNT;
        DELETE FROM whatsapp_auth WHERE company_id = p_company;
        GET DIAGNOSTICS v_creds = ROW_COUNT;
        v_affected := v_affected + v_creds;
        UPDATE standfast_writers SET affected = v_affected WHERE company_id = p_company;
    END IF;
    RETURN v_affected;
END
$$;

-- A company's whole auth state at once. p_replace: over what there is; else the company must have no creds.
CREATE FUNCTION standfast_install(
    p_company text, p_epoch bigint, p_sequence bigint, p_replace boolean,
    p_creds bytea, p_types text[], p_ids text[], p_values bytea[]
) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    IF standfast_admit(p_company, p_epoch, p_sequence) IS NOT NULL THEN
        RETURN 1 + cardinality(p_ids);
    END IF;
    IF p_replace THEN
        DELETE FROM whatsapp_auth WHERE company_id = p_company;
    END IF;
    INSERT INTO whatsapp_auth (company_id, creds, created_at, updated_at)
    VALUES (p_company, convert_from(p_creds, 'UTF8')::jsonb, now(), now())
    ON CONFLICT (company_id) DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the company has creds' USING ERRCODE = 'SF003';
    END IF;
    DELETE FROM whatsapp_keys WHERE company_id = p_company;
    INSERT INTO whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at)
    SELECT p_company, u.key_type, u.key_id, convert_from(u.value, 'UTF8')::jsonb, now(), now()
    FROM unnest(p_types, p_ids, p_values) AS u (key_type, key_id, value);
    RETURN 1 + cardinality(p_ids);
END
$$;
