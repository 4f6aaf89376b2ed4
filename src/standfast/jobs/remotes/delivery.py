"""What is done for one remote in one run.

Invariant: whatever fails ends up in the report, in the backups' records and as an alert; only cancellation gets out.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

import structlog

from standfast.alert import AlertSink
from standfast.errors import BackupDamaged, RemoteFailed, StandfastError
from standfast.jobs.backup.aside import on_disk
from standfast.jobs.backup.catalogue import Backup, Catalogue
from standfast.jobs.backup.manifest import MANIFEST, Manifest, Upload
from standfast.jobs.backup.rotation import Dated, keep
from standfast.jobs.progress import Progress
from standfast.jobs.remotes import alarms
from standfast.jobs.remotes.remote import Checked, Remote
from standfast.jobs.remotes.report import Sent
from standfast.jobs.remotes.shelf import PREFIX, Held, Shelf, content_name, look, manifest_name
from standfast.settings import Settings

log = structlog.get_logger(__name__)
LEFT_OVER_S = 86_400.0
_FIRST_S, _LONGEST_S, _DOUBLINGS = 60.0, 3_600.0, 6


def backoff_s(attempts: int) -> float:
    """How long a remote is left alone after so many failures in a row: a minute, doubled each time, at most an hour."""
    return min(_FIRST_S * 2.0 ** min(attempts - 1, _DOUBLINGS), _LONGEST_S)


class Notes:
    """What the records say of uploads. A record that cannot be written costs a second look, and no more."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._one_at_a_time = asyncio.Lock()

    async def change(self, name: str, remote: str, change: Callable[[Upload], Upload]) -> None:
        """Replace what is known of that backup in that remote."""

        def replaced() -> None:
            record = self._catalogue.get(name).record
            record.uploads[remote] = change(record.uploads.get(remote, Upload()))
            self._catalogue.record(name, record)

        async with self._one_at_a_time:
            try:
                await on_disk(replaced)
            except StandfastError as error:
                log.warning(
                    "what was sent could not be noted", backup=name, remote=remote, reason=error.message
                )


