"""What recovering took the last time it was tried: one figure for each disaster, out of drills and restore tests.

Invariant: each figure was measured, by what stands beside it; where nothing was, it says "never measured".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar, get_args

import msgspec
from msgspec import structs

from standfast.drill.kept import KeptDrills
from standfast.drill.record import DrillRecord
from standfast.errors import StandfastError
from standfast.jobs.backup.catalogue import Catalogue
from standfast.jobs.backup.manifest import RestoreTest
from standfast.settings import Settings

Disaster = Literal["unreachable", "corruption", "deletion", "loss-of-database", "data-centre", "everything"]
DISASTERS: tuple[Disaster, ...] = get_args(Disaster)
NEVER = "never measured"
T = TypeVar("T")
_BY_DRILL = ("unreachable", "loss-of-database")
_MEANS: dict[Disaster, str] = {
    "unreachable": "a restart amid the outage until the last session is open again",
    "corruption": "a backup put back until a session has logged in",
    "deletion": "a backup put back until a session has logged in",
    "loss-of-database": "'emergency to-files' until sessions stand on files",
    "data-centre": "a backup that stands elsewhere too put back until a session has logged in, without its way here",
    "everything": "a backup that stands elsewhere too put back until a session has logged in, without its way here",
}


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """`rto_s`: for what `means` says; `rpo_s`: how old what came back was, 0 where nothing was lost. `messages_lost` is
    known from drills alone, `rows` of the backup from restore tests. `when` in seconds since 1970. `by`: the drill or
    the backup, or "never measured", or what kept the history from being read."""

    disaster: Disaster
    means: str
    rto_s: float | None = None
    rpo_s: float | None = None
    messages_lost: int | None = None
    rows: int | None = None
    when: float | None = None
    by: str = NEVER

    @property
    def is_known(self) -> bool:
        return self.when is not None


class ProvenBackup(msgspec.Struct, frozen=True, kw_only=True):
    """A restore test that went well. `elsewhere`: a remote holds that backup too."""

    name: str
    test: RestoreTest
    elsewhere: bool = False


def last_measured(settings: Settings) -> list[Measured]:
    """One for each of `DISASTERS`, in that order. Reads files of this machine only, and raises nothing: a history that
    cannot be read is said in `by`. Touches the disk: from an event loop, in a thread."""
    drills, tests = (
        _read(lambda: KeptDrills(settings).listing().records),
        _read(lambda: proven_backups(settings.backup_directory)),
    )
    found = measured(drills.rows, tests.rows)
    unread = {disaster: drills.why if disaster in _BY_DRILL else tests.why for disaster in DISASTERS}
    return [
        one if one.is_known or not unread[one.disaster] else structs.replace(one, by=unread[one.disaster])
        for one in found
    ]


def measured(drills: Iterable[DrillRecord], tests: Sequence[ProvenBackup]) -> list[Measured]:
    """One for each of `DISASTERS`: by the newest drill in full length that has that figure, by the newest test."""
    full = sorted(
        (one for one in drills if one.kind == "full" and not one.here),
        key=lambda one: one.started_at,
        reverse=True,
    )
    found = []
    for disaster in DISASTERS:
        known = _of_drills(disaster, full) or _of_tests(disaster, tests)
        found.append(known or Measured(disaster=disaster, means=_MEANS[disaster]))
    return found


def _of_drills(disaster: Disaster, full: Sequence[DrillRecord]) -> Measured | None:
    for record in full:
        rto_s = {"unreachable": record.rto_s, "loss-of-database": record.to_files_s}.get(disaster)
        if rto_s is not None:
            return Measured(
                disaster=disaster,
                means=_MEANS[disaster],
                rto_s=rto_s,
                rpo_s=0.0 if record.messages_lost == 0 else None,
                messages_lost=record.messages_lost,
                when=record.started_at,
                by=f"drill {record.id}" + ("" if record.passed else ", which failed"),
            )
    return None


def _of_tests(disaster: Disaster, tests: Sequence[ProvenBackup]) -> Measured | None:
    if disaster in _BY_DRILL:
        return None
    far = disaster in ("data-centre", "everything")
    fitting = [one for one in tests if one.elsewhere or not far]
    if not fitting:
        return None
    newest = max(fitting, key=lambda one: one.test.at)
    return Measured(
        disaster=disaster,
        means=_MEANS[disaster],
        rto_s=newest.test.rto_s,
        rpo_s=newest.test.rpo_s,
        rows=newest.test.rows,
        when=newest.test.at,
        by=f"restore test of {newest.name}",
    )


def proven_backups(root: Path) -> list[ProvenBackup]:
    """Every restore test that went well of the backups in `root`. Raises `BackupFailed` where it cannot be read."""
    return [
        ProvenBackup(
            name=backup.name,
            test=test,
            elsewhere=any(upload.at is not None for upload in backup.record.uploads.values()),
        )
        for backup in Catalogue(root).backups()
        for test in backup.record.restore_tests
        if test.ok
    ]


@dataclass(frozen=True, slots=True)
class _Rows(Generic[T]):
    rows: list[T]
    why: str = ""


def _read(source: Callable[[], list[T]]) -> _Rows[T]:
    try:
        return _Rows(source())
    except StandfastError as error:
        return _Rows([], error.message)
