"""Settings that make sense only together.

Invariant: settings that pass `check_limits` cannot contradict each other in time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from standfast.errors import SettingsError

if TYPE_CHECKING:
    from standfast.settings.model import Settings


def check_limits(settings: Settings) -> None:
    """Raises `SettingsError` naming both settings of the first pair that contradicts itself."""
    _check_checkout(settings)
    _check_latency(settings)
    _check_grace(settings)
    _check_expired_keys(settings)
    _check_remotes(settings)
    _check_schedule(settings)
    if (settings.telegram_bot_token is None) != (settings.telegram_chat_id is None):
        raise SettingsError(
            "TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_ID are of use only together, and one is missing",
            next_step="Set both, or neither.",
        )


def _check_checkout(settings: Settings) -> None:
    connect, checkout = settings.postgres_connect_timeout_ms, settings.postgres_checkout_timeout_ms
    if checkout < connect:
        raise SettingsError(
            f"POSTGRES_CHECKOUT_TIMEOUT_MS ({checkout}) is below POSTGRES_CONNECT_TIMEOUT_MS ({connect}), "
            "and a checkout may have to open a connection",
            next_step=f"Set POSTGRES_CHECKOUT_TIMEOUT_MS to at least {connect}.",
        )


def _check_latency(settings: Settings) -> None:
    threshold, deadline = settings.db_query_latency_threshold_ms, settings.postgres_statement_timeout_ms
    if threshold >= deadline:
        raise SettingsError(
            f"DB_QUERY_LATENCY_THRESHOLD_MS ({threshold}) can never be reached: "
            f"POSTGRES_STATEMENT_TIMEOUT_MS ({deadline}) ends a statement before",
            next_step="Lower the threshold or raise the timeout.",
        )


def _check_expired_keys(settings: Settings) -> None:
    warning, error = settings.expired_keys_warning, settings.expired_keys_error
    if warning >= error:
        raise SettingsError(
            f"STANDFAST_EXPIRED_KEYS_WARNING ({warning}) is not below STANDFAST_EXPIRED_KEYS_ERROR ({error}), "
            "so it would never be told",
            next_step="Lower the first or raise the second.",
        )


def _check_grace(settings: Settings) -> None:
    grace = settings.credentials_cache_ttl_ms
    probe = settings.postgres_connect_timeout_ms + settings.postgres_statement_timeout_ms
    if grace <= probe:
        raise SettingsError(
            f"CREDENTIALS_CACHE_TTL_MS ({grace}) ends before one try to reach PostgreSQL can fail ({probe}: "
            "POSTGRES_CONNECT_TIMEOUT_MS and POSTGRES_STATEMENT_TIMEOUT_MS together)",
            next_step=f"Set CREDENTIALS_CACHE_TTL_MS above {probe}, or lower the timeouts.",
        )


def _check_remotes(settings: Settings) -> None:
    if settings.backup_remotes is not None and settings.backup_recipients is None:
        raise SettingsError(
            "BACKUP_REMOTES is set and BACKUP_RECIPIENTS is not: auth state would leave this machine in the clear",
            next_step="Set BACKUP_RECIPIENTS to your age recipients ('age-keygen' makes one: age1…), or, where the "
            "remotes encrypt themselves, to 'none'.",
        )
    own = settings.backup_directory
    for remote in settings.remotes:
        if remote.kind != "folder":
            continue
        folder = Path(remote.path)
        if folder.is_relative_to(own) or own.is_relative_to(folder):
            raise SettingsError(
                f"the remote {remote.name} is the directory of the backups themselves, or lies within one another",
                next_step="Name a folder on another disk or machine in BACKUP_REMOTES.",
            )


def _check_schedule(settings: Settings) -> None:
    """What is left at its default is known to be right; to see that again would take every command a while."""
    names = ("cleanup_cron", "backup_cron", "validate_cron", "restore_test_cron")
    fields = type(settings).model_fields
    changed = [name for name in names if getattr(settings, name) != fields[name].default]
    if not changed and settings.time_zone == fields["time_zone"].default:
        return
    from standfast.settings import cron  # APScheduler takes a while to import

    try:
        zone = cron.zone_of(settings.time_zone)
    except ValueError as error:
        raise SettingsError(
            f"STANDFAST_TIME_ZONE: {error}",
            next_step="Name one as Europe/Berlin or UTC; on a machine without data of time zones install 'tzdata'.",
        ) from None
    for name in changed:
        if (value := getattr(settings, name)) == cron.OFF:
            continue
        try:
            cron.Cron(value, zone)
        except ValueError as error:
            raise SettingsError(
                f"{fields[name].alias}={value!r} is no time of cron's: {error}",
                next_step="Write five fields, such as '0 3 * * *' for 03:00 each day, or 'off'.",
            ) from None
