-- Auth state, in the tables that Node bots on Baileys already use. Existing ones are adopted (see adoption.py).
CREATE TABLE IF NOT EXISTS whatsapp_auth (
    company_id text        NOT NULL PRIMARY KEY,
    creds      jsonb       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS whatsapp_keys (
    company_id text        NOT NULL,
    key_type   text        NOT NULL,
    key_id     text        NOT NULL,
    value      jsonb       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NULL,
    PRIMARY KEY (company_id, key_type, key_id)
);