class Delivery:
    """`backups`: the good ones of this machine that may be sent, newest first."""

    def __init__(
        self,
        settings: Settings,
        remote: Remote,
        backups: Sequence[Backup],
        notes: Notes,
        alerts: AlertSink,
        progress: Progress,
    ) -> None:
        address = remote.address
        self._remote = remote
        self._backups = backups
        self._notes = notes
        self._alerts = alerts
        self._progress = progress
        self._keeps = (
            address.keep_daily or settings.backup_keep_daily,
            address.keep_monthly or settings.backup_keep_monthly,
        )
        self._shelf = Shelf({}, {}, {})
        self._to_send: list[Backup] = []
        self.report = Sent(remote.name, address.shown)

    @property
    def bytes_to_send(self) -> int:
        return sum(one.manifest.content.bytes for one in self._to_send if one.manifest)

    async def prepare(self, *, at_once: bool) -> None:
        """Look what it lacks."""
        next_try_at = self._next_try_at()
        if next_try_at > time.time() and not at_once:
            self.report.next_try_at = next_try_at
            self.report.waiting = self._waiting()
            return
        async with self._failing():
            self._shelf = await look(self._remote)
            self.report.held = len(self._shelf.held)
            self._to_send = self._lacking()
            await self._note_what_is_there()

    async def carry_out(self) -> None:
        """Send it, then remove what is kept no longer."""
        if self.report.error is not None or self.report.next_try_at is not None:
            return
        async with self._failing():
            for backup in list(self._to_send):
                await self._send(backup)
            await self._tidy()
            self._alerts.take(alarms.reached(self._remote.name))

    @contextlib.asynccontextmanager
    async def _failing(self) -> AsyncIterator[None]:
        begun = time.monotonic()
        try:
            yield
        except StandfastError as error:
            await self._failed(error)
        finally:
            self.report.duration_s += time.monotonic() - begun

    async def _failed(self, error: StandfastError) -> None:
        waiting = self._waiting()
        self.report.error = error.as_wire()
        self.report.waiting = waiting
        self._alerts.take(alarms.failed(self._remote.name, error, len(waiting)))
        tried_at = time.time()
        for name in waiting[:1]:
            await self._notes.change(
                name,
                self._remote.name,
                lambda had: Upload(attempts=had.attempts + 1, message=error.message, tried_at=tried_at),
            )

    def _noted(self, backup: Backup) -> Upload:
        return backup.record.uploads.get(self._remote.name, Upload())

    def _next_try_at(self) -> float:
        uploads = [self._noted(one) for one in self._backups]
        return max(
            (one.tried_at + backoff_s(one.attempts) for one in uploads if one.at is None and one.attempts),
            default=0.0,
        )

    def _waiting(self) -> list[str]:
        """What it is to get; where it cannot be asked, what it has not been seen to have."""
        if self._to_send:
            return [one.name for one in self._to_send if one.name not in self._shelf.held]
        return [one.name for one in self._backups if self._noted(one).at is None]

    async def _note_what_is_there(self) -> None:
        """An earlier run may have died before it noted what it had sent."""
        for backup in self._backups:
            held = self._shelf.held.get(backup.name)
            if held is not None and self._noted(backup).at is None:
                noted = partial(_uploaded, at=held.at)
                await self._notes.change(backup.name, self._remote.name, noted)

    def _lacking(self) -> list[Backup]:
        """What would be kept there, were it there."""
        lacking = []
        for backup in self._backups:
            assert backup.manifest is not None
            if backup.name in self._kept_of(backup.manifest.identity) and not self._has(
                backup, backup.manifest
            ):
                lacking.append(backup)
        return lacking

    def _has(self, backup: Backup, manifest: Manifest) -> bool:
        held = self._shelf.held.get(backup.name)
        if held is None:
            return False
        if held.manifest.content.sha256 != manifest.content.sha256:
            raise RemoteFailed(
                f"the remote {self._remote.name} holds another database's backup of the name {backup.name}",
                next_step="Give each deployment a directory or prefix of its own in BACKUP_REMOTES.",
            )
        return True

    def _kept_of(self, identity: str) -> set[str]:
        here = {
            one.name: _dated(one)
            for one in self._backups
            if one.manifest and one.manifest.identity == identity
        }
        there = {one.name: one.dated for one in self._held_of(identity)}
        return keep(list((here | there).values()), *self._keeps, time.time())

    def _held_of(self, identity: str) -> list[Held]:
        return [one for one in self._shelf.held.values() if one.manifest.identity == identity]

    async def _send(self, backup: Backup) -> None:
        manifest = backup.manifest
        assert manifest is not None
        try:
            await self._send_content(backup, manifest)
            await self._send_manifest(backup)
        except BackupDamaged as error:  # ours: the remote is well, and takes the others
            self.report.problems.append(error.message)
            self._to_send.remove(backup)
            return
        self.report.sent.append(backup.name)
        self.report.bytes += manifest.content.bytes
        self._shelf.held[backup.name] = Held(backup.name, manifest, time.time())
        self.report.held = len(self._shelf.held)
        self._progress.note(f"{self._remote.name}: {backup.name} is there, and was read back")
        await self._notes.change(backup.name, self._remote.name, partial(_uploaded, at=time.time()))

    async def _send_content(self, backup: Backup, manifest: Manifest) -> None:
        name, content = content_name(manifest), manifest.content
        expected = Checked(content.bytes, content.sha256)
        if await self._lies_there(backup, name, expected):
            self._progress.advance(content.bytes)
            return
        for is_last in (False, True):
            sent = await self._remote.put(
                name, backup.content, on_bytes=(lambda _: None) if is_last else self._progress.advance
            )
            if sent != expected:
                await self._remote.delete(name)
                raise BackupDamaged(f"{backup.content} is not what was written: it is not sent")
            if await self._remote.read_back(name) == expected:
                return
            log.warning("a copy came back different", remote=self._remote.name, backup=backup.name)
            await self._remote.delete(name)
        raise RemoteFailed(
            f"the remote {self._remote.name} gave {backup.name} back with another checksum, twice",
            next_step="Check the disk there and what stands between; the copy was removed, and is sent again later.",
        )

    async def _lies_there(self, backup: Backup, name: str, expected: Checked) -> bool:
        """An earlier run may have sent it, and died before the manifest."""
        begun = self._shelf.begun.get(backup.name, [])
        if not any(one.name == name and one.bytes == expected.bytes for one in begun):
            return False
        return await self._remote.read_back(name) == expected

    async def _send_manifest(self, backup: Backup) -> None:
        name = manifest_name(backup.name)
        sent = await self._remote.put(name, backup.path / MANIFEST)
        if await self._remote.read_back(name) != sent:
            await self._remote.delete(name)
            raise RemoteFailed(
                f"the remote {self._remote.name} gave the manifest of {backup.name} back different"
            )

    async def _tidy(self) -> None:
        for identity in {one.manifest.identity for one in self._backups if one.manifest}:
            held = self._held_of(identity)
            kept = keep([one.dated for one in held], *self._keeps, time.time())
            for one in sorted(held, key=lambda one: one.manifest.snapshot_at):
                if one.name not in kept:
                    await self._remove(one.name)
        self.report.held = len(self._shelf.held)
        await self._remove_left_over()

    async def _remove(self, name: str) -> None:
        """The manifest first: from then on it does not count."""
        await self._remote.delete(manifest_name(name))
        for one in await self._remote.list(f"{PREFIX}{name}/"):
            await self._remote.delete(one.name)
        del self._shelf.held[name]
        self.report.removed.append(name)

    async def _remove_left_over(self) -> None:
        """Of runs that were killed, and whose backups have gone since."""
        files = [one for files in self._shelf.begun.values() for one in files]
        sent = tuple(f"{PREFIX}{name}/" for name in self.report.sent)
        for one in (*files, *await self._remote.list(PREFIX, unfinished=True)):
            if one.at < time.time() - LEFT_OVER_S and not (sent and one.name.startswith(sent)):
                await self._remote.delete(one.name)
                log.info("what an upload left was removed", remote=self._remote.name, name=one.name)


def _uploaded(had: Upload, at: float) -> Upload:
    return Upload(at=at, attempts=had.attempts + 1)


def _dated(backup: Backup) -> Dated:
    manifest = backup.manifest
    assert manifest is not None
    return Dated(backup.name, manifest.snapshot_at, tuple(manifest.kinds), "good")
