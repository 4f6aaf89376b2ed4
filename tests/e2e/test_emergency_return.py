"""Real sessions that chat while their node stands on files and goes back."""

from __future__ import annotations

import asyncio
import itertools
import time

from standfast.jobs.emergency.mode import FORMAT, Mode, Placed
from standfast.postgres.options import DatabaseOptions
from standfast.sessions.session import State
from tests.e2e.conftest import Line, shares_loop, until
from tests.integration.restoring import lose
from tests.integration.returns import returned


async def stand_on_files(line: Line) -> None:
    records = line.service.vault.replica.companies()
    placed = {
        str(record.company): Placed("replica", record.epoch, record.sequence, record.company)
        for record in records
    }
    root = line.settings.state_dir / "emergency"
    root.mkdir(mode=0o700)
    await line.service.files.enter(Mode(FORMAT, "e1", "files", time.time(), str(root), placed))


class Chat:
    """Acme and bolt write to each other all the time."""

    def __init__(self, line: Line, what: str) -> None:
        self._line = line
        self._what = what
        self.sent: dict[str, list[str]] = {"acme": [], "bolt": []}
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        for count in itertools.count():
            for sender, receiver in (("acme", "bolt"), ("bolt", "acme")):
                text = f"{self._what} {count} to {receiver}"
                await self._line.send(sender, receiver, text)
                self.sent[receiver].append(text)

    async def goes_on(self, count: int = 3) -> None:
        goal = len(self.sent["acme"]) + count
        await until(lambda: len(self.sent["acme"]) >= goal or self._task.done(), "the chat goes on")
        assert not self._task.done(), self._task.exception()

    async def end(self) -> None:
        """Everything has come, once, and readable at first sight."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for receiver, texts in self.sent.items():
            await self._line.received(receiver, texts)
            came = self._line.texts(receiver)
            assert len(came) == len(set(came))


@shares_loop
async def test_a_chat_through_files_and_back_loses_nothing(
    shared_pair: Line, module_database: DatabaseOptions
) -> None:
    """Not a message is lost, doubled or asked for again, though the database is lost meanwhile; both sessions stay
    open and are heard; what PostgreSQL then has is what a restart goes on with."""
    line = shared_pair
    retries = await line.retries()
    generations = [line.session(one).generation for one in ("acme", "bolt")]
    chat = Chat(line, "through files")
    await chat.goes_on()
    await stand_on_files(line)
    await chat.goes_on()
    lose(module_database)
    report = await returned(line.settings)
    assert report.ok
    assert {one.session for one in report.companies} == {"open"}
    await chat.goes_on()
    await chat.end()
    assert [line.session(one).generation for one in ("acme", "bolt")] == generations
    await line.restart()
    for company in ("acme", "bolt"):
        await line.state(company, State.OPEN)
    again = Chat(line, "after a restart")
    await again.goes_on()
    await again.end()
    assert await line.retries() == retries
