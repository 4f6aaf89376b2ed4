"""A backup brought back from a remote, to a machine that may have nothing but the settings.

Invariant: it stands under its name here only whole, and with the checksum that its manifest names.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from standfast.errors import BackupDamaged, Conflict, NotFound
from standfast.jobs.backup import room
from standfast.jobs.backup.aside import on_disk
from standfast.jobs.backup.catalogue import Catalogue, write_private
from standfast.jobs.backup.manifest import MANIFEST, RECORD, Record, Upload
from standfast.jobs.progress import Progress, Silent
from standfast.jobs.remotes.opening import opened_remotes
from standfast.jobs.remotes.remote import Checked, Remote
from standfast.jobs.remotes.report import Fetched
from standfast.jobs.remotes.shelf import Held, content_name, look, read_whole
from standfast.settings import Settings

LATEST = "latest"


async def fetch_backup(
    settings: Settings, name: str, source: str, progress: Progress | None = None
) -> Fetched:
    """Bring `name` ("latest": the newest there) from the remote `source`. PostgreSQL is not needed. `NotFound` where
    the remote or the backup is not known, `Conflict` where one of that name is here, `BackupDamaged` where what came is
    not what was sent, `RemoteFailed`, `BackupFailed`. It is unproven here until it is validated."""
    progress = progress or Silent()
    begun = time.monotonic()
    async with opened_remotes(settings, source) as (remote,):
        progress.step("look")
        held = await _found(remote, name)
        path = await _brought(remote, held, Catalogue(settings.backup_directory), progress)
    content = held.manifest.content
    return Fetched(
        held.name, remote.name, str(path), content.bytes, time.monotonic() - begun, content.encrypted
    )


async def _found(remote: Remote, name: str) -> Held:
    shelf = await look(remote)
    held = shelf.newest if name == LATEST else shelf.held.get(name)
    if held is not None:
        return held
    if name in shelf.unusable:
        raise shelf.unusable[name]
    there = ", ".join(sorted(shelf.held, reverse=True)[:5]) or "none"
    raise NotFound(
        f"the remote {remote.name} has no backup {name!r}; it has: {there}",
        next_step="Name one of them, or 'latest'; 'standfast backup remotes' shows every remote.",
    )


async def _brought(remote: Remote, held: Held, catalogue: Catalogue, progress: Progress) -> Path:
    await on_disk(catalogue.prepare)
    if (catalogue.root / held.name).exists():
        raise Conflict(
            f"a backup {held.name} is here already, in {catalogue.root}",
            next_step=f"Validate it: standfast backup validate {held.name}; to bring it anew, move it away first.",
        )
    manifest, data = await read_whole(remote, held.name)
    content = manifest.content
    await on_disk(lambda: room.check_free(catalogue.root, content.bytes))
    building = await on_disk(lambda: room.Building(catalogue.root, held.name))
    try:
        progress.step("fetch", content.bytes, "bytes")
        came = await remote.get(
            content_name(manifest), building.path / content.file, on_bytes=progress.advance
        )
        if came != Checked(content.bytes, content.sha256):
            raise BackupDamaged(
                f"{held.name} came from the remote {remote.name} with another checksum than its manifest names",
                next_step="Fetch it again, another one, or from another remote; this one was not kept.",
            )
        record = Record(uploads={remote.name: Upload(at=held.at)})
        await on_disk(lambda: write_private(building.path / MANIFEST, data))
        await on_disk(
            lambda: write_private(building.path / RECORD, msgspec.json.format(msgspec.json.encode(record)))
        )
        return await on_disk(building.finish)
    except BaseException:
        building.abandon()
        raise
