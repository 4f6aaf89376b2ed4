"""Connection options: libpq's rules, and no secret shown."""

from __future__ import annotations

import pytest
from psycopg.conninfo import conninfo_to_dict

from standfast.errors import SettingsError
from standfast.postgres.options import DatabaseOptions

NASTY = "<>|}%@:/ 'quoted\\ \"#?&="


def test_any_password_survives_the_connection_string() -> None:
    assert conninfo_to_dict(DatabaseOptions(password=NASTY).to_conninfo())["password"] == NASTY


def test_fields_fill_what_the_string_leaves_out() -> None:
    """The DSN speaks first; a password given apart completes a URL without one."""
    options = DatabaseOptions(conninfo="postgresql://me@db.example/bots", host="other", password=NASTY)
    found = conninfo_to_dict(options.to_conninfo())
    assert (found["host"], found["user"], found["dbname"], found["password"]) == (
        "db.example",
        "me",
        "bots",
        NASTY,
    )


def test_an_operators_own_limits_win() -> None:
    dsn = "host=db options='-c statement_timeout=9s -c search_path=bots' connect_timeout=9 tcp_user_timeout=1"
    found = conninfo_to_dict(DatabaseOptions(conninfo=dsn).to_conninfo())
    assert str(found["options"]).endswith("-c statement_timeout=9s -c search_path=bots")
    assert (found["connect_timeout"], found["tcp_user_timeout"]) == ("9", "1")


def test_libpq_parameters_pass_through() -> None:
    dsn = "postgresql://a,b:6432/x?target_session_attrs=read-write&sslmode=verify-full"
    found = conninfo_to_dict(DatabaseOptions(conninfo=dsn).to_conninfo())
    assert found["host"] == "a,b"
    assert (found["target_session_attrs"], found["sslmode"]) == ("read-write", "verify-full")


def test_every_host_gets_its_time_to_connect() -> None:
    for address in ("127.0.0.1", "::1", "/run/postgresql"):
        assert DatabaseOptions(host=address, connect_timeout_s=1.5).connect_deadline_s() == 1.5
    assert DatabaseOptions(host="10.0.0.1,10.0.0.2", connect_timeout_s=3).connect_deadline_s() == 6
    assert DatabaseOptions(host="a-name", connect_timeout_s=3).connect_deadline_s() == 6, "IPv6 and IPv4"


def test_libpqs_environment_names_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "db-from-environment")
    assert DatabaseOptions().describe().startswith("db-from-environment:")
    assert "host" not in conninfo_to_dict(DatabaseOptions().to_conninfo())


def test_transaction_pooling_sets_no_session_parameters() -> None:
    found = conninfo_to_dict(DatabaseOptions(host="db", transaction_pooling=True).to_conninfo())
    assert "options" not in found


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:made@up@db/x",
        "postgresql://u:made/up@db/x",
        "postgres://u:made%up@db/x",
        "postgresql://u:made@db:5x32/x",
        "postgresql://u:made@db/x?nonsense=1",
        "host=db password='made",
        "made up",
    ],
)
def test_a_misencoded_string_is_refused_without_quoting_it(url: str) -> None:
    """It would take a piece of the password for the host: an error that says how to give it, and shows none of it."""
    with pytest.raises(SettingsError) as caught:
        DatabaseOptions(conninfo=url).to_conninfo()
    assert "POSTGRES_PASSWORD" in caught.value.next_step
    assert "made" not in f"{caught.value} {caught.value.next_step}"
    assert caught.value.__cause__ is None


def test_what_is_shown_holds_no_secret() -> None:
    options = DatabaseOptions(conninfo="postgresql://u:made-up@db:5433/x", password="made-up")
    assert options.describe() == "db:5433, database x"
    assert "made-up" not in repr(options)


@pytest.mark.parametrize(
    ("conninfo", "told"),
    [
        ("host=a,b port=1,2 dbname=x", "a:1, b:2, database x"),
        ("host=a,b port=7 dbname=x", "a:7, b:7, database x"),
        ("host=a,b dbname=x", "a:5432, b:5432, database x"),
    ],
)
def test_each_host_is_told_with_its_port(conninfo: str, told: str) -> None:
    """As libpq pairs them."""
    assert DatabaseOptions(conninfo=conninfo).describe() == told
