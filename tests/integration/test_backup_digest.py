"""The digest that a backup is compared by, made by a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from standfast.errors import BackupDamaged
from standfast.jobs.backup.digest import TakenContent, check_method, take_content
from standfast.jobs.backup.tables import our_tables
from standfast.postgres.options import DatabaseOptions

Connection = psycopg.AsyncConnection[tuple[object, ...]]
Taken = Callable[..., Awaitable[TakenContent]]

ROWS = (
    """
    insert into whatsapp_auth (company_id, creds, created_at, updated_at)
    select c, '{"n": 1}', '2026-01-01Z', '2026-02-01Z' from unnest(array['acme', 'zenith']) c
    """,
    """
    insert into whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at)
    select c, t, n::text, to_json(c || t || n), '2026-01-01Z', '2026-02-01Z'
    from unnest(array['acme', 'zenith']) c, unnest(array['session', 'pre-key']) t, generate_series(1, 3) n
    """,
)
NODE_BOT = (
    "create schema bot",
    "create schema other",
    "create table other.whatsapp_keys (id int)",
    "create table other.standfast_notes (id int)",
    """
    create table bot.whatsapp_auth (
        id serial primary key, company_id varchar(80) unique, creds text, updated_at timestamp
    )
    """,
    """
    create table bot.whatsapp_keys (
        id serial primary key, company_id varchar(80), key_type varchar(50), key_id varchar(200), value text,
        created_at timestamp, unique (company_id, key_type, key_id)
    )
    """,
    "insert into bot.whatsapp_auth (company_id, creds) values ('acme', '{}')",
    "insert into bot.whatsapp_keys (company_id, key_type, key_id, value) values ('acme', 'session', '1', '{}')",
)


@pytest.fixture
async def connection(database_options: DatabaseOptions) -> AsyncIterator[Connection]:
    async with await psycopg.AsyncConnection.connect(
        database_options.to_conninfo(), autocommit=True
    ) as opened:
        yield opened


@pytest.fixture
def taken(connection: Connection) -> Taken:
    """The content after some statements, which are then undone."""

    async def after(*statements: str) -> TakenContent:
        async with connection.transaction(force_rollback=True):
            for statement in statements:
                await connection.execute(statement.encode())
            return await take_content(connection)

    return after


async def test_every_change_of_a_row_changes_the_digest(connection: Connection, taken: Taken) -> None:
    """And of that company's only; the order in which rows lie, and the zone of whoever asks, do not."""
    for statement in ROWS:
        await connection.execute(statement.encode())
    before = await taken()
    assert before.rows == 14
    assert before.companies["acme"].keys == {"pre-key": 3, "session": 3}
    key = "company_id = 'acme' and key_type = 'session' and key_id = '1'"
    swapped = (
        "update whatsapp_keys k set value = o.value from whatsapp_keys o where k.company_id = 'acme' "
        "and o.company_id = 'acme' and k.key_type = 'session' and o.key_type = 'session' "
        "and k.key_id in ('1', '2') and o.key_id in ('1', '2') and k.key_id <> o.key_id"
    )
    for change in (
        f"update whatsapp_keys set value = '\"other\"' where {key}",
        f"update whatsapp_keys set key_id = '1 ' where {key}",
        f"update whatsapp_keys set key_type = 'sender-key' where {key}",
        f"update whatsapp_keys set updated_at = updated_at + interval '1 microsecond' where {key}",
        f"update whatsapp_keys set expires_at = updated_at where {key}",
        f"delete from whatsapp_keys where {key}",
        swapped,
        "update whatsapp_auth set creds = '{\"n\": 2}' where company_id = 'acme'",
        "delete from whatsapp_auth where company_id = 'acme'",
    ):
        after = await taken(change)
        assert after.companies["acme"].digest != before.companies["acme"].digest, change
        assert after.companies["zenith"] == before.companies["zenith"], change
        assert after.digest != before.digest, change
    moved = await taken(
        f"update whatsapp_keys set company_id = 'zenith', key_id = '9' where {key}",
    )
    assert len({moved.companies[name].digest for name in moved.companies} - {before.digest}) == 2
    for harmless in ("set local timezone = 'Asia/Kolkata'", "cluster whatsapp_keys using whatsapp_keys_pkey"):
        assert await taken(harmless) == before


async def test_writers_tell_how_far_a_company_has_come(connection: Connection, taken: Taken) -> None:
    """Epoch and sequence stand beside the company's digest; the other tables are counted."""
    found = await taken(
        *ROWS, "insert into standfast_writers (company_id, epoch, sequence) values ('acme', 7, 41)"
    )
    assert (found.companies["acme"].epoch, found.companies["acme"].sequence) == (7, 41)
    assert (found.companies["zenith"].epoch, found.companies["zenith"].sequence) == (0, 0)
    assert found.tables["whatsapp_keys"] == 12
    assert found.tables["standfast_writers"] == 1
    assert found.tables["standfast_nodes"] == 0


async def test_tables_of_a_node_bot_are_read_as_they_are(bare_database_options: DatabaseOptions) -> None:
    """Text instead of jsonb, a serial id, times without a zone or none at all, in a schema of the search path; a table
    of the same name in another schema is none of ours."""
    conninfo = make_conninfo(bare_database_options.to_conninfo(), options="-c search_path=bot,public")
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        for statement in NODE_BOT:
            await connection.execute(statement.encode())
        tables = await our_tables(connection)
        assert [table.quoted for table in tables.tables] == ['"bot"."whatsapp_auth"', '"bot"."whatsapp_keys"']
        before = await take_content(connection)
        assert before.companies["acme"].keys == {"session": 1}
        await connection.execute("update bot.whatsapp_keys set value = '{ }'")
        assert (await take_content(connection)).digest != before.digest


def test_digests_of_another_method_are_not_compared() -> None:
    with pytest.raises(BackupDamaged, match="md5-1"):
        check_method("md5-1")
