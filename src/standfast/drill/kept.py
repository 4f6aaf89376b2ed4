"""Records of drills as they are kept in the state directory: `drills/<id>.json`.

Invariant: files 0600 in a directory 0700, each written whole or not at all; of each sort of drill the newest
`KEPT_OF_A_SORT` stay. A record that cannot be read is named as that, never left out in silence.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec

from standfast.drill.record import DrillRecord
from standfast.errors import NotFound, StateDirectoryError, UsageError
from standfast.jobs.backup.catalogue import write_private
from standfast.settings import Settings

KEPT_OF_A_SORT = 20
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Listing:
    """`records` newest first; `damaged`: names of files that hold none."""

    records: list[DrillRecord]
    damaged: list[str]


class KeptDrills:
    """Calls touch the disk: from an event loop, in a thread (`asyncio.to_thread`). Errors are `StateDirectoryError`."""

    def __init__(self, settings: Settings) -> None:
        self.root = settings.state_dir / "drills"

    def keep(self, record: DrillRecord) -> Path:
        """Write the record down, and remove what is too old; where it lies now."""
        path = self.root / f"{_checked(record.id)}.json"
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.root.chmod(0o700)
            write_private(path, msgspec.json.format(msgspec.json.encode(record)) + b"\n")
        except OSError as error:
            raise StateDirectoryError(
                f"{path} cannot be written: {error.strerror}",
                next_step="Make room, or the directory writable; the drill itself is over.",
            ) from error
        for old in _too_old(self.listing().records):
            with contextlib.suppress(OSError):
                (self.root / f"{old.id}.json").unlink()
        return path

    def listing(self) -> Listing:
        """Every record; empty where there was no drill yet."""
        return read_records(self.root)

    def get(self, drill: str) -> DrillRecord:
        """The record of that id, or the newest for "latest". `NotFound` where there is none."""
        if drill == "latest":
            records = self.listing().records
            if records:
                return records[0]
        elif (path := self.root / f"{_checked(drill)}.json").is_file():
            return _read(path)
        raise NotFound(
            f"there is no drill {drill!r} in {self.root}",
            next_step="'standfast drill list' shows them; 'standfast drill' makes one.",
        )


def read_records(directory: Path) -> Listing:
    """The records that lie in `directory`, which need not exist."""
    try:
        paths = sorted(one for one in directory.iterdir() if one.suffix == ".json")
    except FileNotFoundError:
        return Listing([], [])
    except OSError as error:
        raise StateDirectoryError(f"{directory} cannot be read: {error.strerror}") from error
    records, damaged = [], []
    for path in paths:
        try:
            records.append(_read(path))
        except StateDirectoryError:
            damaged.append(path.name)
    records.sort(key=lambda one: one.started_at, reverse=True)
    return Listing(records, damaged)


def _read(path: Path) -> DrillRecord:
    try:
        return msgspec.json.decode(path.read_bytes(), type=DrillRecord)
    except (OSError, msgspec.MsgspecError) as error:
        raise StateDirectoryError(
            f"{path} is no record of a drill: {error}",
            next_step="Move it aside; the next drill makes another.",
        ) from error


def _checked(drill: str) -> str:
    if not _ID.fullmatch(drill):
        raise UsageError(f"{drill[:40]!r} is no id of a drill", next_step="See: standfast drill list")
    return drill


def _too_old(records: list[DrillRecord]) -> list[DrillRecord]:
    seen: dict[tuple[str, bool], int] = {}
    old = []
    for record in records:
        sort = (record.kind, record.here)
        seen[sort] = seen.get(sort, 0) + 1
        if seen[sort] > KEPT_OF_A_SORT:
            old.append(record)
    return old
