"""`standfast drill` as a process of its own: what it measures, and that it leaves nothing behind."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from standfast.drill.plan import NAMES
from standfast.errors import DrillFailed, StateDirectoryError
from standfast.state_dir import StateDirectory
from tests.e2e.processes import Home, Process, make_home

DRILL = ("drill", "--fast", "--json", "--kinds", "refused,dns")
# What the suite's other processes leave of two cores is no measure of speed.
SLACK = 10


@pytest.fixture
def home() -> Iterator[Home]:
    made = make_home()
    yield made
    made.clear()


async def _begun(home: Home) -> Process:
    process = home.start(*DRILL, "--report", home.directory / "reports")
    await process.until(lambda: StateDirectory(home.state.path / "drill").holder(), "held by a drill")
    return process


@pytest.mark.slow
@pytest.mark.timeout(200)
async def test_a_fast_drill_holds(home: Home) -> None:
    """Every phase is gone through on real parts; nothing is lost, doubled or down; the reports say what was measured. A
    second drill is refused meanwhile, and no process is left."""
    process = await _begun(home)
    second = await home(*DRILL)
    assert (second.code, second.document["error"]["code"]) == (
        StateDirectoryError.exit_code,
        StateDirectoryError.code,
    )
    code = await process.ended(timeout_s=180)
    record = json.loads((home.directory / "reports" / f"drill-{_id(home)}.json").read_text())
    failed = [row for row in record["acceptance"] if row["status"] != "pass"]
    assert not failed
    assert [phase["why"] for phase in record["phases"]] == [""] * len(NAMES)
    assert not [row for row in record["performance"] if row["value"] > SLACK * row["limit"]]
    slow = [row for row in record["performance"] if row["status"] == "fail"]
    assert code == (DrillFailed.exit_code if slow else 0)
    assert record["messages_sent"] > 40
    assert record["messages_lost"] == 0
    assert record["rto_s"] > 0.2
    assert record["to_files_s"] > 0.1
    assert record["to_postgres_s"] > 0.1
    assert record["scaled"]["CREDENTIALS_CACHE_TTL_MS"][0] == 300
    assert {"dns", "refused"} == {one["text"] for one in record["moments"] if one["kind"] == "outage"}
    assert len(list((home.directory / "reports").glob("drill-*"))) == 3
    assert list((home.state.path / "drill").iterdir()) == [home.state.path / "drill" / "node.lock"]
    await home.no_process_remains()


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.chaos), signal.SIGKILL])
async def test_a_drill_that_is_ended_leaves_nothing_running(home: Home, number: signal.Signals) -> None:
    """Ctrl-C ends it with 130, its logs kept; also after SIGKILL PostgreSQL, simulator, service and Node are gone."""
    process = await _begun(home)
    parts = home.state.path / "drill" / "p"
    await process.until((parts / "f" / "gateway.sock").exists, "started a service")
    await process.end(number)
    assert process.popen.returncode == (130 if number is signal.SIGINT else -signal.SIGKILL)
    await home.no_process_remains(timeout_s=15)
    if number is signal.SIGINT:
        assert list((home.directory / "reports").glob("first.log"))
        assert not parts.exists()


def _id(home: Home) -> str:
    return next((home.state.path / "drills").glob("*.json")).stem
