"""Driver errors become ours, with a cause, and without what they quote."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from standfast.errors import DatabaseRejected, DatabaseUnavailable
from standfast.postgres.failures import from_driver, is_transient

CONNECT = 'connection failed: connection to server at "10.0.0.5", port 5432 failed: '


@pytest.mark.parametrize(
    ("text", "cause", "transient"),
    [
        (CONNECT + "Connection refused\n\tIs the server running on that host?", "refused", True),
        (CONNECT + 'FATAL:  password authentication failed for user "x"', "password", False),
        (CONNECT + 'FATAL:  database "x" does not exist', "no_database", False),
        (CONNECT + 'FATAL:  role "x" does not exist', "password", False),
        (
            CONNECT + 'FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "x", no encryption',
            "access",
            False,
        ),
        (CONNECT + 'FATAL:  permission denied for database "x"', "rights", False),
        (CONNECT + "FATAL:  sorry, too many clients already", "too_many_connections", True),
        (CONNECT + "FATAL:  remaining connection slots are reserved for roles", "too_many_connections", True),
        (CONNECT + "FATAL:  the database system is starting up", "starting", True),
        (CONNECT + "FATAL:  the database system is shutting down", "shutdown", True),
        (CONNECT + "server does not support SSL, but SSL was required", "tls", False),
        (CONNECT + "SSL error: certificate verify failed", "tls", False),
        (CONNECT + "session is read-only", "read_only", False),
        (
            CONNECT + "FATAL:  unsupported startup parameter in options: statement_timeout",
            "transaction_pooling",
            False,
        ),
        ("failed to resolve host 'db': [Errno -2] Name or service not known", "dns", True),
        ("[Errno -3] Temporary failure in name resolution", "dns", True),
        ("connection timeout expired", "timeout", True),
        ("consuming input failed: server closed the connection unexpectedly", "reset", True),
        ("the connection is closed", "reset", True),
        ("etwas ganz anderes", "reset", True),
    ],
)
def test_a_failed_connection_is_told_by_its_text(text: str, cause: str, transient: bool) -> None:
    error = from_driver(psycopg.OperationalError(text), "db:5432")
    assert error.facts == {"cause": cause}
    assert is_transient(error) is transient
    assert error.next_step
    assert "10.0.0.5" not in error.message


def test_of_several_hosts_what_must_be_corrected_speaks() -> None:
    text = f'{CONNECT}Connection refused\n- {CONNECT}FATAL:  password authentication failed for user "x"'
    assert from_driver(psycopg.OperationalError(text), "db").facts["cause"] == "password"


@pytest.mark.parametrize(
    ("kind", "ours", "cause", "transient"),
    [
        (errors.ConnectionFailure, DatabaseUnavailable, "reset", True),
        (errors.AdminShutdown, DatabaseUnavailable, "shutdown", True),
        (errors.CrashShutdown, DatabaseUnavailable, "shutdown", True),
        (errors.CannotConnectNow, DatabaseUnavailable, "starting", True),
        (errors.TooManyConnections, DatabaseUnavailable, "too_many_connections", True),
        (errors.QueryCanceled, DatabaseUnavailable, "timeout", True),
        (errors.DiskFull, DatabaseUnavailable, "disk_full", False),
        (errors.ReadOnlySqlTransaction, DatabaseUnavailable, "read_only", False),
        (errors.DeadlockDetected, DatabaseUnavailable, "conflict", False),
        (errors.OutOfMemory, DatabaseUnavailable, "resources", False),
        (errors.DataCorrupted, DatabaseUnavailable, "server", False),
        (errors.InsufficientPrivilege, DatabaseRejected, "rights", False),
        (errors.UndefinedTable, DatabaseRejected, "schema", False),
        (errors.UniqueViolation, DatabaseRejected, "constraint", False),
        (errors.UntranslatableCharacter, DatabaseRejected, "value", False),
        (errors.ProgramLimitExceeded, DatabaseRejected, "limit", False),
        (errors.InvalidSqlStatementName, DatabaseRejected, "transaction_pooling", False),
        (errors.InvalidPassword, DatabaseRejected, "password", False),
    ],
)
def test_an_sqlstate_decides(
    kind: type[psycopg.Error], ours: type[Exception], cause: str, transient: bool
) -> None:
    error = from_driver(kind("secret row contents"), "db:5432")
    assert type(error) is ours
    assert error.facts == {"cause": cause, "sqlstate": kind.sqlstate}
    assert is_transient(error) is transient
    assert "secret row contents" not in error.message
