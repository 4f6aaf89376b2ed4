"""Whether a backup is what was written: checksum, decryption, decompression, table of contents, rows by table.

Invariant: only what was read to its end counts as good. What prevents a look (no client tools, no disk) is an error of
its own and marks no backup bad.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from standfast.errors import BackupDamaged, StandfastError
from standfast.jobs.backup import proof_alarms
from standfast.jobs.backup.archive_reader import contents_of, feed, tools_for
from standfast.jobs.backup.aside import DISK_TIMEOUT_S, on_disk
from standfast.jobs.backup.catalogue import Backup, Catalogue
from standfast.jobs.backup.manifest import Manifest, Validation
from standfast.jobs.backup.row_count import RowCount
from standfast.jobs.backup.sealing import can_open, identities
from standfast.jobs.context import JobContext

STALL_S = 120.0
_SLOWEST_BYTES_S = 5_000_000.0
_BACKUPS = "standfast_backups"
_DATA = re.compile(r"^\d+; \d+ \d+ TABLE (?!DATA )(?:.+ )?(\S+) \S*$", re.MULTILINE)
_SEALED = "only the checksum was checked: no identity on this machine opens it"


@dataclass(frozen=True, slots=True)
class Validated:
    """A backup and what was found; `backup` is as the catalogue has it now."""

    backup: Backup
    validation: Validation


async def validate(context: JobContext, backup: Backup, *, retry: bool = True) -> Validation:
    """Look into a backup and record what was found. A failure is looked at once more (`retry`) before it counts, then
    alerted. Takes a few seconds per million keys. Raises what kept it from looking, and `BackupFailed` where the record
    cannot be written."""
    found = await _looked(context, backup)
    if not found.ok and retry:
        context.progress.note(f"{backup.name}: {found.message}; looking once more")
        found = await _looked(context, backup)
    if backup.path.is_dir():
        backup.record.validations.append(found)
        await on_disk(lambda: Catalogue(backup.path.parent).record(backup.name, backup.record))
    context.alerts.take(proof_alarms.good(backup.name) if found.ok else proof_alarms.bad(backup.name, found))
    return found


async def validate_all(context: JobContext) -> list[Validated]:
    """Look into every backup, newest first."""
    catalogue = Catalogue(context.settings.backup_directory)
    backups = await on_disk(catalogue.backups)
    return [Validated(backup, await validate(context, backup)) for backup in backups]


async def _looked(context: JobContext, backup: Backup) -> Validation:
    at, began = time.time(), time.monotonic()
    sealed, message = False, ""
    try:
        sealed = await _look(context, backup)
        message = _SEALED if sealed else ""
        ok = True
    except BackupDamaged as error:
        ok, message = False, error.message
    return Validation(at, ok, time.monotonic() - began, message, sealed)


async def _look(context: JobContext, backup: Backup) -> bool:
    """Whether only its checksum could be checked. `BackupDamaged` says what is wrong with it."""
    if backup.error is not None:
        raise BackupDamaged(backup.error.message)
    manifest = backup.manifest
    assert manifest is not None, "a backup without a manifest has an error"
    await on_disk(lambda: _check_file(backup, manifest))
    context.progress.step(f"validating {backup.name}", manifest.content.plain_bytes, "bytes")
    if manifest.content.encrypted and not await _opens(context, backup):
        timeout_s = DISK_TIMEOUT_S + manifest.content.bytes / _SLOWEST_BYTES_S
        await on_disk(lambda: _check_sum(backup, manifest), timeout_s=timeout_s)
        return True
    await _check_content(context, backup, manifest)
    return False


async def _opens(context: JobContext, backup: Backup) -> bool:
    keys = await on_disk(lambda: identities(context.settings))
    opens = await on_disk(lambda: can_open(backup, keys))
    if keys and not opens:
        context.alerts.take(proof_alarms.not_opened(backup.name))
    return opens


def _check_file(backup: Backup, manifest: Manifest) -> None:
    if manifest.name != backup.name:
        raise BackupDamaged(f"its manifest is that of another backup, {manifest.name[:40]!r}")
    content = manifest.content
    if "/" in content.file or content.file.startswith("."):
        raise BackupDamaged("its manifest names a file outside of its directory")
    try:
        found = backup.content.lstat().st_size
    except OSError as error:
        raise BackupDamaged(f"{backup.content} cannot be read: {error.strerror}") from error
    if backup.content.is_symlink() or not backup.content.is_file():
        raise BackupDamaged(f"{backup.content} is no file")
    if found != content.bytes:
        raise BackupDamaged(f"{backup.content} has {found:,} bytes instead of {content.bytes:,}")


def _check_sum(backup: Backup, manifest: Manifest) -> None:
    try:
        with backup.content.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BackupDamaged(f"{backup.content} cannot be read: {error.strerror}") from error
    if digest != manifest.content.sha256:
        raise BackupDamaged(f"{backup.content} is not what was written: its checksum differs")


async def _check_content(context: JobContext, backup: Backup, manifest: Manifest) -> None:
    tools = await asyncio.to_thread(tools_for, manifest, context.settings)
    counted = RowCount(kept=frozenset({_BACKUPS}))
    ran, fed = await feed(
        backup,
        context.settings,
        [tools.pg_restore, "--data-only", "--file=-"],
        stall_s=STALL_S,
        read=counted.read,
        on_bytes=context.progress.advance,
    )
    if ran.code != 0:
        raise BackupDamaged(f"pg_restore cannot read it: {ran.said[:300]}")
    if fed.count != manifest.content.plain_bytes:
        raise BackupDamaged(
            f"it holds {fed.count:,} bytes of data instead of {manifest.content.plain_bytes:,}"
        )
    wrong = _missing_tables(manifest, await contents_of(fed.head, tools.pg_restore))
    wrong += wrong_counts(manifest.tables, counted.rows)
    if manifest.sentinel.encode() not in counted.texts.get(_BACKUPS, b""):
        wrong.append("its sentinel is not in it: the data is that of another backup")
    if wrong:
        raise BackupDamaged("; ".join(wrong[:5]))


def _missing_tables(manifest: Manifest, contents: str) -> list[str]:
    found = set(_DATA.findall(contents))
    return [f"the table {name} is missing" for name in manifest.tables if name not in found]


def wrong_counts(tables: Mapping[str, int], rows: Mapping[str, int]) -> list[str]:
    """What differs, in words. The rows of a partitioned table stand under the names of its parts, and those may be
    any: so they are counted together."""
    wrong = [
        f"{name} has {rows[name]:,} rows instead of {expected:,}"
        for name, expected in tables.items()
        if name in rows and rows[name] != expected
    ]
    in_parts = sum(count for name, count in tables.items() if name not in rows)
    parts = sum(count for name, count in rows.items() if name not in tables)
    if in_parts != parts:
        missing = [name for name, count in tables.items() if name not in rows and count]
        wrong.append(f"{', '.join(missing) or 'other tables'} have {parts:,} rows instead of {in_parts:,}")
    return wrong


def failed(found: Sequence[Validated]) -> StandfastError | None:
    """What a command ends with: `BackupDamaged` where any is bad."""
    bad = [one for one in found if not one.validation.ok]
    if not bad:
        return None
    names = ", ".join(one.backup.name for one in bad[:5]) + (" …" if len(bad) > 5 else "")
    return BackupDamaged(
        f"{len(bad)} of {len(found)} looked into {'is' if len(bad) == 1 else 'are'} bad: {names}"
    )
