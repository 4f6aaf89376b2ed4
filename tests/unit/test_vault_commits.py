"""How writes share commits: by turns of the event loop, in order, and all that wait share a failure."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from standfast.vault.storage import commits, schema
from standfast.vault.storage.commits import Commits


class Refused(Exception):
    """What a writer gets."""


class Lane:
    """`Commits` on a real file; `statements` are those that began or ended a transaction."""

    def __init__(self, file: Path) -> None:
        self.connection = schema.connect(file)
        schema.create_tables(self.connection)
        self.statements: list[str] = []
        self.connection.set_trace_callback(self._note)
        self.told: list[int] = []
        self.commits = Commits(self.connection, lambda _idle: None, Refused, lambda _size: False)

    def _note(self, statement: str) -> None:
        if statement.startswith(("begin", "commit", "rollback")):
            self.statements.append(statement)

    def append(self, number: int) -> asyncio.Future[None]:
        return self.commits.append((None, 1, number, number, 0.0, 1, b"x"), lambda: self.told.append(number))

    def rows(self) -> list[int]:
        return [first for (first,) in self.connection.execute("select first from journal order by position")]


@pytest.fixture
async def lane(tmp_path: Path) -> AsyncIterator[Lane]:
    lane = Lane(tmp_path / "vault.db")
    yield lane
    await lane.commits.close()
    lane.connection.close()


async def _writer(lane: Lane, numbers: range) -> None:
    for number in numbers:
        await lane.append(number)


@pytest.mark.parametrize("slow_s", [1e9, -1.0], ids=["on the loop", "in a thread"])
async def test_writes_of_one_turn_share_a_commit(
    lane: Lane, monkeypatch: pytest.MonkeyPatch, slow_s: float
) -> None:
    """Ten writers, five writes each: five commits; each is told in the order in which it asked."""
    monkeypatch.setattr(commits, "SLOW_S", slow_s)
    await asyncio.gather(*(_writer(lane, range(begin, 50, 10)) for begin in range(10)))
    assert lane.statements == ["begin immediate", "commit"] * 5
    assert lane.told == lane.rows() == list(range(50))


async def test_what_arrives_during_a_commit_shares_the_next(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a thread commits, the loop goes on and gathers."""
    monkeypatch.setattr(commits, "SLOW_S", -1.0)
    waiting = [lane.append(0)]
    await asyncio.sleep(0)
    assert not lane.commits.is_idle
    for number in range(1, 8):
        waiting.append(lane.append(number))
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert lane.rows() == list(range(8))
    assert len(lane.statements) < 2 * 8


async def test_all_that_wait_behind_a_failed_commit_fail(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no later write stands without an earlier one; the next that is asked for is taken."""
    monkeypatch.setattr(commits, "SLOW_S", -1.0)
    lane.connection.execute(
        "create temp trigger full before insert on journal when new.first = 1 begin select raise(abort, 'full'); end"
    )
    first = lane.append(1)
    await asyncio.sleep(0)
    behind = lane.append(2)
    lane_is_busy = not lane.commits.is_idle
    results = await asyncio.gather(first, behind, return_exceptions=True)
    assert lane_is_busy
    assert [type(result) for result in results] == [Refused, Refused]
    lane.connection.execute("drop trigger full")
    await lane.append(3)
    assert (lane.rows(), lane.told) == ([3], [3])


async def test_a_step_that_raises_is_undone_alone(lane: Lane) -> None:
    """What shares its commit stands."""

    def step(connection: sqlite3.Connection) -> None:
        connection.execute("delete from journal")
        raise ValueError("not this one")

    before = lane.append(1)
    failing = lane.commits.run(step)
    counting = lane.commits.run(lambda c: c.execute("select count(*) from journal").fetchone()[0])
    with pytest.raises(ValueError, match="not this one"):
        await failing
    await before
    assert await counting == 1
    assert lane.rows() == [1]


async def test_a_patient_step_shares_the_commit_of_what_cannot_wait(lane: Lane) -> None:
    """It goes first, being asked for first; alone it is written once its patience is over, or at the end."""
    order: list[str] = []
    waiting = lane.commits.run(lambda _: order.append("patient"), patience_s=60.0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert lane.statements == []
    await lane.commits.run(lambda _: order.append("at once"))
    assert (order, waiting.done()) == (["patient", "at once"], True)
    assert lane.statements == ["begin immediate", "commit"]
    async with asyncio.timeout(5.0):
        await lane.commits.run(lambda _: None, patience_s=0.001)
    last = lane.commits.run(lambda _: None, patience_s=60.0)
    await lane.commits.close()
    assert last.done()


async def test_a_slow_disk_is_left_to_a_thread_until_it_is_quick_again(lane: Lane) -> None:
    """One stall is not enough; several are."""
    used: list[bool] = []
    for seconds in (0.0, commits._STALL_S):
        lane.commits.seconds = seconds
        written = lane.append(len(used))
        await asyncio.sleep(0)
        used.append(not lane.commits.is_idle)
        await written
    assert used == [False, True]
