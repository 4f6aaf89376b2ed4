"""A chat that goes on while its node stands on files and goes back."""

from __future__ import annotations

import asyncio
import itertools

from standfast.alert import LoggedAlerts
from standfast.errors import SessionNotOpen
from standfast.jobs.emergency.folders import new_switch
from standfast.jobs.emergency.to_files import FilesReport, ToFiles, Wanted
from standfast.jobs.progress import Silent
from standfast.service.to_files import files_node
from tests.e2e.conftest import Line, until


async def stand_on_files(line: Line) -> FilesReport:
    """By what `standfast emergency to-files` does."""
    async with files_node(line.settings, LoggedAlerts()) as (node, is_service):
        wanted = Wanted(str(line.settings.emergency_directory))
        job = ToFiles(node, wanted, Silent(), new_switch, is_service=is_service)
        return await job.run(await job.look())


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
                await self._send(sender, receiver, f"{self._what} {count} to {receiver}")

    async def _send(self, sender: str, receiver: str, text: str) -> None:
        try:
            await self._line.send(sender, receiver, text)
        except SessionNotOpen:
            await asyncio.sleep(0.05)  # it is being connected anew: refused before anything left
        else:
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
