"""Driver errors become ours here, each with its cause and what the operator does about it.

Invariant: a message is written by us or is the server's primary message: never its detail or context, which
quote rows, and never libpq's text, which can quote a connection string.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import psycopg

from standfast.errors import DatabaseRejected, DatabaseUnavailable, StandfastError

TRANSIENT_CAUSES = frozenset(
    {"dns", "refused", "reset", "timeout", "shutdown", "starting", "too_many_connections"}
)


class Cause(NamedTuple):
    name: str
    error: type[DatabaseUnavailable | DatabaseRejected]
    message: str
    next_step: str | None = None


_PASSWORD = Cause(
    "password",
    DatabaseRejected,
    "PostgreSQL refused the user name or password",
    "Correct POSTGRES_USER and POSTGRES_PASSWORD (or the URL, or .pgpass) and try again.",
)
_RIGHTS = Cause(
    "rights",
    DatabaseRejected,
    "the PostgreSQL account lacks a right",
    "GRANT it what is missing: it reads and writes whatsapp_* and standfast_* and, to migrate, creates tables.",
)
_ACCESS = Cause(
    "access",
    DatabaseRejected,
    "PostgreSQL does not let this host, user or database in (pg_hba.conf)",
    "Add a line for this client to pg_hba.conf, or use an account that may connect.",
)
_DATABASE = Cause(
    "no_database",
    DatabaseRejected,
    "the database does not exist",
    "Create it (CREATE DATABASE …) or correct POSTGRES_DATABASE; then 'standfast migrate'.",
)
_TLS = Cause(
    "tls",
    DatabaseRejected,
    "no TLS connection to PostgreSQL could be agreed on",
    "Check sslmode, sslrootcert and the server's certificate; 'sslmode=verify-full' needs the name in the certificate.",
)
_SLOTS = Cause(
    "too_many_connections",
    DatabaseUnavailable,
    "PostgreSQL has no connection slot left",
    "Lower POSTGRES_MAX_CONNECTIONS, close other clients, or raise the server's max_connections.",
)
_STARTING = Cause(
    "starting",
    DatabaseUnavailable,
    "PostgreSQL is starting up or recovering",
    "Wait: it accepts connections when recovery has ended; its log shows how far it is.",
)
_SHUTDOWN = Cause(
    "shutdown",
    DatabaseUnavailable,
    "PostgreSQL is shutting down or ended the connection",
    "Start PostgreSQL again, or wait for the failover to end.",
)
_DNS = Cause(
    "dns",
    DatabaseUnavailable,
    "the database's host name cannot be resolved",
    "Check POSTGRES_HOST (or the URL's host) and this machine's DNS.",
)
_REFUSED = Cause(
    "refused",
    DatabaseUnavailable,
    "nothing accepts connections at the database's address",
    "Start PostgreSQL, or correct POSTGRES_HOST and POSTGRES_PORT; check listen_addresses and the firewall.",
)
_TIMEOUT = Cause(
    "timeout",
    DatabaseUnavailable,
    "PostgreSQL did not answer in time",
    "Check the server's load, its locks (pg_stat_activity) and the network between here and there.",
)
_RESET = Cause(
    "reset",
    DatabaseUnavailable,
    "the connection to PostgreSQL broke",
    "Check that PostgreSQL runs (its log names a crash or restart) and that no proxy cuts connections.",
)
_READ_ONLY = Cause(
    "read_only",
    DatabaseUnavailable,
    "PostgreSQL is read-only: a standby, or told so",
    "Name every host and target_session_attrs=read-write in the URL, so that the primary is found after a failover.",
)
_DISK = Cause(
    "disk_full",
    DatabaseUnavailable,
    "PostgreSQL's disk is full",
    "Free or add disk space on the database server; nothing was written.",
)
_RESOURCES = Cause(
    "resources",
    DatabaseUnavailable,
    "PostgreSQL is short of a resource",
    "See the server's log; give it memory or raise the limit that it names.",
)
_SERVER = Cause(
    "server",
    DatabaseUnavailable,
    "PostgreSQL failed inside",
    "See the server's log; on damaged pages or files stop it and restore from a backup.",
)
_CONFLICT = Cause("conflict", DatabaseUnavailable, "the statement met another transaction", "Try again.")
_SCHEMA = Cause(
    "schema",
    DatabaseRejected,
    "the database lacks a table, column or function, or has another one than expected",
    "Run 'standfast migrate'; '--dry-run' shows what it would do.",
)
_CONSTRAINT = Cause(
    "constraint",
    DatabaseRejected,
    "a constraint of the database refused the row",
    "Look at the constraint; drop it if a legacy bot made it and nothing needs it.",
)
_VALUE = Cause(
    "value",
    DatabaseRejected,
    "PostgreSQL cannot store a value",
    "A value must be JSON without \\u0000 and without half a surrogate pair; update the client that wrote it.",
)
_LIMIT = Cause(
    "limit",
    DatabaseRejected,
    "a row is too big for an index or another limit",
    "A legacy index may hold the value column: 'standfast migrate --dry-run' names it with its DROP INDEX command.",
)
_POOLER = Cause(
    "transaction_pooling",
    DatabaseRejected,
    "a proxy before PostgreSQL shares connections between transactions",
    "Name PostgreSQL itself in DATABASE_URL (Standfast pools by itself), or set pool_mode = session in the proxy.",
)
_OTHER = Cause(
    "rejected",
    DatabaseRejected,
    "PostgreSQL refused the statement",
    "See the server's log for the statement.",
)

_BY_STATE = {
    "25006": _READ_ONLY,
    "26000": _POOLER,
    "28000": _ACCESS,
    "28P01": _PASSWORD,
    "3D000": _DATABASE,
    "42P05": _POOLER,
    "42501": _RIGHTS,
    "53100": _DISK,
    "53300": _SLOTS,
    "55P03": _TIMEOUT,
    "57014": _TIMEOUT,
    "57P03": _STARTING,
    "57P04": _DATABASE,
    "57P05": _SHUTDOWN,
}
_BY_CLASS = {
    "08": _RESET,
    "22": _VALUE,
    "23": _CONSTRAINT,
    "3F": _SCHEMA,
    "40": _CONFLICT,
    "42": _SCHEMA,
    "53": _RESOURCES,
    "54": _LIMIT,
    "57": _SHUTDOWN,
    "58": _SERVER,
    "XX": _SERVER,
}
# A failed connection has no SQLSTATE in libpq: only its text tells. The first rule that fits any of the
# hosts' messages wins, so what an operator must correct comes before what passes by itself.
_BY_TEXT = (
    (_POOLER, r"unsupported startup parameter"),
    (_PASSWORD, r"password authentication failed|no password supplied|SASL|role \".*\" does not exist"),
    (_ACCESS, r"no pg_hba\.conf entry|pg_hba\.conf rejects|authentication failed|not permitted to log in"),
    (_DATABASE, r"database \".*\" does not exist|database \".*\" is not currently accepting"),
    (_RIGHTS, r"permission denied for database"),
    (_TLS, r"SSL|certificate|TLS"),
    (_SLOTS, r"too many (clients|connections)|connection slots are reserved|no more connections allowed"),
    (_STARTING, r"starting up|in recovery mode|not (yet )?accepting connections"),
    (_SHUTDOWN, r"shutting down|terminating connection|crash of another server process"),
    (_READ_ONLY, r"session is read-only|server is in hot standby mode|server is not in hot standby"),
    (
        _REFUSED,
        r"Connection refused|No such file or directory|is the server running|No route to host|unreachable",
    ),
    (_TIMEOUT, r"timeout expired|timed out|timeout"),
    (
        _DNS,
        r"Name or service not known|name resolution|could not translate host|nodename nor servname|resolve",
    ),
    (
        _RESET,
        r"closed the connection|reset by peer|Broken pipe|socket closed|connection is (closed|lost)|EOF",
    ),
)


_OWN_CLASS = "SF"
_EXHAUSTED_STEP = "Raise POSTGRES_MAX_CONNECTIONS, or find what holds the connections: 'standfast health'."
_NEXT_STEPS = {
    cause.name: cause.next_step
    for cause in (*_BY_STATE.values(), *_BY_CLASS.values(), *(rule[0] for rule in _BY_TEXT), _OTHER)
} | {"pool_exhausted": _EXHAUSTED_STEP}


def from_driver(error: psycopg.Error | OSError, where: str) -> DatabaseUnavailable | DatabaseRejected:
    """The error of ours for what the driver raised; `where` names the server, without secrets."""
    state = getattr(error, "sqlstate", None)
    if state is None:
        return _raised(_cause_of_text(error), where, None, None)
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return _raised(_cause_of_state(state), where, state, primary)


def timed_out(where: str, what: str, limit_s: float) -> DatabaseUnavailable:
    """PostgreSQL let a deadline of ours pass."""
    return DatabaseUnavailable(
        f"{what} took longer than {limit_s:g} s at {where}", next_step=_TIMEOUT.next_step, cause=_TIMEOUT.name
    )


def pool_exhausted(size: int, limit_s: float) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"all {size} database connections stayed busy for {limit_s:g} s",
        next_step=_EXHAUSTED_STEP,
        cause="pool_exhausted",
    )


def is_transient(error: BaseException) -> bool:
    """Whether the same call may well succeed within a second: worth the retries, unlike the rest."""
    return isinstance(error, DatabaseUnavailable) and error.facts.get("cause") in TRANSIENT_CAUSES


def is_declined(error: StandfastError) -> bool:
    """Whether one of our own functions in the database said no, as it is meant to: an answer, no trouble."""
    return (sqlstate(error) or "").startswith(_OWN_CLASS)


def next_step_for(cause: str) -> str | None:
    """What the operator does about failures with that cause; None where it is not one of ours."""
    return _NEXT_STEPS.get(cause)


def sqlstate(error: StandfastError) -> str | None:
    state = error.facts.get("sqlstate")
    return state if isinstance(state, str) else None


def _cause_of_state(state: str) -> Cause:
    return _BY_STATE.get(state) or _BY_CLASS.get(state[:2]) or _OTHER


def _cause_of_text(error: Exception) -> Cause:
    if isinstance(error, psycopg.errors.ConnectionTimeout):
        return _TIMEOUT
    text = str(error)
    for cause, pattern in _BY_TEXT:
        if re.search(pattern, text):
            return cause
    if isinstance(error, psycopg.DataError):
        return _VALUE
    # In another language, or unheard of: what cannot be told is an outage, never an absence.
    return (
        _RESET if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | OSError) else _OTHER
    )


def _raised(
    cause: Cause, where: str, state: str | None, primary: str | None
) -> DatabaseUnavailable | DatabaseRejected:
    # A value's own message can quote the value; every other primary message names objects only.
    said = f": {primary}" if primary and cause is not _VALUE else ""
    facts = {"cause": cause.name} | ({"sqlstate": state} if state else {})
    return cause.error(f"{cause.message} ({where}){said}", next_step=cause.next_step, **facts)
