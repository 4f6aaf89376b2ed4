"""How PostgreSQL's own programs are told where the server is."""

from __future__ import annotations

import pytest
from psycopg.conninfo import conninfo_to_dict

from standfast.errors import SettingsError
from standfast.postgres.client_connection import Endpoint, client_connection
from standfast.postgres.options import DatabaseOptions

SECRET = "hunter2-marker"


def test_the_password_goes_by_the_environment() -> None:
    """Whichever way it was given; what an operator wrote of TLS, sessions and timeouts stands."""
    url = f"postgresql://bot:{SECRET}@db:5433/wa?sslmode=verify-full&options=-c%20search_path%3Dbot"
    for options in (DatabaseOptions(url), DatabaseOptions(host="db", user="bot", password=SECRET)):
        made = client_connection(options, application_name="standfast backup")
        assert SECRET not in made.conninfo
        assert made.environment["PGPASSWORD"] == SECRET
        assert SECRET not in repr(made)
    given = conninfo_to_dict(client_connection(DatabaseOptions(url), application_name="x").conninfo)
    assert given["sslmode"] == "verify-full"
    assert given["options"] == "-c search_path=bot"


def test_a_passphrase_that_has_no_variable_is_refused() -> None:
    """It would stand on the command line."""
    options = DatabaseOptions(f"host=db sslkey=/k sslpassword={SECRET}")
    with pytest.raises(SettingsError, match="sslpassword") as caught:
        client_connection(options, application_name="x")
    assert SECRET not in str(caught.value)


def test_nothing_of_ours_reaches_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """libpq's own variables do."""
    monkeypatch.setenv("PGSSLROOTCERT", "/ca.pem")
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", SECRET)
    environment = client_connection(DatabaseOptions(host="db"), application_name="x").environment
    assert environment["PGSSLROOTCERT"] == "/ca.pem"
    assert SECRET not in environment.values()


def test_of_several_hosts_the_one_that_was_reached_is_asked() -> None:
    """A snapshot exists on one server only."""
    options = DatabaseOptions("host=one,two port=5432,5433 load_balance_hosts=random")
    at = Endpoint(host="two", hostaddr="192.0.2.2", port=5433)
    given = conninfo_to_dict(client_connection(options, application_name="x", at=at).conninfo)
    assert (given["host"], given["hostaddr"], given["port"]) == ("two", "192.0.2.2", "5433")
    assert "load_balance_hosts" not in given
    socket = Endpoint(host="/run/postgresql", hostaddr="", port=5432)
    given = conninfo_to_dict(client_connection(options, application_name="x", at=socket).conninfo)
    assert "hostaddr" not in given
