"""Which backups go when a new one has been proven good.

Invariant: only good backups count, and the newest good one is always kept. What is dated in the future, and what cannot
be read, is neither counted nor removed: a clock that was set back, or a version older than the backups, costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from standfast.jobs.backup.catalogue import Backup, State
from standfast.jobs.backup.manifest import Kind

FUTURE_S = 300.0  # two clocks of one fleet may differ by so much
MONTH, DAY = "%Y-%m", "%Y-%m-%d"


@dataclass(frozen=True, slots=True)
class Dated:
    """A backup as far as rotation looks at it. `at`: seconds since 1970."""

    name: str
    at: float
    kinds: tuple[Kind, ...]
    state: State


def dated(backups: Iterable[Backup], identity: str) -> list[Dated]:
    """Those of the database with this identity; another's, in the same directory, are not ours to count."""
    return [
        Dated(one.name, one.manifest.snapshot_at, tuple(one.manifest.kinds), one.state)
        for one in backups
        if one.manifest is not None and one.manifest.identity == identity
    ]


def keep(backups: Sequence[Dated], keep_daily: int, keep_monthly: int, now: float) -> set[str]:
    """Names of those that stay: the newest good backup of each of the last `keep_daily` days and `keep_monthly` months
    that have one (in UTC; days and months without one do not count). Bad ones stay for a look, the newest `keep_daily`
    of them; they and unproven ones stay until they are older than every daily one that is kept. Where nothing is good,
    all stay."""
    known = sorted((one for one in backups if one.at <= now + FUTURE_S), key=lambda one: (-one.at, one.name))
    kept = {one.name for one in backups} - {one.name for one in known}
    good = [one for one in known if one.state == "good"]
    if not good:
        return {one.name for one in backups}
    daily = _newest_of_each([one for one in good if "daily" in one.kinds], DAY, keep_daily)
    monthly = _newest_of_each([one for one in good if "monthly" in one.kinds], MONTH, keep_monthly)
    oldest_at = min(one.at for one in daily or good[:1])
    recent = [one for one in known if one.at >= oldest_at]
    bad = [one for one in recent if one.state == "bad"][:keep_daily]
    unproven = [one for one in recent if one.state == "unproven"]
    return kept | {one.name for one in (good[0], *daily, *monthly, *bad, *unproven)}


def removable(backups: Sequence[Dated], keep_daily: int, keep_monthly: int, now: float) -> list[str]:
    """Names of the others, oldest first."""
    kept = keep(backups, keep_daily, keep_monthly, now)
    return [one.name for one in sorted(backups, key=lambda one: one.at) if one.name not in kept]


def is_first_of_month(backups: Iterable[Dated], now: float) -> bool:
    """Whether a backup that is made now is a monthly one by itself: no good one of this month is."""
    month = _period(now, MONTH)
    return not any(
        one.state == "good" and "monthly" in one.kinds and _period(one.at, MONTH) == month for one in backups
    )


def _newest_of_each(newest_first: Sequence[Dated], period: str, count: int) -> list[Dated]:
    found: dict[str, Dated] = {}
    for one in newest_first:
        found.setdefault(_period(one.at, period), one)
    return list(found.values())[:count]


def _period(at: float, form: str) -> str:
    return time.strftime(form, time.gmtime(at))
