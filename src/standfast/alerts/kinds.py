"""How often each kind of alert is told.

Invariant: what is not in the table is told as `DEFAULT_COOLDOWN_S` says; a cooldown holds nothing back that got worse.
"""

from __future__ import annotations

from collections.abc import Mapping

MINUTE_S = 60.0
HOUR_S = 3_600.0
DEFAULT_COOLDOWN_S = 5 * MINUTE_S
REMINDER_S = 24 * HOUR_S  # for what is critical and goes on

COOLDOWNS_S: Mapping[str, float] = {
    # A second outage a minute after the first is no flapping, it is the news.
    "outage_began": MINUTE_S,
    "cached_credentials": 15 * MINUTE_S,
    "expired_keys": 30 * MINUTE_S,
    "journal_growing": 30 * MINUTE_S,
    "session_deaf": 30 * MINUTE_S,
    "host_recycled": HOUR_S,
    "saves_skipped": 30 * MINUTE_S,
    "webhook_failing": 30 * MINUTE_S,
    "webhook_dead_letters": 30 * MINUTE_S,
    "backup_old": 6 * HOUR_S,
    "backup_none": 6 * HOUR_S,
    "backup_unreadable": HOUR_S,
    "disk_low": 30 * MINUTE_S,
    "memory_low": 30 * MINUTE_S,
    "fds_high": 30 * MINUTE_S,
    "clock_offset": 30 * MINUTE_S,
    "clock_jumped": HOUR_S,
}


def cooldown_s(name: str) -> float:
    """An occurrence is told, and the same again only after so long; so is a trouble that came back after its end."""
    return COOLDOWNS_S.get(name, DEFAULT_COOLDOWN_S)
