"""A database that Node bots have filled by SQL of their own is taken over as it is: nobody pairs anew."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from standfast.postgres.options import DatabaseOptions
from standfast.service.service import ServiceOptions
from standfast.service.simulator import Simulator
from standfast.sessions.session import State
from standfast.settings import Settings
from tests.e2e.bot import Bot
from tests.e2e.conftest import QUICK, Line
from tests.e2e.processes import Home, make_home

# As bots in the wild make them: documents as text, or as jsonb beside columns of their own.
TEXT_TABLES = """
create table whatsapp_auth (company_id varchar(50) primary key, creds text not null);
create table whatsapp_keys (company_id varchar(50) not null, key_type varchar(50) not null,
    key_id varchar(255) not null, value text not null, primary key (company_id, key_type, key_id));
"""
JSONB_TABLES = """
create table whatsapp_auth (id serial primary key, company_id text not null unique, creds jsonb,
    created_at timestamp default now(), updated_at timestamp default now());
create table whatsapp_keys (id serial primary key, company_id text, key_type text, key_id text, value jsonb,
    created_at timestamp default now(), updated_at timestamp default now(), unique (company_id, key_type, key_id));
"""


@pytest.fixture
def home(bare_database_options: DatabaseOptions) -> Iterator[Home]:
    """A machine whose settings name a database that Standfast has never seen."""
    made = make_home(DATABASE_URL=bare_database_options.to_conninfo())
    yield made
    made.clear()


@pytest.fixture
async def adopting(
    home: Home, simulator: Simulator, bare_database_options: DatabaseOptions
) -> AsyncIterator[Line]:
    """A service for that database, not yet started."""
    conninfo = SecretStr(bare_database_options.to_conninfo())
    settings = Settings(state_dir=home.state.path, database_url=conninfo, http="off")
    options = ServiceOptions(host_environment=simulator.host_environment(), backoff=QUICK)
    line = Line(settings, simulator, options)
    yield line
    if hasattr(line, "service"):
        await line.stop()


def as_numbers(value: Any) -> Any:
    """A document with its Buffers as older stores wrote them: arrays of numbers instead of base64."""
    if isinstance(value, list):
        return [as_numbers(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == "Buffer":
        return {"type": "Buffer", "data": list(b64decode(value["data"]))}
    return {name: as_numbers(item) for name, item in value.items()}


def fill(options: DatabaseOptions, tables: str, state: dict[str, Any]) -> None:
    """Store a bot's auth state as company `acme`, as its own SQL would."""
    add_creds = sql.SQL("insert into whatsapp_auth (company_id, creds) values ('acme', %s)")
    add_key = sql.SQL(
        "insert into whatsapp_keys (company_id, key_type, key_id, value) values ('acme', %s, %s, %s)"
    )
    rows = [
        (kind, key, json.dumps(value)) for kind, keys in state["keys"].items() for key, value in keys.items()
    ]
    with psycopg.connect(options.to_conninfo()) as connection:
        connection.execute(tables.encode())
        connection.execute(add_creds, [json.dumps(state["creds"])])
        connection.cursor().executemany(add_key, rows)


@pytest.mark.parametrize(
    ("tables", "encode"),
    [(TEXT_TABLES, lambda state: state), (JSONB_TABLES, as_numbers)],
    ids=["base64 in text", "numbers in jsonb"],
)
async def test_a_bots_database_is_adopted(
    home: Home,
    adopting: Line,
    simulator: Simulator,
    bare_database_options: DatabaseOptions,
    new_phone: Callable[[], str],
    tables: str,
    encode: Callable[[Any], Any],
) -> None:
    """After `migrate` and `start` the company logs in without pairing, reads what was sent meanwhile, and answers."""
    bot = Bot(home, simulator, "memory")
    await bot.pair(phone := new_phone())
    contact = new_phone()
    await simulator.ask("POST", "/contacts", {"phone": contact, "behaviour": "echo"})
    await bot.send(contact, "before")
    await bot.received("echo: before")
    state = await bot.dump(home.directory / "state.json")
    await bot.end()
    fill(bare_database_options, tables, encode(state))
    await simulator.ask("POST", f"/contacts/{contact}/send", {"to": phone, "text": "while you were out"})

    migrated = await home("migrate")
    assert migrated.code == 0, migrated.err
    await adopting.start()
    started = await home("start", "acme")
    assert started.code == 0, started.err
    await adopting.state("acme", State.OPEN)
    await adopting.received("acme", ["while you were out"])
    assert (await home("send", "acme", f"+{contact}", "after")).code == 0
    await adopting.received("acme", ["echo: after"])
    assert (await simulator.ask("GET", "/stats"))["pairings"] == 2
    assert not any(event.kind == "qr" for event in adopting.heard)


async def test_adoption_drops_nothing_that_the_bot_stored(
    home: Home, simulator: Simulator, bare_database_options: DatabaseOptions, new_phone: Callable[[], str]
) -> None:
    """`migrate` leaves every row as it was, and a second one finds nothing to do."""
    bot = Bot(home, simulator, "memory")
    await bot.pair(new_phone())
    state = as_numbers(await bot.dump(home.directory / "state.json"))
    await bot.end()
    fill(bare_database_options, JSONB_TABLES, state)
    assert (await home("migrate")).code == 0
    assert (await home("migrate", "--json")).document["steps"] == []
    stored = "select jsonb_object_agg(key_type || '/' || key_id, value) from whatsapp_keys"
    with psycopg.connect(bare_database_options.to_conninfo()) as connection:
        row = connection.execute(stored.encode()).fetchone()
        creds = connection.execute(b"select creds from whatsapp_auth").fetchone()
    flat = {f"{kind}/{key}": value for kind, keys in state["keys"].items() for key, value in keys.items()}
    assert (row, creds) == ((flat,), (state["creds"],))
    assert len(flat) > 800
