"""Databases that hold what companies in production hold: creds, and 1,650 keys of the usual types and sizes.

Invariant: values are as hard to compress as real ones (base64 of bytes that look random); creds and pre-keys are real,
made by Baileys, the same pre-key coming again only beyond what a compressor looks back to.
"""

from __future__ import annotations

import json
from dataclasses import replace

import psycopg

from benchmarks.bench import Bench
from benchmarks.programs import Program
from standfast.postgres.migrations import migrate
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database

COMPANIES = 1000
KEYS = 1650

_BUFFER = '{"type": "Buffer", "data": "\' || encode(sha256((n || \'%s\')::bytea), \'base64\') || \'"}'
_PAIR = f'\'{{"public": {_BUFFER % "public"}, "private": {_BUFFER % "private"}}}\''
# A session is a tree of chains; a sender key a list of states: what matters here is how much base64 is in them.
_CHAINS = """'{"version": "v1", "_sessions": {' || (
    select string_agg('"' || encode(sha256((n || 'chain' || i)::bytea), 'base64') || '": {"chainKey": {"counter": '
        || i || ', "key": "' || encode(sha256((n || 'key' || i)::bytea), 'base64')
        || '"}, "chainType": 2, "messageKeys": {}}', ', ')
    from generate_series(1, 7) i) || '}}'"""
_STATES = """'{"type": "Buffer", "data": "' || (
    select string_agg(encode(sha256((n || 'state' || i)::bytea), 'base64'), '') from generate_series(1, 8) i) || '"}'"""
_TYPES = {  # how many of a company's keys, and their value
    "pre-key": (812, "(select value from made_pre_keys where number = (c * 812 + i) % 20000)"),
    "session": (288, _CHAINS),
    "sender-key": (150, _STATES),
    "sender-key-memory": (
        50,
        "'{\"' || (10000000000 + n) || '.0\": true, \"' || (20000000000 + n) || '.0\": true}'",
    ),
    "tctoken": (100, f'\'{{"token": {_BUFFER % "token"}, "timestamp": "1790000000"}}\''),
    "device-list": (90, '\'["0", "1", "2"]\''),
    "lid-mapping": (140, "'\"' || (100000000000000 + n) || '\"'"),
    "identity-key": (19, f"'{_BUFFER % 'identity'}'"),
    "app-state-sync-key": (1, _PAIR),
}
_INSERT = """
insert into whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at)
select 'stored-' || c, $2, n::text, ({value})::jsonb, now() - interval '100 days',
       now() - (c * 7 + i) % 90 * interval '1 day'
from generate_series(0, $1::int - 1) c, generate_series(1, $3::int) i, lateral (select c * 10000 + i n) _
"""
_PRE_KEYS_MADE = 20_000
_PRE_KEYS = """
create unlogged table made_pre_keys as
select number - 1 number, value::text from unnest($1::text[]) with ordinality _ (value, number)
"""
_CREDS = "insert into whatsapp_auth (company_id, creds) select * from unnest($1::text[], $2::jsonb[])"


async def stored(bench: Bench, name: str, companies: int) -> DatabaseOptions:
    """A new database of that name with so many companies, vacuumed."""
    server = bench.server.options
    async with await _connect(server) as connection:
        await connection.execute(f"create database {name}".encode())
    options = replace(server, dbname=name)
    async with Database(options) as database:
        await migrate(database)
    async with await _connect(options) as connection:
        await connection.execute("set statement_timeout = 0")
        made = await _made(bench, companies)
        await connection.execute(_CREDS, [[f"stored-{number}" for number in range(companies)], made["creds"]])
        await connection.execute(_PRE_KEYS, [made["preKeys"]])
        await connection.execute("alter table made_pre_keys add primary key (number)")
        for key_type, (count, value) in _TYPES.items():
            await connection.execute(_INSERT.format(value=value).encode(), [companies, key_type, count])
        await connection.execute("drop table made_pre_keys")
        await connection.execute("vacuum analyze")
    return options


async def _made(bench: Bench, companies: int) -> dict[str, list[str]]:
    file = bench.directory / "made.json"
    options = {"file": str(file), "companies": companies, "preKeys": _PRE_KEYS_MADE}
    async with Program.node("creds.mjs", options) as program:
        await program.told()
    made: dict[str, list[str]] = json.loads(file.read_bytes())
    file.unlink()
    return made


async def _connect(options: DatabaseOptions) -> psycopg.AsyncConnection[tuple[object, ...]]:
    return await psycopg.AsyncConnection.connect(
        options.to_conninfo(), autocommit=True, cursor_factory=psycopg.AsyncRawCursor
    )
