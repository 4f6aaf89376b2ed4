"""Fewer files, and none that is no longer needed: old segments become packs, and what is too old goes.

Invariant: a pack holds its segments bit for bit and is durable before the single files go; what retention removes is
noted before it is removed, and never the newest snapshot of a company that still has to be had.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import msgspec

from standfast.errors import BackupDamaged, BackupFailed
from standfast.jobs.changelog.folder import (
    File,
    Folder,
    Inner,
    PackIndex,
    folders,
    pack_content,
    pack_name,
)
from standfast.jobs.changelog.segment import Place, checked, open_segment, write_new
from standfast.jobs.changelog.verify import begins_a_log
from standfast.settings import Settings

PACKED_AFTER_S = 3_600.0
PACK_BYTES = 32 * 2**20
_LEAST = 8  # segments are not worth a pack
_DAY_S = 86_400.0


class Compacted(msgspec.Struct):
    """`files_before` and `files_after` are of all nodes; `dropped` segments were older than what is kept."""

    files_before: int = 0
    files_after: int = 0
    packed: int = 0
    dropped: int = 0
    freed_bytes: int = 0
    left: list[str] = []


async def compact(settings: Settings, now: float | None = None, *, dry_run: bool = False) -> Compacted:
    """Of every node's segments on this machine. `JobRunning` where it is being done already, `BackupFailed` where the
    disk does not take it."""
    return await asyncio.to_thread(_compact, settings, time.time() if now is None else now, dry_run)


def _compact(settings: Settings, now: float, dry_run: bool) -> Compacted:
    report = Compacted()
    horizon = now - settings.change_log_keep_days * _DAY_S
    for folder in folders(settings.backup_directory):
        try:
            with folder.tidying():
                report.files_before += len(folder.files())
                _drop(folder, horizon, report, dry_run)
                _pack(folder, now - PACKED_AFTER_S, report, dry_run)
                report.files_after += len(folder.files())
        except BackupDamaged as error:
            report.left.append(error.message)  # what cannot be read is left for a look
        except OSError as error:
            raise BackupFailed(f"{folder.path} cannot be tidied: {error.strerror}") from error
    return report


def _drop(folder: Folder, horizon: float, report: Compacted, dry_run: bool) -> None:
    """What is older than the horizon and holds nothing that a state since then is made of."""
    files = folder.files()
    old = [file for file in files[:-1] if file.closed_at < horizon]
    if not old:
        return
    needed = _needed(folder, files, horizon)
    going = [file for file in old if not any(file.first <= number <= file.last for number in needed)]
    report.dropped += sum(file.last - file.first + 1 for file in going)
    report.freed_bytes += sum(file.path.stat().st_size for file in going)
    if dry_run or not going:
        return
    dropped = folder.dropped()
    for before, file in zip([None, *files], files, strict=False):
        if file in going:
            begins = begins_a_log(folder, file)
            dropped.add((before.last + 1 if before else 1) if begins else file.first, file.last)
    folder.note_dropped(dropped)
    for file in going:
        file.path.unlink(missing_ok=True)


def _needed(folder: Folder, files: list[File], horizon: float) -> set[int]:
    """The numbers, up to the horizon, of what each company's state at the horizon is made of."""
    since: dict[str, int] = {}
    having: dict[str, list[int]] = {}
    for file in files:
        if file.closed_at >= horizon + _DAY_S:
            break
        for place in folder.places(file):
            for company, block in open_segment(place).header.blocks.items():
                if block.snapshot_at is not None and block.snapshot_at < horizon:
                    since[company], having[company] = place.number, []
                if block.removed and block.last_at < horizon:
                    since.pop(company, None)
                    having[company] = []
                elif block.first_at < horizon:
                    having.setdefault(company, []).append(place.number)
    return {number for company in since for number in having[company]}


def _pack(folder: Folder, before: float, report: Compacted, dry_run: bool) -> None:
    for group in _groups(folder, before):
        report.packed += len(group)
        if not dry_run:
            _make(folder, group)


def _groups(folder: Folder, before: float) -> Iterator[list[File]]:
    """Single segments that follow each other, as many as a pack takes."""
    group: list[File] = []
    size = 0
    for file in folder.files():
        is_single = file.first == file.last and file.closed_at < before
        follows = not group or group[-1].last + 1 == file.first
        if group and (not is_single or not follows or size >= PACK_BYTES):
            if len(group) >= _LEAST:
                yield group
            group, size = [], 0
        if is_single:
            group.append(file)
            size += file.path.stat().st_size
    if len(group) >= _LEAST:
        yield group


def _make(folder: Folder, group: list[File]) -> None:
    inner: list[Inner] = []
    contents: list[bytes] = []
    companies: dict[str, list[int]] = {}
    offset = 0
    for file in group:
        content = file.path.read_bytes()
        place = Place(file.path, 0, len(content), file.first, file.closed_at)
        checked(content, place)
        header = open_segment(place).header
        inner.append(Inner(file.first, header.closed_at, offset, len(content)))
        contents.append(content)
        offset += len(content)
        for company in header.blocks:
            companies.setdefault(company, []).append(file.first)
    head = pack_content(PackIndex(inner, companies))
    path = folder.path / pack_name(group[0].first, group[-1].last, inner[-1].closed_at)
    write_new(path, b"".join((head, *contents)))
    for file in group:
        file.path.unlink(missing_ok=True)
