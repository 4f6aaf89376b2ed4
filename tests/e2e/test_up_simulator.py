"""`standfast up --simulator` as a newcomer meets it: a process that starts everything and takes it away again."""

from __future__ import annotations

import re
import shutil
import signal
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.e2e.processes import END_TIMEOUT_S, Home, Process, Terminal, make_home, plain
from tests.support import apart

COMPANIES = ("demo-alpha", "demo-bravo")
START_TIMEOUT_S = 45.0
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@dataclass
class FirstStart:
    """What was seen of the first start on an empty machine, in a terminal, ended by Ctrl-C."""

    home: Home
    screen: list[str]
    said: str
    code: int
    end_s: float
    remains: list[str]


@pytest.fixture(scope="module")
def first_start() -> Iterator[FirstStart]:
    home = make_home()
    try:
        yield apart(_first_start(home))
    finally:
        home.clear()


async def _first_start(home: Home) -> FirstStart:
    async with home.terminal("up", "--simulator", columns=120, lines=40) as terminal:
        await terminal.until(lambda: is_chatting(terminal), "both chat", START_TIMEOUT_S)
        screen, began = terminal.screen(), time.monotonic()
        terminal.type(b"\x03")
        code = await terminal.ended()
        end_s = time.monotonic() - began
        return FirstStart(home, screen, terminal.text(), code, end_s, home.remains())


def is_chatting(terminal: Terminal) -> bool:
    """Whether the picture shows both companies open, each with a message in and one out."""
    rows = [line.split() for line in terminal.screen() if line.strip().startswith(COMPANIES)]
    counts = [row[row.index("s") + 1 :][:2] for row in rows if "open" in row and "s" in row]
    return len(counts) >= 2 and all(count not in ("0", "") for pair in counts[:2] for count in pair)


@pytest.fixture
async def home() -> AsyncIterator[Home]:
    """An empty machine."""
    made = make_home()
    yield made
    made.clear()


@pytest.fixture
def paired(home: Home, first_start: FirstStart) -> Home:
    """A machine on which the demo has been paired before."""
    shutil.copytree(first_start.home.state.path, home.state.path)
    return home


async def test_a_newcomer_sees_two_companies_pair_and_chat(first_start: FirstStart) -> None:
    """The live view shows both sessions, the traffic, the database, and where everything lies."""
    shown = "\n".join(first_start.screen)
    state = first_start.home.state.path / "simulator"
    for fact in ("simulator", "● open", "messages", "● online", "PostgreSQL 18", "latest messages", "Ctrl-C"):
        assert fact in shown
    assert re.search(rf"state +{state}\s", shown)
    assert re.search(rf"gateway +{state}/gateway.sock\s", shown)
    assert "linked_devices" not in first_start.said


async def test_ctrl_c_ends_everything_and_gives_the_terminal_back(first_start: FirstStart) -> None:
    """Exit code 0 within 5 s; the cursor and the former screen are back; no process, socket or lock is left."""
    assert (first_start.code, first_start.remains) == (0, [])
    assert first_start.end_s < END_TIMEOUT_S
    assert first_start.said.rindex("\x1b[?1049l") > first_start.said.rindex("\x1b[?1049h")
    assert first_start.said.rindex("\x1b[?25h") > first_start.said.rindex("\x1b[?25l")
    log = first_start.home.state.path / "simulator" / "standfast.log"
    last = plain(first_start.said)[-2]
    assert re.fullmatch(rf"Ended after \d+ s. Log: {log}", last)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


async def open_without_terminal(home: Home) -> Process:
    process = home.start("up", "--simulator")
    for company in COMPANIES:
        await process.says(f"{company}: open", START_TIMEOUT_S)
    return process


async def status(home: Home) -> Any:
    return (await home("--state-dir", home.state.path / "simulator", "status", "--json")).document


async def test_the_second_start_needs_no_pairing(paired: Home) -> None:
    """Both sessions are open within seconds from what PostgreSQL holds, and SIGTERM ends it all with 0."""
    process = await open_without_terminal(paired)
    told = await status(paired)
    assert [session["state"] for session in told["sessions"]] == ["open", "open"]
    assert all(session["since_s"] >= 0 and session["generation"] == 1 for session in told["sessions"])
    assert told["uptime_s"] < 15
    async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
        stats = (await http.get(f"{told['simulator']}/stats")).json()
    assert (stats["pairings"], stats["logins"]) == (0, 2)
    assert "paired" not in process.text()
    assert await process.end() < END_TIMEOUT_S
    assert process.popen.returncode == 0, process.text()
    assert paired.remains() == []


async def test_a_killed_service_takes_its_children_along(paired: Home) -> None:
    """After SIGKILL host, simulator and PostgreSQL end by themselves within 5 s, and the next start works."""
    process = await open_without_terminal(paired)
    assert len(paired.remains()) > 4
    await process.end(signal.SIGKILL)
    await paired.no_process_remains()
    again = await open_without_terminal(paired)
    assert await again.end(signal.SIGINT) < END_TIMEOUT_S
    assert again.popen.returncode == 0
    assert paired.remains() == []


async def test_a_second_service_on_one_state_directory_is_refused(paired: Home) -> None:
    """10, naming the holder; the one that runs is none the worse for it."""
    process = await open_without_terminal(paired)
    refused = await paired("up", "--simulator")
    assert refused.code == 10
    assert f"in use by pid {process.pid}" in refused.err
    assert "next: Stop that process" in refused.err
    assert [session["state"] for session in (await status(paired))["sessions"]] == ["open", "open"]
    assert await process.end() < END_TIMEOUT_S


def database_is_being_made(home: Home) -> bool:
    return any((home.state.path / "simulator").glob("postgres*/PG_VERSION"))


MOMENTS: dict[str, Callable[[Home], bool]] = {
    "directory held": lambda home: (home.state.path / "simulator" / "node.lock").exists(),
    "database being made": database_is_being_made,
    "gateway listening": lambda home: (home.state.path / "simulator" / "gateway.sock").exists(),
}


@pytest.mark.parametrize(
    ("moment", "number"),
    [*((moment, signal.SIGTERM) for moment in MOMENTS), ("database being made", signal.SIGINT)],
)
async def test_a_start_can_be_broken_off_at_any_moment(
    home: Home, moment: str, number: signal.Signals
) -> None:
    """Within 5 s nothing is left of it, and no traceback is shown."""
    process = home.start("up", "--simulator")
    await process.until(lambda: MOMENTS[moment](home), moment)
    assert await process.end(number) < END_TIMEOUT_S
    assert "Traceback" not in process.text()
    assert process.popen.returncode == 0, process.text()
    assert home.remains() == []


async def test_simulator_and_gateway_only_exclude_each_other(home: Home) -> None:
    """2, and nothing is made."""
    refused = await home("up", "--simulator", "--gateway-only")
    assert refused.code == 2
    assert "next: Give one of them." in refused.err
    assert not home.state.path.exists()
