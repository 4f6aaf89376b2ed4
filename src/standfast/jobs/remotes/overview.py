"""How each remote is now.

Invariant: it only looks; one that is down is told as that, and keeps no other waiting.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from standfast.errors import StandfastError
from standfast.jobs.backup.aside import on_disk
from standfast.jobs.backup.catalogue import Catalogue
from standfast.jobs.backup.rotation import Dated, dated, keep
from standfast.jobs.remotes.opening import opened_remotes
from standfast.jobs.remotes.remote import Remote
from standfast.jobs.remotes.report import RemoteState
from standfast.jobs.remotes.shelf import look
from standfast.settings import Settings


async def remote_states(settings: Settings, only: str | None = None) -> list[RemoteState]:
    """Of all, or of `only` that one. PostgreSQL is not needed. Raises `BackupFailed` where the backups here cannot be
    read."""
    backups = await on_disk(Catalogue(settings.backup_directory).backups)
    identities = {one.manifest.identity for one in backups if one.manifest}
    good = [one for each in identities for one in dated(backups, each) if one.state == "good"]
    async with opened_remotes(settings, only) as remotes:
        return list(await asyncio.gather(*(_state(settings, remote, good) for remote in remotes)))


async def _state(settings: Settings, remote: Remote, good: Sequence[Dated]) -> RemoteState:
    address = remote.address
    state = RemoteState(remote.name, address.kind, address.shown, "up to date")
    try:
        shelf = await look(remote)
    except StandfastError as error:
        state.state, state.message = "down", f"{error.message}. {error.next_step}"
        return state
    state.backups, state.bytes = len(shelf.held), shelf.bytes
    state.unusable = [f"{name}: {error.message}" for name, error in shelf.unusable.items()]
    if shelf.newest is not None:
        state.newest = shelf.newest.name
        state.newest_age_s = max(0.0, time.time() - shelf.newest.manifest.snapshot_at)
    keeps = (
        address.keep_daily or settings.backup_keep_daily,
        address.keep_monthly or settings.backup_keep_monthly,
    )
    all_known = {one.name: one for one in (*good, *(held.dated for held in shelf.held.values()))}
    kept = keep(list(all_known.values()), *keeps, time.time())
    state.waiting = sorted(one.name for one in good if one.name in kept and one.name not in shelf.held)
    if state.waiting:
        state.state, state.message = "behind", "standfast backup push sends what waits"
    elif not shelf.held:
        state.state, state.message = "empty", "no good backup was there to be sent"
    return state
