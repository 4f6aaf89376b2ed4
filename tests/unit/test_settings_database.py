"""Which server the settings name, and how it is shown."""

from __future__ import annotations

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from standfast.settings import Settings
from standfast.settings.server import libpq_names_a_server

AWKWARD = "<>|}%@:/ 'q\\"


@pytest.fixture(autouse=True)
def _no_libpq_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)


def shown(settings: Settings, name: str) -> object:
    """The value under which `name` is displayed."""
    return next(view.value for view in settings.views() if view.name == name)


def test_a_connection_string_is_taken_as_libpq_reads_it() -> None:
    """Several hosts, target_session_attrs and TLS options come through."""
    url = SecretStr("postgresql://bot@a:5432,b:5433/wa?target_session_attrs=read-write&sslmode=verify-full")
    settings = Settings(database_url=url)
    assert not settings.database_is_embedded
    assert settings.database_parameters() == {
        "host": "a,b",
        "port": "5432,5433",
        "user": "bot",
        "dbname": "wa",
        "target_session_attrs": "read-write",
        "sslmode": "verify-full",
    }


def test_parts_complete_a_connection_string() -> None:
    """A password given apart is taken as it stands, whatever characters it has."""
    settings = Settings(
        postgres_connection_string=SecretStr("host=db user=bot"),
        postgres_password=SecretStr(AWKWARD),
        postgres_database="wa",
    )
    parameters = settings.database_parameters()
    assert parameters == {"host": "db", "user": "bot", "password": AWKWARD, "dbname": "wa"}
    assert conninfo_to_dict(make_conninfo("", **parameters))["password"] == AWKWARD


def test_parts_alone_mean_localhost() -> None:
    """Existing bots that name only user and database connect to localhost; so does Standfast."""
    settings = Settings(postgres_user="bot", postgres_port=6432)
    assert settings.database_parameters() == {"host": "localhost", "port": "6432", "user": "bot"}


@pytest.mark.parametrize("name", ["PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGSERVICE"])
def test_libpqs_own_variables_name_a_server(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """They are left to libpq: an external server, and no parameters of ours over it."""
    monkeypatch.setenv(name, "5432")
    settings = Settings()
    assert libpq_names_a_server()
    assert not settings.database_is_embedded
    assert settings.database_parameters() == {}
    assert "host" not in Settings(postgres_user="bot").database_parameters()


def test_limits_of_the_pool_do_not_name_a_server() -> None:
    """POSTGRES_MAX_CONNECTIONS also counts for the embedded database."""
    assert Settings(postgres_max_connections=4).database_is_embedded


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://bot:hush@db/wa",
        "postgresql://bot@db/wa?password=hush&sslmode=require",
        "host=db password=hush user=bot",
        "host=db password='hush hush' user=bot",
        "postgresql://bot:hush@a,b/wa?sslpassword=hush",
    ],
)
def test_passwords_of_connection_strings_are_masked(dsn: str) -> None:
    """The rest of the string stays readable: it is what one looks for."""
    settings = Settings(database_url=SecretStr(dsn))
    display = str(shown(settings, "DATABASE_URL"))
    assert "hush" not in display + repr(settings)
    assert "bot" in display
    assert "********" in display


def test_other_secrets_are_masked() -> None:
    """Passwords and tokens wholly; of a phone number the last two digits stay."""
    settings = Settings(
        postgres_password=SecretStr("a=b://hush"),
        telegram_bot_token=SecretStr("12345:hush"),
        telegram_chat_id="42",
        sentry_dsn=SecretStr("https://hush@sentry.example/1"),
        whatsapp_phone_number=SecretStr("+7 999 000-00-01"),
    )
    assert shown(settings, "POSTGRES_PASSWORD") == "********"
    assert shown(settings, "TELEGRAM_BOT_TOKEN") == "********"
    assert shown(settings, "SENTRY_DSN") == "https://********@sentry.example/1"
    assert shown(settings, "WHATSAPP_PHONE_NUMBER") == "…01"
    assert "hush" not in repr(settings)
    assert "999" not in repr(settings)
