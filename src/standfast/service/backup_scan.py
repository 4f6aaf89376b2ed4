"""Which backups count for health: those of the catalogue that are good, by their own records.

Invariant: nothing is opened but manifests and records; where there is no backup of ours, any file counts.
"""

from __future__ import annotations

from pathlib import Path

from standfast.errors import BackupFailed
from standfast.health.backups import Found, disk_apart, scanned
from standfast.health.copies import Copied
from standfast.jobs.backup.catalogue import Catalogue
from standfast.jobs.backup.manifest import Manifest, Record


def catalogued(root: Path, beside: Path | None = None) -> Found:
    """For `BackupWatch`. Raises `OSError`."""
    try:
        backups = Catalogue(root).backups()
    except BackupFailed as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        raise
    if not backups:
        return scanned(root, beside)
    good = [(one.manifest, one.record) for one in backups if one.manifest is not None and one.state == "good"]
    newest = max(good, key=lambda one: one[0].snapshot_at, default=None)
    proven = [test.at for one in backups for test in one.record.restore_tests if test.ok]
    return Found(
        len(good),
        None if newest is None else newest[0].snapshot_at,
        None if newest is None else newest[0].content.bytes,
        disk_apart(root, beside),
        catalogued=True,
        bad=tuple(one.name for one in backups if one.state == "bad"),
        unproven=sum(one.state == "unproven" for one in backups),
        validated_at=None if newest is None else newest[1].validations[-1].at,
        proven_at=max(proven, default=None),
        good=tuple(_copied(manifest, record) for manifest, record in good),
    )


def _copied(manifest: Manifest, record: Record) -> Copied:
    uploads = record.uploads
    return Copied(
        manifest.name,
        manifest.snapshot_at,
        min(one.at for one in record.validations if one.ok),
        {remote: one.at for remote, one in uploads.items() if one.at is not None},
        {remote: one.message for remote, one in uploads.items() if one.at is None and one.message},
    )
