"""`Uploads`: carries a node's segments to the remotes.

Invariant: a segment counts as sent once the remote gave back its checksum; what a remote does not take waits here, and
delays neither the log nor the other remotes.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from standfast.alert import AlertSink
from standfast.errors import BackupDamaged, RemoteFailed, StandfastError
from standfast.jobs.changelog import alarms
from standfast.jobs.changelog.folder import CHANGES, DROPPED, Folder, is_segment, span_of
from standfast.jobs.changelog.segment import Place
from standfast.jobs.remotes.opening import remotes_of
from standfast.jobs.remotes.remote import Remote
from standfast.settings import Settings

log = structlog.get_logger(__name__)
_LONGEST_BACKOFF_S = 300.0
_IDLE_S = 60.0


@dataclass(slots=True)
class Sending:
    """One remote. `names`: what it has, None: nobody has asked; `is_failing` None: nothing was tried yet."""

    remote: Remote
    names: set[str] | None = None
    waiting: int = 0
    sent_at: float | None = None
    is_failing: bool | None = None
    backoff_s: float = 1.0
    filled: asyncio.Event = field(default_factory=asyncio.Event)


class Uploads:
    """`run` until cancelled; `hurry` says that there is something new."""

    def __init__(self, settings: Settings, node: str, alerts: AlertSink) -> None:
        self._folder = Folder(settings.backup_directory / CHANGES / node)
        self._prefix = f"{CHANGES}/{node}/"
        self._alerts = alerts
        self._sending = [Sending(remote) for remote in remotes_of(settings)]

    def hurry(self, _place: Place | None = None) -> None:
        """There is a new segment."""
        for sending in self._sending:
            sending.filled.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for sending in self._sending:
                group.create_task(self._run(sending))

    async def _run(self, sending: Sending) -> None:
        while True:
            sending.filled.clear()
            try:
                await self.send(sending)
                self._went_well(sending)
                pause_s = _IDLE_S
            except StandfastError as error:
                self._failed(sending, error)
                pause_s = sending.backoff_s
            except Exception:
                log.exception("sending the change log failed unexpectedly", remote=sending.remote.name)
                pause_s = _LONGEST_BACKOFF_S
            await self._pause(sending, pause_s)

    async def _pause(self, sending: Sending, pause_s: float) -> None:
        if sending.is_failing:
            await asyncio.sleep(pause_s)
            return
        try:
            async with asyncio.timeout(pause_s):
                await sending.filled.wait()
        except TimeoutError:
            return

    async def send(self, sending: Sending) -> None:
        """Bring the remote up to date with the folder: what it lacks is put there; what retention has dropped here, and
        what lies in a pack by now, is deleted there after that."""
        remote = sending.remote
        if sending.names is None:
            sending.names = {one.name.removeprefix(self._prefix) for one in await remote.list(self._prefix)}
        here = [file.path for file in await asyncio.to_thread(self._folder.files)]
        missing = [path for path in here if path.name not in sending.names]
        sending.waiting = len(missing)
        for path in missing:
            await self._put(remote, path)
            sending.names.add(path.name)
            sending.waiting -= 1
            sending.sent_at = time.time()
        needless = await asyncio.to_thread(self._needless, sending.names, {path.name for path in here})
        if needless and (self._folder.path / DROPPED).exists():
            await self._put(remote, self._folder.path / DROPPED)
        for name in needless:
            await remote.delete(self._prefix + name)
            sending.names.discard(name)

    def _needless(self, there: set[str], here: set[str]) -> list[str]:
        """What the remote has of segments that retention has dropped, or that lie in a pack which it has too. Nothing
        goes because it is missing here: this disk may have been lost."""
        dropped = self._folder.dropped()
        packs = [span_of(name) for name in there & here if name.endswith(".pack")]
        found = []
        for name in there - here:
            if not is_segment(name):
                continue
            first, last, _ = span_of(name)
            if any(pack[0] <= first and last <= pack[1] for pack in packs) or dropped.covers(first, last):
                found.append(name)
        return found

    async def _put(self, remote: Remote, path: Path) -> None:
        name = self._prefix + path.name
        try:
            given = await remote.put(name, path)
        except BackupDamaged:
            if await asyncio.to_thread(path.exists):
                raise
            return  # packed meanwhile: the pack is put instead
        if await remote.read_back(name) != given:
            await remote.delete(name)
            raise RemoteFailed(
                f"the remote {remote.name} gave back another content of {name} than it was given"
            )

    def _went_well(self, sending: Sending) -> None:
        if sending.is_failing is not False:
            self._alerts.take(alarms.sent(sending.remote.name, quiet=sending.is_failing is None))
        sending.is_failing, sending.backoff_s = False, 1.0

    def _failed(self, sending: Sending, error: StandfastError) -> None:
        if not sending.is_failing:
            self._alerts.take(alarms.not_sent(sending.remote.name, error, sending.waiting))
        sending.is_failing, sending.names = True, None
        sending.backoff_s = min(2 * sending.backoff_s, _LONGEST_BACKOFF_S)

    def status(self) -> dict[str, dict[str, Any]]:
        """By the remote's name: how many segments wait, when one was sent last, whether it fails."""
        return {
            sending.remote.name: {
                "waiting": sending.waiting,
                "sent_at": sending.sent_at,
                "failing": sending.is_failing is True,
            }
            for sending in self._sending
        }
