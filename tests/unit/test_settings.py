"""Settings: where they come from, what is refused, and that no secret is ever shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from standfast.errors import SettingsError
from standfast.settings import COMMAND_LINE, Settings, load_settings
from standfast.settings.model import name_of

SECRET = "s3cret-never-shown"
NAMES = [name_of(field) for field in Settings.model_fields]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither this machine's variables nor a developer's .env reach a test."""
    for name in tuple(os.environ):
        if name.startswith(("PG", "POSTGRES_", "STANDFAST_")) or name in NAMES:
            monkeypatch.delenv(name)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def refused(match: str) -> str:
    """The message of the `SettingsError` that loading raises."""
    with pytest.raises(SettingsError, match=match) as caught:
        load_settings()
    return f"{caught.value.message} {caught.value.next_step}"


def test_the_defaults_need_nothing(tmp_path: Path) -> None:
    """Nothing set: an embedded database and the documented defaults."""
    settings = load_settings()
    assert settings.database_is_embedded
    assert settings.database_parameters() == {}
    assert settings.credentials_cache_ttl_ms == 300_000
    assert settings.db_query_latency_threshold_ms == 500
    assert settings.db_pool_usage_threshold == 0.8
    assert settings.db_cleanup_retention_days == 30
    assert settings.state_dir == tmp_path / "home" / ".local" / "state" / "standfast"
    assert set(settings.sources.values()) == {"default"}


def test_the_state_directory_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_STATE_HOME moves the default."""
    monkeypatch.setenv("XDG_STATE_HOME", "/var/lib/xdg")
    assert load_settings().state_dir == Path("/var/lib/xdg/standfast")


def test_each_value_knows_its_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Command line before environment before .env before default, and each is told."""
    Path(".env").write_text(
        "POSTGRES_MAX_CONNECTIONS=3\nDB_CLEANUP_RETENTION_DAYS=3\nSTANDFAST_STATE_DIR=/dotenv\nSENTRY_DSN=\n"
    )
    monkeypatch.setenv("DB_CLEANUP_RETENTION_DAYS", "4")
    monkeypatch.setenv("STANDFAST_STATE_DIR", "/environment")
    monkeypatch.setenv("POSTGRES_HOST", "")
    token = COMMAND_LINE.set({"STANDFAST_STATE_DIR": tmp_path, "NODE_BINARY": None})
    try:
        settings = load_settings()
    finally:
        COMMAND_LINE.reset(token)
    assert (settings.postgres_max_connections, settings.sources["POSTGRES_MAX_CONNECTIONS"]) == (3, ".env")
    assert (settings.db_cleanup_retention_days, settings.sources["DB_CLEANUP_RETENTION_DAYS"]) == (
        4,
        "environment",
    )
    assert (settings.state_dir, settings.sources["STANDFAST_STATE_DIR"]) == (tmp_path, "command line")
    assert settings.sources["SENTRY_DSN"] == "default", "an empty value is no value"
    assert settings.sources["NODE_BINARY"] == "default"
    assert (settings.postgres_host, settings.sources["POSTGRES_HOST"]) == (None, "default")


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("POSTGRES_PORT", "70000", "less than or equal to 65535"),
        ("POSTGRES_PORT", "abc", "valid integer"),
        ("POSTGRES_MAX_CONNECTIONS", "0", "greater than or equal to 1"),
        ("DB_POOL_USAGE_THRESHOLD", "80", "less than or equal to 1"),
        ("CREDENTIALS_CACHE_TTL_MS", "-5", "greater than or equal to 1"),
        ("USE_PAIRING_CODE", "maybe", "valid boolean"),
        ("STANDFAST_LOG", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("STANDFAST_DEFAULT_REGION", "Germany", "two capital letters"),
    ],
)
def test_a_bad_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, fault: str) -> None:
    """The error names the variable, its value, its source and its fault."""
    monkeypatch.setenv(name, value)
    message = refused(name)
    assert f"{name}='{value}' (from environment)" in message
    assert fault in message


