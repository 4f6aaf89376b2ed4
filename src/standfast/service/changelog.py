"""`ChangeLog`: the change log of a running service's vault.

Invariant: it is attached before the vault opens any company and written to its end before the vault is closed; whatever
becomes of it, the service goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import structlog

from standfast.alert import AlertSink
from standfast.jobs.changelog.keeper import ChangeLogKeeper
from standfast.jobs.changelog.uploads import Uploads
from standfast.service.foundation import cancelled
from standfast.service.vault import vault_options
from standfast.settings import Settings
from standfast.vault.storage.replica import Replica

log = structlog.get_logger(__name__)
CLOSE_TIMEOUT_S = 5.0


class ChangeLog:
    """`keeper` is None where the settings switch the log off."""

    def __init__(self, settings: Settings, alerts: AlertSink) -> None:
        self.keeper: ChangeLogKeeper | None = None
        self.uploads: Uploads | None = None
        self._settings = settings
        self._alerts = alerts

    def attach(self, replica: Replica) -> None:
        """Listen to what becomes of it from now on."""
        settings = self._settings
        if settings.change_log == "off":
            return
        self.keeper = ChangeLogKeeper(settings, replica, self._alerts, vault_options(settings).node_name)
        self.keeper.attach()
        if settings.backup_remotes is not None:
            self.uploads = Uploads(settings, replica.node, self._alerts)
            self.keeper.on_segment = self.uploads.hurry

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Write it meanwhile."""
        async with contextlib.AsyncExitStack() as stack:
            if self.uploads is not None:
                stack.push_async_callback(cancelled, asyncio.create_task(self.uploads.run()))
            if self.keeper is not None:
                stack.push_async_callback(self._close, self.keeper)
                stack.push_async_callback(cancelled, asyncio.create_task(self.keeper.run()))
            yield

    async def _close(self, keeper: ChangeLogKeeper) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await keeper.close()
        except TimeoutError:
            log.warning("the change log's last segment was not written: the disk does not answer")
        except Exception:
            log.exception("the change log could not be closed")

    def status(self) -> dict[str, Any] | None:
        """Figures for health and metrics; None: it is switched off."""
        if self.keeper is None:
            return None
        sent = self.uploads.status() if self.uploads is not None else {}
        return {**self.keeper.status(), "remotes": sent}
