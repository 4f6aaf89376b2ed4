"""The settings themselves: one frozen object.

Invariant: a `Settings` is complete and free of contradictions, knows where each value came from, and neither
its `repr` nor its views show a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PrivateAttr, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from standfast.redaction import MASK, mask_dsn, mask_phone
from standfast.settings.emergency import EmergencySettings
from standfast.settings.keeping import AbsolutePath, KeepingSettings
from standfast.settings.limits import check_limits
from standfast.settings.places import default_state_dir
from standfast.settings.remotes import RemoteAddress, masked_remotes, remote_addresses
from standfast.settings.server import check_connection_string, libpq_names_a_server, libpq_parameters

Source = Literal["default", "environment", ".env", "command line"]


def _dsn(value: SecretStr | None) -> SecretStr | None:
    if value is not None:
        check_connection_string(value.get_secret_value())
    return value


_SERVER_FIELDS = (
    "database_url",
    "postgres_connection_string",
    "postgres_host",
    "postgres_port",
    "postgres_database",
    "postgres_user",
    "postgres_password",
)
_CONNECTION_STRINGS = ("database_url", "postgres_connection_string", "sentry_dsn")
AlertLevel = Literal["info", "warning", "error", "critical"]
Milliseconds = Annotated[int, Field(ge=1, le=86_400_000)]
ConnectionString = Annotated[SecretStr | None, AfterValidator(_dsn)]


@dataclass(frozen=True)
class SettingView:
    """A setting as it may be shown: secrets masked, None where it is not set."""

    name: str
    value: str | int | float | bool | None
    source: Source


class Settings(KeepingSettings, EmergencySettings):
    """The settings in force. `load_settings` builds it; built directly, it reads no environment."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    database_url: ConnectionString = Field(None, alias="DATABASE_URL")
    postgres_connection_string: ConnectionString = Field(None, alias="POSTGRES_CONNECTION_STRING")
    postgres_host: str | None = Field(None, alias="POSTGRES_HOST")
    postgres_port: int | None = Field(None, alias="POSTGRES_PORT", ge=1, le=65_535)
    postgres_database: str | None = Field(None, alias="POSTGRES_DATABASE")
    postgres_user: str | None = Field(None, alias="POSTGRES_USER")
    postgres_password: SecretStr | None = Field(None, alias="POSTGRES_PASSWORD")
    postgres_max_connections: int = Field(10, alias="POSTGRES_MAX_CONNECTIONS", ge=1, le=1_000)
    postgres_connect_timeout_ms: Milliseconds = Field(3_000, alias="POSTGRES_CONNECT_TIMEOUT_MS")
    postgres_checkout_timeout_ms: Milliseconds = Field(5_000, alias="POSTGRES_CHECKOUT_TIMEOUT_MS")
    postgres_statement_timeout_ms: Milliseconds = Field(5_000, alias="POSTGRES_STATEMENT_TIMEOUT_MS")
    credentials_cache_ttl_ms: Milliseconds = Field(300_000, alias="CREDENTIALS_CACHE_TTL_MS")
    outage_grace: Literal["bounded", "unlimited"] = Field("bounded", alias="OUTAGE_GRACE")
    cache_mode: Literal["read-write", "read-only"] = Field("read-write", alias="CACHE_MODE")
    durability: Literal["local", "remote"] = Field("local", alias="STANDFAST_DURABILITY")
    lease_ttl_ms: Milliseconds = Field(15_000, alias="STANDFAST_LEASE_TTL_MS", ge=5_000)
    node_name: str | None = Field(None, alias="STANDFAST_NODE_NAME", max_length=60)
    vault_key_file: AbsolutePath | None = Field(None, alias="STANDFAST_VAULT_KEY_FILE")
    vault_max_mb: int = Field(4_096, alias="STANDFAST_VAULT_MAX_MB", ge=64)
    db_query_latency_threshold_ms: Milliseconds = Field(500, alias="DB_QUERY_LATENCY_THRESHOLD_MS")
    db_pool_usage_threshold: float = Field(0.8, alias="DB_POOL_USAGE_THRESHOLD", gt=0, le=1)
    expired_keys_warning: int = Field(100, alias="STANDFAST_EXPIRED_KEYS_WARNING", ge=1)
    expired_keys_error: int = Field(500, alias="STANDFAST_EXPIRED_KEYS_ERROR", ge=1)
    metrics: Literal["token", "open", "off"] = Field("token", alias="STANDFAST_METRICS")
    sentry_dsn: SecretStr | None = Field(None, alias="SENTRY_DSN")
    telegram_bot_token: SecretStr | None = Field(None, alias="TELEGRAM_BOT_TOKEN")
    telegram_chat_id: str | None = Field(None, alias="TELEGRAM_CHAT_ID")
    telegram_api_url: str = Field(
        "https://api.telegram.org", alias="TELEGRAM_API_URL", pattern=r"^https?://[^\s@?#]+$"
    )
    sentry_environment: str | None = Field(None, alias="SENTRY_ENVIRONMENT", max_length=64)
    sentry_level: AlertLevel = Field("warning", alias="STANDFAST_SENTRY_LEVEL")
    notify_urls: SecretStr | None = Field(None, alias="STANDFAST_NOTIFY_URLS")
    notify_level: AlertLevel = Field("error", alias="STANDFAST_NOTIFY_LEVEL")
    auto_start_monitoring: bool = Field(True, alias="AUTO_START_MONITORING")
    use_pairing_code: bool = Field(False, alias="USE_PAIRING_CODE")
    whatsapp_phone_number: SecretStr | None = Field(None, alias="WHATSAPP_PHONE_NUMBER")
    pairing_fallback: bool = Field(True, alias="STANDFAST_PAIRING_FALLBACK")
    default_region: str | None = Field(None, alias="STANDFAST_DEFAULT_REGION")
    state_dir: AbsolutePath = Field(default_factory=default_state_dir, alias="STANDFAST_STATE_DIR")
    bridge_dir: AbsolutePath | None = Field(None, alias="STANDFAST_BRIDGE_DIR")
    node_binary: str | None = Field(None, alias="NODE_BINARY")
    deaf_after_s: float = Field(90.0, alias="STANDFAST_DEAF_AFTER_S", ge=1, le=3_600)
    sessions_per_host: int = Field(200, alias="STANDFAST_SESSIONS_PER_HOST", ge=1, le=10_000)
    host_memory_mb: int = Field(2_048, alias="STANDFAST_HOST_MEMORY_MB", ge=128)
    new_chats_per_minute: str = Field("12", alias="STANDFAST_NEW_CHATS_PER_MINUTE")
    media_max_mb: int = Field(64, alias="STANDFAST_MEDIA_MAX_MB", ge=1, le=2_000)
    messages_kept_days: float = Field(7.0, alias="STANDFAST_MESSAGES_KEPT_DAYS", gt=0, le=3_650)
    webhook_give_up_h: float = Field(24.0, alias="STANDFAST_WEBHOOK_GIVE_UP_H", gt=0, le=720)
    allow_private_urls: str | None = Field(None, alias="STANDFAST_ALLOW_PRIVATE_URLS")
    http: Literal["on", "off"] = Field("on", alias="STANDFAST_HTTP")
    http_host: str = Field("127.0.0.1", alias="STANDFAST_HTTP_HOST", min_length=1, max_length=253)
    http_port: int = Field(3003, alias="STANDFAST_HTTP_PORT", ge=0, le=65_535)
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", alias="STANDFAST_LOG")

    _sources: Mapping[str, Source] | None = PrivateAttr(None)
    _ignored: tuple[str, ...] = PrivateAttr(())
    _always_embedded: bool = PrivateAttr(False)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only arguments: `load_settings` merges the sources itself, to know which one each value came from."""
        return (init_settings,)

    @field_validator("sentry_dsn")
    @classmethod
    def _check_sentry_dsn(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(
            r"https?://[^@\s]+@[^@\s/]+/\S*\d", value.get_secret_value()
        ):
            raise ValueError("is not a Sentry DSN (https://KEY@HOST/PROJECT)")
        return value

    @field_validator("telegram_bot_token")
    @classmethod
    def _check_bot_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"\d+:\S+", value.get_secret_value()):
            raise ValueError("is not a bot token (digits, a colon, letters)")
        return value

    @field_validator("whatsapp_phone_number")
    @classmethod
    def _check_phone(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(
            r"\+?(?:[ ()./-]*\d){5,17}", value.get_secret_value().strip()
        ):
            raise ValueError("is not a phone number (5 to 17 digits, best with country code)")
        return value

    @field_validator("default_region")
    @classmethod
    def _check_region(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Z]{2}", value):
            raise ValueError("is not a region (two capital letters, such as RU or DE)")
        return value

    @model_validator(mode="after")
    def _check_related(self) -> Self:
        check_limits(self)
        self.database_parameters()
        return self

    def with_sources(self, sources: Mapping[str, Source], ignored: tuple[str, ...]) -> Self:
        """The same settings, told where each value came from; for `load_settings`."""
        told = self.model_copy()
        told._sources, told._ignored = sources, ignored  # noqa: SLF001 - its own copy
        return told

    def for_simulator(self) -> Self:
        """These settings with a state directory and an embedded database of their own, whatever server is
        named: what happens in the simulator must never reach a real company."""
        update = {**dict.fromkeys(_SERVER_FIELDS), "state_dir": self.state_dir / "simulator"}
        update |= {"backup_root": None, "backup_remotes": None, "emergency_dir": None}
        if 0 < self.http_port < 65_535:
            update["http_port"] = self.http_port + 1  # the real service's is left free
        apart = self.model_copy(update=update)
        apart._always_embedded = True  # noqa: SLF001 - its own copy
        return apart

    @property
    def backup_directory(self) -> Path:
        """Where backups lie."""
        return self.backup_root or self.state_dir / "backups"

    @property
    def emergency_directory(self) -> Path:
        """Where the folders of a node that stands on files are."""
        return self.emergency_dir or self.state_dir / "emergency"

    @property
    def remotes(self) -> list[RemoteAddress]:
        """Where copies of backups go."""
        return remote_addresses(self.backup_remotes.get_secret_value() if self.backup_remotes else None)

    @property
    def is_simulated(self) -> bool:
        """Whether these are the settings of a service with the simulator."""
        return self._always_embedded

    @property
    def sources(self) -> Mapping[str, Source]:
        """Where each setting's value came from, by its environment name."""
        known = self._sources
        if known is not None:
            return known
        given = self.model_fields_set
        return {
            name_of(field): "command line" if field in given else "default"
            for field in type(self).model_fields
        }

    @property
    def ignored(self) -> tuple[str, ...]:
        """Remarks on names that look like settings and are none."""
        return self._ignored

    @property
    def database_is_embedded(self) -> bool:
        """Whether no server is named, so that Standfast runs PostgreSQL in its state directory."""
        return self._always_embedded or not (self._names_a_server() or libpq_names_a_server())

    def database_parameters(self) -> dict[str, str]:
        """libpq's parameters of the server that was named, the password among them; empty where libpq's own
        variables name it, or none was named. Raises `SettingsError` where two settings contradict each other."""
        return libpq_parameters(self) if self._names_a_server() else {}

    def views(self) -> list[SettingView]:
        """Every setting as it may be shown."""
        sources = self.sources
        return [
            SettingView(name_of(field), _shown(field, getattr(self, field)), sources[name_of(field)])
            for field in type(self).model_fields
        ]

    def _names_a_server(self) -> bool:
        return any(getattr(self, field) is not None for field in _SERVER_FIELDS)


def name_of(field: str) -> str:
    """The environment name of a field of `Settings`."""
    alias = Settings.model_fields[field].alias
    assert alias is not None, field
    return alias


def _shown(field: str, value: Any) -> str | int | float | bool | None:
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        if field == "whatsapp_phone_number":
            return mask_phone(secret)
        if field == "backup_remotes":
            return masked_remotes(secret)
        return mask_dsn(secret) if field in _CONNECTION_STRINGS else MASK
    return str(value) if isinstance(value, Path) else value