def test_all_bad_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator should not have to find them one by one."""
    Path(".env").write_text("POSTGRES_PORT=0\n")
    monkeypatch.setenv("DB_CLEANUP_RETENTION_DAYS", "0")
    message = refused("POSTGRES_PORT")
    assert "(from .env)" in message
    assert "DB_CLEANUP_RETENTION_DAYS='0' (from environment)" in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", f"mysql://u:{SECRET}@h/d"),
        ("DATABASE_URL", f"postgresql+asyncpg://u:{SECRET}@h/d"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}%zz@h/d"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@{SECRET}@h/d"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}/{SECRET}@h/d"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@h/d?{SECRET}=1"),
        ("POSTGRES_CONNECTION_STRING", f"host=h password='{SECRET}"),
        ("POSTGRES_CONNECTION_STRING", SECRET),
        ("SENTRY_DSN", SECRET),
        ("TELEGRAM_BOT_TOKEN", SECRET),
        ("WHATSAPP_PHONE_NUMBER", SECRET),
    ],
)
def test_a_bad_secret_is_refused_without_repeating_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Malformed secrets are refused by name; no part of them is echoed."""
    monkeypatch.setenv(name, value)
    assert SECRET not in refused(name)


def test_a_url_with_parameters_of_other_drivers_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prisma's and SQLAlchemy's additions are the commonest reason."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://u@h/d?schema=public&pgbouncer=true&sslmode=require")
    assert "does not know: pgbouncer, schema" in refused("DATABASE_URL")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"POSTGRES_CONNECT_TIMEOUT_MS": "9000"}, "POSTGRES_CHECKOUT_TIMEOUT_MS"),
        ({"DB_QUERY_LATENCY_THRESHOLD_MS": "5000"}, "POSTGRES_STATEMENT_TIMEOUT_MS"),
        ({"CREDENTIALS_CACHE_TTL_MS": "8000"}, "POSTGRES_CONNECT_TIMEOUT_MS"),
        ({"TELEGRAM_CHAT_ID": "42"}, "TELEGRAM_BOT_TOKEN"),
        ({"DATABASE_URL": "postgresql://a", "POSTGRES_CONNECTION_STRING": "postgresql://b"}, "differ"),
        ({"DATABASE_URL": "postgresql://a", "POSTGRES_HOST": "b"}, "POSTGRES_HOST name different"),
        (
            {"DATABASE_URL": f"postgresql://u:{SECRET}@a", "POSTGRES_PASSWORD": f"{SECRET}2"},
            "POSTGRES_PASSWORD",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], named: str
) -> None:
    """Each names both, or the one that is missing, and says how to agree."""
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    message = refused(named)
    assert all(name in message for name in values)
    assert SECRET not in message


def test_a_torn_dotenv_is_refused() -> None:
    """A line that is not NAME=value would otherwise be skipped in silence."""
    Path(".env").write_text("POSTGRES_HOST=h\nPOSTGRES_PASSWORD='open\n")
    assert "line 2 of .env" in refused("is not NAME=value")


def test_a_dotenv_that_is_no_text_is_refused() -> None:
    """Bytes that are not UTF-8 are an error, not an absence."""
    Path(".env").write_bytes(b"POSTGRES_PASSWORD=\xff\xfe\n")
    refused("cannot be read")
    Path(".env").unlink()
    Path(".env").mkdir()
    refused("cannot be read")


def test_names_that_are_no_settings_are_remarked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt name is not obeyed in silence, nor is a PG* variable that libpq cannot see."""
    Path(".env").write_text("PGHOST=db.internal\nSTANDFAST_STATEDIR=/x\n")
    monkeypatch.setenv("POSTGRES_DB", "bot")
    monkeypatch.setenv("STANDFAST_HOST_TOKEN", "from-the-service")
    assert load_settings().ignored == (
        "POSTGRES_DB is not a setting; did you mean POSTGRES_DATABASE?",
        "STANDFAST_STATEDIR is not a setting; did you mean STANDFAST_STATE_DIR?",
        "PGHOST in .env is not seen by libpq; export it, or use DATABASE_URL",
    )


def test_settings_built_directly_read_no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tests and embedding programs get what they pass, whatever the environment says."""
    monkeypatch.setenv("POSTGRES_MAX_CONNECTIONS", "7")
    settings = Settings(state_dir=tmp_path)
    assert settings.postgres_max_connections == 10
    assert settings.sources["STANDFAST_STATE_DIR"] == "command line"


def test_the_simulator_is_kept_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever server is named, the simulator's companies live in an embedded database of their own, and nothing of
    them comes among real backups."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://u@prod/db")
    monkeypatch.setenv("PGHOST", "prod")
    monkeypatch.setenv("STANDFAST_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("BACKUP_ROOT", str(tmp_path / "backups"))
    apart = load_settings().for_simulator()
    assert apart.database_is_embedded
    assert apart.database_parameters() == {}
    assert apart.state_dir == tmp_path / "simulator"
    assert apart.backup_directory.is_relative_to(apart.state_dir)
    assert apart.backup_remotes is None
