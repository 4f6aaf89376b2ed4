"""`standfast health` as people and monitoring call it: with a service, without one, and with one that hangs."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import termios
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # comes with schemathesis
import pytest

from standfast.health.verdict import EXIT_CODES
from standfast.vault.outage import State as OutageState
from tests.e2e.conftest import DistantProxy, Line, until
from tests.e2e.processes import Home, make_home

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "health.schema.json").read_text())
HEAVY = {"pydantic", "psycopg", "structlog", "phonenumbers"}
LIMIT_S = 3.0


@pytest.fixture
async def home(proxied_line: Line) -> AsyncIterator[Home]:
    """A person's machine whose settings are those of the running service."""
    dsn = proxied_line.settings.database_url
    assert dsn is not None
    home = make_home(
        STANDFAST_STATE_DIR=str(proxied_line.settings.state_dir), DATABASE_URL=dsn.get_secret_value()
    )
    yield home
    home.clear()


@pytest.fixture
async def alone() -> AsyncIterator[Home]:
    """A machine on which nothing runs."""
    home = make_home()
    yield home
    home.clear()


async def test_with_a_service_without_one_and_without_postgresql(
    proxied_line: Line, proxy: DistantProxy, home: Home
) -> None:
    """The service's own picture, with PostgreSQL gone too; without it what is seen from outside, from the vault too,
    and the same within three seconds where PostgreSQL answers nothing. The exit code is always that of the verdict."""
    answer = await home("health", "--json")
    jsonschema.validate(answer.document, SCHEMA)
    assert answer.document["measured_by"] == "service"
    assert answer.code == EXIT_CODES[answer.document["verdict"]]
    sessions, machine = answer.document["sessions"], answer.document["machine"]
    assert sessions["hosts_ready"] == sessions["hosts"] == 1
    assert [disk["what"] for disk in machine["disks"]] == ["state"]
    assert abs(answer.document["database"]["clock_offset_s"]) < 1
    assert answer.document["backups"]["state"] == "none"
    shown = await home("health")
    assert shown.code == answer.code
    assert "standfast 0" in shown.out
    assert "\x1b" not in shown.out

    await proxy.close()
    vault = proxied_line.service.vault
    await until(lambda: vault.outage.state is OutageState.OUTAGE, "an outage")
    began = time.monotonic()
    shown = await home("health")
    assert time.monotonic() - began < LIMIT_S
    assert shown.code == 2
    assert "PostgreSQL has been away for" in shown.out

    await proxy.listen()
    await proxied_line.stop()
    answer = await home("health", "--json")
    jsonschema.validate(answer.document, SCHEMA)
    assert (answer.code, answer.document["measured_by"]) == (2, "command")
    assert answer.document["findings"][0]["code"] == "service_down"
    assert answer.document["database"]["state"] == "online"
    assert answer.document["vault"]["state"] == "closed"
    assert answer.document["queries"]["count"] > 1

    proxy.flowing.clear()
    began = time.monotonic()
    shown = await home("health")
    assert time.monotonic() - began < LIMIT_S
    assert shown.code == 2
    assert "does not answer" in shown.out
    assert "PostgreSQL has every write" in shown.out, "what the vault says"


async def test_a_running_service_is_asked_without_loading_what_it_takes_to_look(
    proxied_line: Line, home: Home
) -> None:
    """That is why the answer is there within 300 ms."""
    script = (
        "import sys\nfrom standfast.cli.main import main\nmain(['health'])\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    errors = home.directory / "errors"
    process = home.run([sys.executable, "-c", script], {}, errors=errors)
    await process.ended()
    assert errors.read_text() == "[]\n"


async def test_watch_follows_and_gives_the_terminal_back(proxied_line: Line, home: Home) -> None:
    """It goes on while the service is away and says so, says when it is back, and q ends it."""
    async with home.terminal("health", "--watch", "--interval", "1", columns=100, lines=40) as terminal:
        await terminal.until(lambda: "standfast 0" in terminal.text(), "drawn")
        assert not termios.tcgetattr(terminal._master)[3] & termios.ICANON
        await proxied_line.stop()
        await terminal.says("has not answered for")
        await terminal.says("no service runs")
        await proxied_line.start()
        await terminal.says("The service is back.")
        terminal.type(b"q")
        assert await terminal.ended() == 0
        assert termios.tcgetattr(terminal._master)[3] & termios.ICANON
        assert terminal.text().rindex("\x1b[?1049l") > terminal.text().rindex("\x1b[?1049h")


async def test_a_service_that_hangs_is_told_from_one_that_is_not_there(alone: Home) -> None:
    """One listens and answers nothing: said within three seconds, critical, with the process to look at."""
    shown = await alone("health")
    assert (shown.code, "no service has run in" in " ".join(shown.out.split())) == (1, True)
    assert not alone.state.path.exists(), "looking makes nothing"
    alone.state.acquire("service")
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(asyncio.Protocol, alone.state.gateway_socket)
    try:
        began = time.monotonic()
        answer = await alone("health", "--json")
        assert time.monotonic() - began < LIMIT_S
    finally:
        server.close()
        alone.state.release()
    worst = answer.document["findings"][0]
    assert (answer.code, worst["code"], worst["level"]) == (2, "service_hangs", "critical")
    assert f"pid {os.getpid()}" in worst["message"]
    assert "kill " in worst["recommendation"]


@pytest.mark.parametrize(
    ("args", "environment", "told"),
    [
        (["--nope"], {}, "No such option"),
        (["--watch", "--interval", "0"], {}, "greater than or equal to 1"),
        (["--interval", "5"], {}, "only with --watch"),
        (["--watch"], {}, "Add --json"),
        ([], {"POSTGRES_PORT": "x"}, "POSTGRES_PORT"),
    ],
    ids=["option", "interval", "interval alone", "no terminal", "settings"],
)
async def test_a_failure_of_its_own_is_unknown_to_monitoring(
    args: list[str], environment: dict[str, Any], told: str, alone: Home
) -> None:
    """Never mistaken for a verdict: 3, with the error on stderr, or as JSON."""
    shown = await alone("health", *args, **environment)
    assert (shown.code, shown.out) == (3, "")
    assert told in shown.err
    if "Add --json" not in told:
        as_json = await alone("health", "--json", *args, **environment)
        assert as_json.code == 3
        assert "error" in as_json.document


async def test_watch_as_json_is_a_document_a_line(alone: Home) -> None:
    """One at each interval, each complete."""
    process = alone.start("health", "--watch", "--json", "--interval", "1")
    await process.until(lambda: process.text().count("\n") >= 2, "two documents")
    await process.end()
    for line in process.text().splitlines()[:2]:
        jsonschema.validate(json.loads(line), SCHEMA)
