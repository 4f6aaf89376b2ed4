"""The remotes that the settings name.

Invariant: making them asks nothing of any; a kind that is not named is not imported.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from standfast.errors import NotFound, RemoteFailed
from standfast.jobs.remotes.remote import Remote
from standfast.settings import Settings
from standfast.settings.remotes import RemoteAddress


def remotes_of(settings: Settings) -> list[Remote]:
    """Each, in the settings' order. Close them; `opened_remotes` does it."""
    return [remote_of(address) for address in settings.remotes]


@contextlib.asynccontextmanager
async def opened_remotes(settings: Settings, only: str | None = None) -> AsyncIterator[list[Remote]]:
    """All of them, or the one of that name (`NotFound` where none has it), for as long as the body lasts."""
    remotes = [remote_of(address) for address in _chosen(settings, only)]
    try:
        yield remotes
    finally:
        for remote in remotes:
            with contextlib.suppress(RemoteFailed):
                await remote.close()


def _chosen(settings: Settings, only: str | None) -> list[RemoteAddress]:
    addresses = settings.remotes
    chosen = [one for one in addresses if only is None or one.name == only]
    if only is not None and not chosen:
        names = ", ".join(one.name for one in addresses) or "none"
        raise NotFound(
            f"no remote is called {only!r}; BACKUP_REMOTES has: {names}",
            next_step="Name one of them; the option name= of an address gives it its name.",
        )
    return chosen


def remote_of(address: RemoteAddress) -> Remote:
    """The one of that address. Close it."""
    if address.kind == "s3":
        from standfast.jobs.remotes.s3 import S3Remote

        return S3Remote(address)
    if address.kind == "sftp":
        from standfast.jobs.remotes.sftp import SftpRemote

        return SftpRemote(address)
    from standfast.jobs.remotes.folder import FolderRemote

    return FolderRemote(address)
