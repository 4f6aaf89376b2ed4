"""The tables in PostgreSQL: their version against this program's, the rights on them, nodes that are gone.

Invariant: reads only; what would change anything stands in a mend.
"""

from __future__ import annotations

from collections.abc import Iterator

from standfast.postgres.migrations.catalog import TABLES
from standfast.postgres.migrations.ledger import NUMBERED
from standfast.service.doctor.results import Result, ok, skipped, warning, wrong
from standfast.service.doctor.session import Session

NODE_GONE_DAYS = 7
_NAMED = 3
_LEDGER = (
    "select to_regclass('standfast_migrations') is not null,"
    " coalesce(has_table_privilege(to_regclass('standfast_migrations'), 'SELECT'), false)"
)
_APPLIED = "select version, checksum from standfast_migrations order by version"
_ABSENT = "select name from unnest(%s::text[]) name where to_regclass(name) is null"
_OURS = """
select c.relname::text, quote_ident(current_user), array_agg(r.name order by r.name) from pg_class c,
    unnest(case c.relkind when 'S' then array['UPDATE'] else array['SELECT', 'INSERT', 'UPDATE', 'DELETE'] end) r (name)
where c.relkind in ('r', 'p', 'S') and pg_table_is_visible(c.oid)
    and (c.relname = any(%s) or c.relname like 'standfast\\_%%')
    and not case c.relkind when 'S' then has_sequence_privilege(c.oid, r.name)
        else has_table_privilege(c.oid, r.name) end
group by c.relname order by c.relname
"""
_CREATE = (
    "select current_schema()::text, coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),"
    " quote_ident(current_user)"
)
_FOREIGN = """
select c.relname::text, pg_get_userbyid(c.relowner)::text from pg_class c
where c.oid = any(select to_regclass(name) from unnest(%s::text[]) name) and not pg_has_role(c.relowner, 'USAGE')
"""
_GONE = """
select name, floor(extract(epoch from now() - alive_until) / 86400)::int from standfast_nodes
where alive_until < now() - make_interval(days => %s) order by alive_until
"""


def version(session: Session) -> Iterator[Result]:
    """Migrations that the database had, against those of this program."""
    applied = _applied(session)
    if applied is None:
        yield skipped(
            "postgres.schema", "schema", "this role may not read which migrations were made (see rights)"
        )
        return
    newest, known = max(applied, default=0), NUMBERED[-1].version
    altered = [n.version for n in NUMBERED if applied.get(n.version, n.checksum) != n.checksum]
    missing = [n.version for n in NUMBERED if n.version not in applied]
    if newest > known:
        yield wrong(
            "postgres.schema",
            "schema",
            f"version {newest} was made by a newer Standfast; this one knows {known}",
            "Update Standfast on this machine to the version that runs on the others.",
        )
    elif altered:
        yield wrong(
            "postgres.schema",
            "schema",
            f"migration {altered[0]} was applied with other contents than this version's",
            "Use the Standfast that applied it, or restore the database from before that migration.",
        )
    elif missing:
        yield warning(
            "postgres.schema",
            "schema",
            f"{len(missing)} of {known} migrations are still to be made (from {missing[0]}); the service does it",
            "Look first with --dry-run, or let the service do it:\nstandfast migrate",
        )
    elif absent := [
        name for (name,) in session.rows(_ABSENT, [[*TABLES, "standfast_nodes", "standfast_writers"]])
    ]:
        yield wrong(
            "postgres.schema",
            "schema",
            f"version {newest}, but {', '.join(absent)} is not there (dropped, or not on the search_path)",
            "Where it was dropped by mistake, restore it first; then:\nstandfast migrate",
        )
    else:
        yield ok("postgres.schema", "schema", f"version {newest}, as this program needs it")


def rights(session: Session) -> Iterator[Result]:
    """What reading and writing needs, table by table."""
    lacking = session.rows(_OURS, [list(TABLES)])
    if not lacking:
        yield ok("postgres.rights", "rights", "all on whatsapp_* and standfast_* that are there")
        return
    for table, user, names in lacking:
        kind = "SEQUENCE " if names == ["UPDATE"] and table.endswith("epochs") else ""
        yield wrong(
            "postgres.rights",
            "rights",
            f"{table}: {', '.join(names)} is not granted",
            f"GRANT {', '.join(names)} ON {kind}{table} TO {user}",
        )


def create(session: Session) -> Iterator[Result]:
    """Needed for as long as tables are missing, and with each update that brings some."""
    name, may, user = session.row(_CREATE)
    if name is None:
        yield wrong(
            "postgres.create",
            "right to create",
            "no schema of the search_path exists, so tables have nowhere to be",
            f"ALTER ROLE {user} SET search_path = public",
        )
        return
    foreign = session.rows(_FOREIGN, [list(TABLES)])
    if not may:
        tell = wrong if len(_applied(session) or ()) < len(NUMBERED) else warning
        yield tell(
            "postgres.create",
            "right to create",
            f"this role may not create tables in schema {name}; migrations need it",
            f"GRANT CREATE ON SCHEMA {name} TO {user}",
        )
    elif foreign:
        tables = ", ".join(table for table, _ in foreign)
        yield warning(
            "postgres.create",
            "right to create",
            f"{tables} belongs to {foreign[0][1]}; a migration that adds a column needs its owner's rights",
            f"Run 'standfast migrate' as that role when there is one, or:\nGRANT {foreign[0][1]} TO {user}",
        )
    else:
        yield ok("postgres.create", "right to create", f"in schema {name}")


def _applied(session: Session) -> dict[int, str] | None:
    """Version and checksum of each migration that was made; None where this role may not know."""
    exists, readable = session.row(_LEDGER)
    if not exists:
        return {}
    return dict(session.rows(_APPLIED)) if readable else None


def nodes(session: Session) -> Iterator[Result]:
    """Rows of nodes that have not renewed their lease for days: machines that are no more."""
    if not session.row("select to_regclass('standfast_nodes') is not null")[0]:
        yield skipped("leftovers.nodes", "nodes", "their table is not there yet")
        return
    gone = session.rows(_GONE, [NODE_GONE_DAYS])
    if not gone:
        yield ok("leftovers.nodes", "nodes", f"none that was silent for more than {NODE_GONE_DAYS} days")
        return
    told = ", ".join(f"{name} ({days} days)" for name, days in gone[:_NAMED])
    yield warning(
        "leftovers.nodes",
        "nodes",
        f"{len(gone)} silent for more than {NODE_GONE_DAYS} days: {told}",
        "Where they will not come back:\n"
        f"DELETE FROM standfast_nodes WHERE alive_until < now() - interval '{NODE_GONE_DAYS} days'",
    )
