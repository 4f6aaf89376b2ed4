"""The ledger: PostgreSQL itself writes down every state that a company was ever committed in, and by whom.

Invariant: an entry is part of the transaction that it tells of, so that the ledger has every commit and no other;
it is made by triggers, and knows nothing of Standfast's functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection

from tests.chaos import workload
from tests.chaos.checker import Committed
from tests.chaos.model import State

Connection = AsyncConnection[Any]
SETUP = "setup"

# Deferred triggers run when all statements of the transaction are done: the first one sees what is committed.
_SCHEMA = """
create schema chaos;
create table chaos.log (
    id bigserial primary key, company text not null, kind text not null, app text not null,
    claimer text, epoch bigint, sequence bigint, state text not null, transaction xid8 not null
);
create index on chaos.log (company, id);
create table chaos.claims (company text primary key, app text not null);
create table chaos.old_claims (like chaos.claims);
create table chaos.old_auth (like whatsapp_auth);
create table chaos.old_keys (like whatsapp_keys);
create table chaos.old_writers (like standfast_writers);

create function chaos.state(p text) returns text language sql stable as $$
    select 'creds=' || coalesce((select creds ->> 'nextPreKeyId' from whatsapp_auth where company_id = p), '-')
        || coalesce((select string_agg(' ' || name, '' order by name collate "C") from (
               select key_type || '/' || key_id || '=' || (value ->> 'n') as name
               from whatsapp_keys where company_id = p) as named), '')
$$;

create function chaos.note(p_company text, p_kind text) returns void language sql as $$
    insert into chaos.log (company, kind, app, claimer, epoch, sequence, state, transaction)
    select p_company, p_kind, current_setting('application_name'), c.app, w.epoch, w.sequence,
           chaos.state(p_company), pg_current_xact_id()
    from (values (1)) as one left join standfast_writers w on w.company_id = p_company
         left join chaos.claims c on c.company = p_company
$$;

create function chaos.on_claim() returns trigger language plpgsql as $$
begin
    insert into chaos.claims values (new.company_id, current_setting('application_name'))
    on conflict (company) do update set app = excluded.app;
    perform chaos.note(new.company_id, 'claim');
    return null;
end $$;
create trigger chaos_claimed after insert on standfast_writers for each row execute function chaos.on_claim();
create trigger chaos_claimed_anew after update on standfast_writers for each row
    when (old.epoch is distinct from new.epoch) execute function chaos.on_claim();

create function chaos.on_data() returns trigger language plpgsql as $$
declare
    v_company text := coalesce(new.company_id, old.company_id);
begin
    if not exists (select from chaos.log where transaction = pg_current_xact_id()
                   and company = v_company and kind = 'data') then
        perform chaos.note(v_company, 'data');
    end if;
    return null;
end $$;
create constraint trigger chaos_auth after insert or update or delete on whatsapp_auth
    deferrable initially deferred for each row execute function chaos.on_data();
create constraint trigger chaos_keys after insert or update or delete on whatsapp_keys
    deferrable initially deferred for each row execute function chaos.on_data();
"""
_READ = """
select id, company, kind, app, coalesce(claimer, ''), coalesce(epoch, 0), coalesce(sequence, 0), state
from chaos.log where company = any(%s) and app <> %s order by id
"""
_KEPT = (
    ("whatsapp_auth", "chaos.old_auth", "company_id"),
    ("whatsapp_keys", "chaos.old_keys", "company_id"),
    ("standfast_writers", "chaos.old_writers", "company_id"),
    ("chaos.claims", "chaos.old_claims", "company"),
)


async def install(connection: Connection) -> None:
    await connection.execute(_SCHEMA)


async def seed_company(connection: Connection, company: str, state: State) -> None:
    """A company as a bot without Standfast left it."""
    async with connection.transaction():
        await connection.execute(
            "insert into whatsapp_auth (company_id, creds) values (%s, %s::jsonb)",
            (company, workload.creds(state.creds or 0).decode()),
        )
        for (key_type, key_id), number in state.keys.items():
            await connection.execute(
                "insert into whatsapp_keys (company_id, key_type, key_id, value) values (%s, %s, %s, %s::jsonb)",
                (company, key_type, key_id, workload.value(key_type, key_id, number).decode()),
            )


class Ledger:
    """Reads each entry of some companies once, in the order of each company's commits. Every call raises psycopg's
    errors where PostgreSQL does not answer."""

    def __init__(self, companies: Sequence[str]) -> None:
        self._companies = list(companies)
        self._seen: dict[str, int] = dict.fromkeys(companies, 0)

    async def fresh(self, connection: Connection) -> list[Committed]:
        """What was committed since the last call."""
        rows = await (await connection.execute(_READ, (self._companies, SETUP))).fetchall()
        made = []
        for number, company, *fields in rows:
            if number > self._seen[company]:
                self._seen[company] = number
                made.append(Committed(company, *fields))
        return made

    async def state(self, connection: Connection, company: str) -> str:
        row = await (await connection.execute("select chaos.state(%s)", (company,))).fetchone()
        assert row is not None
        return str(row[0])

    async def damaged_values(self, connection: Connection, company: str) -> list[str]:
        """Keys whose value in PostgreSQL is not exactly what the operation that it names wrote."""
        rows = await connection.execute(
            "select key_type, key_id, value::text from whatsapp_keys where company_id = %s", (company,)
        )
        damaged = []
        for key_type, key_id, text in await rows.fetchall():
            try:
                workload.number_of_value(key_type, key_id, text.encode())
            except (ValueError, KeyError):
                damaged.append(f"{key_type}/{key_id}")
        return damaged

    async def keep_copy(self, connection: Connection, company: str) -> None:
        """As a backup does."""
        async with connection.transaction():
            for table, copy, column in _KEPT:
                await connection.execute(f"delete from {copy} where {column} = %s", (company,))
                await connection.execute(
                    f"insert into {copy} select * from {table} where {column} = %s", (company,)
                )

    async def put_back(self, connection: Connection, company: str) -> None:
        """PostgreSQL is restored from the copy, as far as this company is concerned."""
        async with connection.transaction():
            await connection.execute("set local session_replication_role = replica")
            for table, copy, column in _KEPT:
                await connection.execute(f"delete from {table} where {column} = %s", (company,))
                await connection.execute(
                    f"insert into {table} select * from {copy} where {column} = %s", (company,)
                )
            await connection.execute("set local application_name = 'rewind'")
            await connection.execute("select chaos.note(%s, 'rewound')", (company,))


async def remove_guard(connection: Connection) -> None:
    """A defect to be found: deliveries are admitted whatever epoch they come under."""
    rows = await connection.execute("select pg_get_functiondef('standfast_admit_delivery'::regproc)")
    row = await rows.fetchone()
    assert row is not None
    guarded = str(row[0])
    unguarded = guarded.replace("company_id = p_company AND epoch = p_epoch", "company_id = p_company")
    assert unguarded != guarded, "the guard is not written as this defect expects"
    await connection.execute(unguarded.encode())
