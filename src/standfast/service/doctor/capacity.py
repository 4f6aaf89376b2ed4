"""What PostgreSQL gives this role: connections, time, upkeep, durability.

Invariant: reads only.
"""

from __future__ import annotations

from collections.abc import Iterator

from standfast.service.doctor.results import Result, ok, warning, wrong
from standfast.service.doctor.session import Session

PROBE_CONNECTIONS = 2  # the heartbeat's, beside the pool
_COUNTS = """
select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           - coalesce(current_setting('reserved_connections', true)::int, 0),
       (select coalesce(sum(numbackends), 0)::int from pg_stat_database),
       (select min(n) from unnest(array[
           (select rolconnlimit from pg_roles where rolname = current_user),
           (select datconnlimit from pg_database where datname = current_database())]) n where n >= 0)
"""
# Each of ours is told at every login and wins over these; what is not ours must not be against us.
_ROLE = """
select unnest(s.setconfig) from pg_db_role_setting s
where s.setrole in (0, (select oid from pg_roles where rolname = current_user))
    and s.setdatabase in (0, (select oid from pg_database where datname = current_database()))
"""
_HARMFUL = ("idle_session_timeout", "transaction_timeout")


def connections(session: Session) -> Iterator[Result]:
    """The pool against what the server has left."""
    allowed, used, own_limit = session.row(_COUNTS)
    limit = allowed if own_limit is None else min(allowed, own_limit)
    pool = session.patient.settings.postgres_max_connections
    needed = pool + PROBE_CONNECTIONS
    told = f"{used} of {allowed} in use; this node takes up to {needed}"
    if needed > limit:
        yield wrong(
            "postgres.connections",
            "connections",
            f"{told}, and never gets more than {limit}",
            "Raise max_connections (and the limits of role and database) at the server, or set:\n"
            f"POSTGRES_MAX_CONNECTIONS={max(1, limit - PROBE_CONNECTIONS)}",
        )
    elif allowed - used + 1 < needed and not session.patient.service_runs():  # this one goes again
        yield warning(
            "postgres.connections",
            "connections",
            f"{told}, and {allowed - used + 1} are left",
            "Lower POSTGRES_MAX_CONNECTIONS, end other clients (pg_stat_activity), or raise max_connections.",
        )
    else:
        yield ok("postgres.connections", "connections", told)


def limits(session: Session) -> Iterator[Result]:
    """Settings of the server, database or role that end the connections of a pool."""
    told = [(name, session.setting(name)) for name in _HARMFUL]
    harmful = [(name, value) for name, value in told if value not in (None, "", "0")]
    for name, value in harmful:
        yield warning(
            "postgres.limits",
            "limits of the role",
            f"{name} = {value}: PostgreSQL ends connections that the pool holds",
            f"ALTER ROLE CURRENT_USER SET {name} = 0",
        )
    if not harmful:
        own = sorted({str(one).partition("=")[0] for (one,) in session.rows(_ROLE)})
        shown = f"set for role or database: {', '.join(own)}" if own else "none that is against a pool"
        yield ok("postgres.limits", "limits of the role", shown)


def upkeep(session: Session) -> Iterator[Result]:
    """Keys are overwritten all the time: without autovacuum the tables only grow."""
    off = [name for name in ("autovacuum", "track_counts") if session.setting(name) == "off"]
    if off:
        yield warning(
            "postgres.upkeep",
            "autovacuum",
            f"{' and '.join(off)} is off: whatsapp_keys grows with every write",
            "; ".join(f"ALTER SYSTEM SET {name} = on" for name in off) + "; SELECT pg_reload_conf()",
        )
    else:
        yield ok("postgres.upkeep", "autovacuum", "on")


def durability(session: Session) -> Iterator[Result]:
    """What PostgreSQL has confirmed leaves the journal: it must be on its disk."""
    off = [name for name in ("fsync", "full_page_writes") if session.setting(name) == "off"]
    if off:
        yield warning(
            "postgres.durability",
            "durability",
            f"{' and '.join(off)} is off at the server: a crash of its machine can lose or damage everything",
            "; ".join(f"ALTER SYSTEM SET {name} = on" for name in off) + "; SELECT pg_reload_conf()",
        )
    elif session.setting("synchronous_commit") == "off":
        yield warning(
            "postgres.durability",
            "durability",
            "synchronous_commit is off: what was confirmed last is lost when the server's machine crashes",
            "ALTER ROLE CURRENT_USER SET synchronous_commit = on",
        )
    else:
        yield ok("postgres.durability", "durability", "confirmed is on the server's disk")
