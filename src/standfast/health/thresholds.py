"""`Thresholds`: from where on a figure is worth a word.

Invariant: one object for what is shown and what is alerted, so that both always agree.
"""

from __future__ import annotations

from dataclasses import dataclass

from standfast.settings import Settings

SLOW_ALERT_COUNT = 3  # slow statements within SLOW_WINDOW_S that are more than a warning
SLOW_WINDOW_S = 300.0
WAITING_ALERT = 5  # more waiting calls than these are more than a warning


@dataclass(frozen=True, slots=True)
class Thresholds:
    slow_s: float = 0.5
    pool_usage: float = 0.8
    retention_days: int = 30
    expired_warning: int = 100
    expired_error: int = 500
    backup_max_age_s: float = 26 * 3600.0
    deaf_after_s: float = 90.0
    host_memory_bytes: int = 2_048 * 2**20


def thresholds_of(settings: Settings) -> Thresholds:
    return Thresholds(
        slow_s=settings.db_query_latency_threshold_ms / 1000,
        pool_usage=settings.db_pool_usage_threshold,
        retention_days=settings.db_cleanup_retention_days,
        expired_warning=settings.expired_keys_warning,
        expired_error=settings.expired_keys_error,
        backup_max_age_s=settings.backup_max_age_h * 3600,
        deaf_after_s=settings.deaf_after_s,
        host_memory_bytes=settings.host_memory_mb * 2**20,
    )
