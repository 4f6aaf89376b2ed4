"""Bad input and bad surroundings: each failure has its own exit code and next step, and leaves nothing half done."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from standfast.postgres.options import DatabaseOptions
from standfast.sessions.session import State
from tests.e2e.conftest import Line
from tests.e2e.processes import Home, Ran, make_home

EVERYTHING = """
select (select jsonb_agg(a order by company_id) from whatsapp_auth a),
       (select jsonb_agg(k order by company_id, key_type, key_id) from whatsapp_keys k),
       (select jsonb_agg(s order by company_id) from standfast_sessions s)
"""


@pytest.fixture
def home() -> Iterator[Home]:
    """An empty machine."""
    made = make_home()
    yield made
    made.clear()


@pytest.fixture
async def beside(line: Line) -> AsyncIterator[Home]:
    """A machine whose settings name a running service and its database."""
    assert line.settings.database_url is not None
    made = make_home(
        STANDFAST_STATE_DIR=str(line.settings.state_dir),
        DATABASE_URL=line.settings.database_url.get_secret_value(),
    )
    yield made
    made.clear()


def told(ran: Ran, code: int, *words: str) -> None:
    """That a command failed as it should: its last two lines are error and next step; no traceback stands before."""
    assert ran.code == code, ran
    assert ran.out == ""
    *logged, error, step = ran.err.splitlines()
    assert all(line.startswith("{") for line in logged), ran.err
    assert error.startswith("error: ")
    assert step.startswith("next: ")
    for word in words:
        assert word in ran.err


REFUSED = (
    (("pair", "bad id!"), 2, "1 to 50 letters"),
    (("start", "x" * 51), 2, "1 to 50 letters"),
    (("send", "../acme", "+79990000001", "hi"), 2, "1 to 50 letters"),
    (("stop", "nobody"), 6, "standfast pair"),
    (("logout", "nobody", "--yes"), 6, "standfast pair"),
    (("logout", "acme"), 2, "standfast logout acme --yes"),
    (("stop", "acne"), 6, "Did you mean 'acme'?"),
    (("send", "nobody", "+79990000001", "hi"), 6, "standfast pair"),
    (("send", "acme", "12", "hi"), 2, "international form"),
    (("send", "acme", "x@example.org", "hi"), 2, "s.whatsapp.net"),
    (("send", "acme", "+79990000001", ""), 2, "length >= 1"),
    (("pair", "bolt", "--phone", "nonsense"), 2, "international form"),
    (("pair", "acme"), 15, "standfast logout acme"),
)


async def test_what_a_running_service_refuses(line: Line, beside: Home, new_phone: Callable[[], str]) -> None:
    """Each with its code and next step; no other company has come into being, and the session is what it was."""
    await line.pair("acme", new_phone())
    for args, code, word in REFUSED:
        told(await beside(*args), code, word)
    assert [{row["company_id"] for row in rows} for rows in contents(line)] == [{"acme"}] * 3
    assert [session.company for session in line.service.pool.sessions() if session.wanted] == ["acme"]
    assert line.session("acme").state is State.OPEN


def contents(line: Line) -> Any:
    """Everything that the database holds."""
    assert line.settings.database_url is not None
    with psycopg.connect(line.settings.database_url.get_secret_value()) as connection:
        return connection.execute(EVERYTHING.encode()).fetchone()


async def test_a_message_to_a_session_that_is_not_open(
    line: Line, beside: Home, new_phone: Callable[[], str]
) -> None:
    """8, with what the session waits for."""
    await line.pair("acme", new_phone())
    await line.service.pool.stop("acme")
    told(await beside("send", "acme", "+79990000001", "hi"), 8, "is closed", "stopped by an operator")
    told(await beside("logout", "acme", "--yes"), 8, "is closed")


async def test_a_company_that_the_database_does_not_know(line: Line, beside: Home) -> None:
    """6 for whatever is asked of it; it is neither minted nor remembered."""
    for args in (("export", "nobody", "out"), ("start", "nobody"), ("restart", "nobody")):
        told(await beside(*args), 6, "'nobody' has no auth state", "standfast pair")
    assert not (beside.directory / "out").exists()
    assert contents(line) == (None, None, None)
    assert (await beside("sessions", "--json")).document == []


async def test_a_torn_folder_is_not_imported(line: Line, beside: Home, new_phone: Callable[[], str]) -> None:
    """13, naming the file; the database stays as it was."""
    await line.pair("acme", new_phone())
    await line.service.pool.stop("acme")
    assert (await beside("export", "acme", "folder")).code == 0
    creds = beside.directory / "folder" / "creds.json"
    creds.write_bytes(creds.read_bytes()[:500])
    before = contents(line)
    told(await beside("import", "folder", "acme", "--replace"), 13, "creds.json")
    told(await beside("import", "folder", "bolt"), 13, "creds.json")
    assert contents(line) == before


COMMANDS = (
    ("sessions",),
    ("status",),
    ("send", "acme", "+79990000001", "hi"),
    ("pair", "acme"),
    ("stop", "acme"),
)


@pytest.mark.parametrize("args", COMMANDS, ids=lambda args: args[0])
async def test_without_a_service_there_is_nobody_to_ask(home: Home, args: tuple[str, ...]) -> None:
    """9, naming the socket, and how to start the service; nothing is made."""
    told(await home(*args), 9, str(home.state.gateway_socket), "standfast up")
    assert not home.state.path.exists()


async def test_the_simulators_service_is_pointed_at(home: Home) -> None:
    """Who asks beside `up --simulator` is told where that service keeps its state."""
    process = home.start("up", "--simulator")
    await process.says("gateway:")
    refused = await home("sessions")
    told(refused, 9, "--state-dir", str(home.state.path / "simulator"))
    await process.end()


def closed_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_up_with_a_server_that_does_not_answer(home: Home) -> None:
    """It starts, says that nothing can open yet and what to do, naming the server without its password, and waits."""
    url = f"postgresql://bot:hush@127.0.0.1:{closed_port()}/wa"
    process = home.start("up", "--gateway-only", DATABASE_URL=url)
    await process.says("no session can open yet")
    await process.says("gateway:")
    assert "127.0.0.1" in process.text()
    assert "Start PostgreSQL" in process.text()
    assert "hush" not in process.text()
    assert await process.end() < 5
    assert home.remains() == []


@pytest.mark.parametrize(
    ("wrong", "word"), [({"dbname": "nowhere"}, "nowhere"), ({"password": "hush-hush"}, "password")]
)
async def test_up_with_a_server_that_refuses(
    home: Home, tcp_options: DatabaseOptions, wrong: dict[str, str], word: str
) -> None:
    """5 for a wrong database name or password, which is not repeated."""
    ran = await home("up", "--gateway-only", DATABASE_URL=make_conninfo(tcp_options.to_conninfo(), **wrong))
    told(ran, 5, word)
    assert "hush-hush" not in ran.err
    assert home.remains() == []


async def test_up_with_a_node_too_old(home: Home) -> None:
    """12, before anything is started or made."""
    old = home.directory / "node"
    old.write_text("#!/bin/sh\necho v18.20.4\n")
    old.chmod(0o755)
    told(await home("up", NODE_BINARY=str(old)), 12, "v18.20.4", "Node.js 20")
    assert not home.state.path.exists()


async def test_a_simulator_port_that_is_taken(home: Home) -> None:
    """11; nothing is left."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        ran = await home("simulator", "--port", str(taken.getsockname()[1]))
    told(ran, 11, "choose another")
    assert home.remains() == []


async def test_a_state_directory_of_somebody_else(home: Home) -> None:
    """10, with whose it is; it is left as it was."""
    theirs = Path("/usr")
    if os.geteuid() == 0:
        theirs = home.directory / "theirs"
        theirs.mkdir(0o700)
        os.chown(theirs, 12345, 12345)
    before = sorted(theirs.iterdir())
    ran = await home("--state-dir", theirs, "up", "--gateway-only")
    told(ran, 10, "belongs to another account", "STANDFAST_STATE_DIR")
    assert sorted(theirs.iterdir()) == before


async def test_a_state_directory_that_others_can_write(home: Home) -> None:
    """10, with the command that closes it."""
    home.state.path.mkdir()
    home.state.path.chmod(0o777)
    told(await home("up", "--gateway-only"), 10, f"chmod 700 {home.state.path}")
    assert list(home.state.path.iterdir()) == []
