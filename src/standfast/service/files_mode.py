"""`FilesMode`: a service that stands on files: its vault leaves PostgreSQL alone, and folders follow every write.

Invariant: the vault is detached exactly while the mode's file is there, from before any company is opened; folders
follow the vault for as long.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import structlog

from standfast.alert import AlertSink
from standfast.authstate.company import Company
from standfast.errors import EmergencyRefused, StandfastError
from standfast.jobs.emergency import alarms
from standfast.jobs.emergency.begun import BegunFile
from standfast.jobs.emergency.folders import Folders
from standfast.jobs.emergency.mirror import Mirror
from standfast.jobs.emergency.mode import Mode, ModeFile
from standfast.service.schema import SchemaKeeper
from standfast.settings import Settings
from standfast.vault.vault import Vault

log = structlog.get_logger(__name__)
FLUSH_TIMEOUT_S = 10.0
_CANCEL_INTERVAL_S = 0.2


class FilesMode:
    """`cause` is what the vault is to be opened with; `standing` goes on for as long as the vault is open."""

    def __init__(self, settings: Settings, alerts: AlertSink) -> None:
        self.file = ModeFile(settings.state_dir)
        self.begun = BegunFile(settings.state_dir)
        self.mode: Mode | None = None
        self._alerts = alerts
        self._settings = settings
        self._mirror: Mirror | None = None
        self._following: asyncio.Task[None] | None = None
        self._vault: Vault
        self._schema: SchemaKeeper

    def read(self) -> StandfastError | None:
        """Why PostgreSQL is to be left alone, if it is. `StateDirectoryError` where that cannot be known."""
        self.mode = self.file.read()
        return None if self.mode is None else self.mode.cause

    @contextlib.asynccontextmanager
    async def standing(self, vault: Vault, schema: SchemaKeeper) -> AsyncIterator[None]:
        """Follow the vault for as long as this lasts, where the node stands on files, or as soon as it does."""
        self._vault, self._schema = vault, schema
        await asyncio.to_thread(self._drop_unfinished)
        if self.mode is not None:
            schema.pause()
            self._mirror = self._make_mirror(vault, self.mode)
            await self._mirror.settle()
            self._following = asyncio.create_task(self._mirror.run())
            self._alerts.take(alarms.on_files(self.mode.root, len(self.mode.companies), again=True))
        else:
            self._alerts.take(alarms.off_files(quiet=True))
        try:
            yield
        finally:
            await self._flushed()
            await self._unfollow()

    def _drop_unfinished(self) -> None:
        """A switch that was cut off: in the directory that the settings name, the mode does, or where one has begun."""
        mode = self.mode
        roots = {self._settings.emergency_directory, self.begun.root()}
        roots.add(Path(mode.root) if mode is not None else None)
        for root in roots - {None}:
            assert root is not None
            try:
                if Folders(root).recover(mode.id if mode is not None else None):
                    log.warning("a switch to files had been cut off, and is undone", folders=str(root))
            except (OSError, StandfastError) as error:
                log.warning("an unfinished switch to files could not be undone", reason=str(error))
                return
        self.begun.forget()

    async def enter(self, mode: Mode) -> None:
        """Stand on files from now on; durable once this returns. Raises where the mode cannot be written: then nothing
        has changed."""
        if self.mode is not None:
            raise EmergencyRefused(f"this node stands on files already, in {self.mode.root}")
        await asyncio.to_thread(self.file.write, mode)
        self.mode = mode
        self._schema.pause()
        self._vault.detach(mode.cause)
        self._mirror = self._make_mirror(self._vault, mode)
        self._following = asyncio.create_task(self._mirror.run())
        self._alerts.take(alarms.on_files(mode.root, len(mode.companies), again=False))

    async def note(self, mode: Mode) -> None:
        """The mode goes on, and more is known of it."""
        await asyncio.to_thread(self.file.write, mode)
        self.mode = mode

    async def flush(self) -> None:
        """The folders have everything that was acknowledged until now. `TimeoutError` after `FLUSH_TIMEOUT_S`."""
        if self._mirror is not None:
            async with asyncio.timeout(FLUSH_TIMEOUT_S):
                await self._mirror.flush()

    async def take(self, company: Company, *, from_files: bool) -> None:
        """Decide which state of a company goes on that both the vault and somebody else have changed."""
        if self._mirror is None:
            raise EmergencyRefused("this node does not stand on files")
        await self._mirror.take(company, from_files=from_files)

    async def leave(self) -> None:
        """Stand on PostgreSQL from now on; durable once this returns. The folders stay, with all that was written."""
        if self.mode is None:
            raise EmergencyRefused("this node does not stand on files")
        await self._flushed()
        await asyncio.to_thread(self.file.remove)
        self.mode = None
        await self._unfollow()
        self._vault.rejoin()
        self._schema.resume()
        self._alerts.take(alarms.off_files(quiet=False))

    def status(self) -> dict[str, Any] | None:
        """What the operator sees; None where the node stands on PostgreSQL."""
        mode = self.mode
        if mode is None:
            return None
        return {
            "id": mode.id,
            "since": mode.since,
            "stage": mode.stage,
            "folders": mode.root,
            "companies": len(mode.companies),
            "answered": self._vault.outage.answered,
            "mirror": None if self._mirror is None else self._mirror.status(),
        }

    def _make_mirror(self, vault: Vault, mode: Mode) -> Mirror:
        return Mirror(vault, mode, self._alerts, self._settings.mirror_interval_ms / 1000)

    async def _unfollow(self) -> None:
        task, self._following = self._following, None
        if self._mirror is not None:
            self._mirror.close()
            self._mirror = None
        while task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_CANCEL_INTERVAL_S)

    async def _flushed(self) -> None:
        try:
            await self.flush()
        except Exception as error:  # noqa: BLE001  # whatever it is, a service that stops must not stop at it
            # The vault has everything; the folders are brought in step by the next start.
            log.warning("folders could not be brought in step", reason=str(error) or type(error).__name__)
