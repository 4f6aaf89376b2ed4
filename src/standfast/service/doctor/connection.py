"""What a connection to PostgreSQL is: encrypted, direct, of a version that fits, to a server that writes.

Invariant: reads only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from psycopg import pq

from standfast.errors import ClientToolsMismatch
from standfast.postgres.client_tools import find_client_tools
from standfast.service.doctor.results import Result, ok, warning, wrong
from standfast.service.doctor.session import Session

OLDEST_MAJOR = 13  # gen_random_uuid() without an extension
CLOCK_OFFSET_S = 2.0


def tls(session: Session) -> Iterator[Result]:
    """What was agreed on; libpq's default takes what it gets."""
    mode = session.connection.info.get_parameters().get("sslmode", "prefer")
    if session.connection.pgconn.ssl_in_use:
        rows = session.rows("select version, cipher from pg_stat_ssl where pid = pg_backend_pid() and ssl")
        told = " ".join(rows[0]) if rows else "TLS"
        if mode in {"verify-ca", "verify-full"} or session.is_local:
            yield ok("postgres.tls", "encryption", f"{told}, sslmode={mode}")
        else:
            yield warning(
                "postgres.tls",
                "encryption",
                f"{told}, and sslmode={mode} does not look at who the server is",
                "Add sslmode=verify-full (and sslrootcert=FILE) to DATABASE_URL.",
            )
    elif session.is_local:
        yield ok("postgres.tls", "encryption", "none, and the connection stays on this machine")
    else:
        yield warning(
            "postgres.tls",
            "encryption",
            "none: passwords' proofs and keys cross the network in clear",
            "Turn TLS on at the server, then add sslmode=verify-full to DATABASE_URL.",
        )


def version(session: Session) -> Iterator[Result]:
    """Server against what Standfast needs, against libpq, and against pg_dump, which must not be older."""
    number, shown = session.connection.info.server_version, session.setting("server_version") or "?"
    major = number // 10_000
    client = pq.version()
    told = f"PostgreSQL {shown}, libpq {client // 10_000}.{client % 10_000}"
    if major < OLDEST_MAJOR:
        yield wrong(
            "postgres.version", "version", told, f"Upgrade the server to PostgreSQL {OLDEST_MAJOR} or newer."
        )
    else:
        yield ok("postgres.version", "version", told)
    yield _dump(major, session.patient.settings.pg_bin_dir)


def _dump(major: int, bin_dir: Path | None) -> Result:
    try:
        tools = find_client_tools(major, bin_dir)
    except ClientToolsMismatch as error:
        return warning("postgres.pg_dump", "pg_dump", f"no backups: {error.message}", error.next_step)
    return ok("postgres.pg_dump", "pg_dump", f"{tools.version}, {tools.pg_dump}")


def pooler(session: Session) -> Iterator[Result]:
    """PgBouncer and its like answer with a process id of their own; through one that shares connections between
    transactions, prepared statements and session settings go astray."""
    answered, real = session.connection.pgconn.backend_pid, session.row("select pg_backend_pid()")[0]
    if answered != real:
        yield warning(
            "postgres.pooler",
            "pooler",
            "something stands between here and PostgreSQL and shares its connections (PgBouncer?)",
            "Name PostgreSQL itself in DATABASE_URL (Standfast pools by itself), or set pool_mode = session there.",
        )
    else:
        yield ok("postgres.pooler", "pooler", "none in between")


def clock(session: Session) -> Iterator[Result]:
    """Leases do not depend on it; what is told about times, and epochs after a restore, do."""
    asked = time.time()
    theirs = float(session.row("select extract(epoch from clock_timestamp())::float8")[0])
    answered = time.time()
    offset_s = theirs - (asked + answered) / 2
    sure_s = (answered - asked) / 2
    if abs(offset_s) - sure_s > CLOCK_OFFSET_S:
        which = "ahead of" if offset_s > 0 else "behind"
        yield warning(
            "postgres.clock",
            "clock",
            f"PostgreSQL's is {abs(offset_s):.1f} s {which} this machine's",
            "Synchronize both with a time server:\ntimedatectl set-ntp true",
        )
    else:
        yield ok("postgres.clock", "clock", f"{abs(offset_s) * 1000:.0f} ms apart (± {sure_s * 1000:.0f})")


def writable(session: Session) -> Iterator[Result]:
    """A standby, or a server that was told to refuse writes."""
    is_standby = session.row("select pg_is_in_recovery()")[0]
    if is_standby:
        yield wrong(
            "postgres.writable",
            "writable",
            "this server is a standby: it takes no writes",
            "Name every host and target_session_attrs=read-write in DATABASE_URL, so that the primary is found.",
        )
    elif session.setting("default_transaction_read_only") == "on":
        yield wrong(
            "postgres.writable",
            "writable",
            "transactions are read-only here (default_transaction_read_only)",
            "Where it was set for the role (else for the database, or in postgresql.conf):\n"
            "ALTER ROLE CURRENT_USER SET default_transaction_read_only = off",
        )
    else:
        yield ok("postgres.writable", "writable", "a primary that takes writes")


def encoding(session: Session) -> Iterator[Result]:
    found = session.setting("server_encoding")
    if found == "UTF8":
        yield ok("postgres.encoding", "encoding", "UTF8")
    else:
        yield wrong(
            "postgres.encoding",
            "encoding",
            f"{found} cannot hold every name and text",
            "Make one in UTF8 and move the tables there with pg_dump and pg_restore:\n"
            "CREATE DATABASE standfast ENCODING 'UTF8' TEMPLATE template0",
        )
