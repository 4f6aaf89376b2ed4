"""When the keys are counted anew, and when the last count is carried on instead.

Invariant: counting takes less than a hundredth of one core over time; and no estimate changes the verdict where a count
is affordable.
"""

from __future__ import annotations

from standfast.health.thresholds import Thresholds
from standfast.postgres.census import Census
from standfast.postgres.estimates import Estimate

SMALL_S = 240.0  # just under the interval at which the watch ticks
LARGE_S = 3_540.0
EARLY_LARGE_S = 900.0
LARGE_KEYS = 200_000
LARGE_BYTES = 128 * 2**20
COST_FACTOR = 100.0  # a count is not repeated before this many times its duration
ENLARGE_BELOW_S = 3.0  # a sample that takes longer would take too long at ten times its size
SMALLEST_SHARE = 0.01


def is_due(census: Census, elapsed_s: float, now: Estimate, thresholds: Thresholds) -> bool:
    """Whether the keys are to be counted anew, `elapsed_s` after `census`."""
    affordable_s = COST_FACTOR * census.duration_s
    if census.retention_days != thresholds.retention_days:
        return True
    large = max(census.keys, now.keys) > LARGE_KEYS or now.heap_bytes > LARGE_BYTES
    if elapsed_s >= max(affordable_s, LARGE_S if large else SMALL_S):
        return True
    early = elapsed_s >= max(affordable_s, EARLY_LARGE_S if large else SMALL_S)
    return early and (counters_went_back(census, now) or _may_change(census, elapsed_s, now, thresholds))


def counters_went_back(census: Census, now: Estimate) -> bool:
    """Whether the server's statistics were reset, so that nothing can be carried on from then."""
    return now.inserted < census.inserted or now.deleted < census.deleted


def keys_now(census: Census, now: Estimate) -> int:
    """About how many keys there are: those counted, with what came and went since."""
    if counters_went_back(census, now):
        return census.keys
    return max(0, census.keys + (now.inserted - census.inserted) - (now.deleted - census.deleted))


def next_share(share: float, duration_s: float | None) -> float:
    """What part of the table to count next; `duration_s` None: this part could not be counted in time."""
    if duration_s is None:
        return max(SMALLEST_SHARE, share / 10)
    return min(1.0, share * 10) if duration_s < ENLARGE_BELOW_S else share


def level_of(expired: int, thresholds: Thresholds) -> int:
    """0: no word about so many expired keys; 1: a warning; 2: an error."""
    return (expired >= thresholds.expired_warning) + (expired >= thresholds.expired_error)


def _may_change(census: Census, elapsed_s: float, now: Estimate, thresholds: Thresholds) -> bool:
    """Keys that passed their age limit may have made it worse, those removed better."""
    found = sum(census.expired.values())
    level = level_of(found, thresholds)
    removed = now.deleted - census.deleted
    return (
        level_of(census.expired_after(elapsed_s), thresholds) > level
        or level_of(found - removed, thresholds) < level
    )
