"""The settings of what keeps the tables clean and copies of them safe: cleanup, backups, change log, schedule.

Invariant: `Settings` adds nothing to these but their values' sources; none names a file that has to exist yet.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings

from standfast.settings.places import absolute

AbsolutePath = Annotated[Path, AfterValidator(absolute)]
Cron = Annotated[str, Field(min_length=1, max_length=100)]
"""Five fields, as crontab(5) has them, or "off"."""


class KeepingSettings(BaseSettings):
    """The part of `Settings` that the jobs read."""

    db_cleanup_retention_days: int = Field(30, alias="DB_CLEANUP_RETENTION_DAYS", ge=1, le=3_650)
    db_cleanup_policy: Literal["safe", "legacy"] = Field("safe", alias="DB_CLEANUP_POLICY")
    db_cleanup_ceiling: int = Field(10_000, alias="DB_CLEANUP_CEILING", ge=1)
    db_cleanup_trash_days: int = Field(14, alias="DB_CLEANUP_TRASH_DAYS", ge=1, le=365)
    backup_root: AbsolutePath | None = Field(None, alias="BACKUP_ROOT")
    backup_max_age_h: float = Field(26.0, alias="STANDFAST_BACKUP_MAX_AGE_H", gt=0, le=8_760)
    backup_keep_daily: int = Field(7, alias="BACKUP_KEEP_DAILY", ge=1, le=3_650)
    backup_keep_monthly: int = Field(4, alias="BACKUP_KEEP_MONTHLY", ge=1, le=1_200)
    backup_zstd_level: int = Field(1, alias="BACKUP_ZSTD_LEVEL", ge=1, le=19)
    backup_recipients: str | None = Field(None, alias="BACKUP_RECIPIENTS")
    backup_identity_file: AbsolutePath | None = Field(None, alias="BACKUP_IDENTITY_FILE")
    backup_remotes: SecretStr | None = Field(None, alias="BACKUP_REMOTES")
    pg_bin_dir: AbsolutePath | None = Field(None, alias="STANDFAST_PG_BIN_DIR")
    change_log: Literal["on", "off"] = Field("on", alias="STANDFAST_CHANGE_LOG")
    change_log_keep_days: float = Field(7.0, alias="STANDFAST_CHANGE_LOG_KEEP_DAYS", gt=0, le=3_650)
    change_log_segment_s: float = Field(10.0, alias="STANDFAST_CHANGE_LOG_SEGMENT_S", ge=0.2, le=3_600)
    schedule: Literal["on", "off"] = Field("on", alias="STANDFAST_SCHEDULE")
    time_zone: str = Field("UTC", alias="STANDFAST_TIME_ZONE", min_length=1, max_length=60)
    cleanup_cron: Cron = Field("0 3 * * *", alias="STANDFAST_CLEANUP_CRON")
    backup_cron: Cron = Field("0 3 * * *", alias="STANDFAST_BACKUP_CRON")
    validate_cron: Cron = Field("30 3 * * *", alias="STANDFAST_VALIDATE_CRON")
    restore_test_cron: Cron = Field("0 4 1 * *", alias="STANDFAST_RESTORE_TEST_CRON")
