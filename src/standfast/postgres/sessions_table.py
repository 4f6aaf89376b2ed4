"""Which companies' sessions are wanted: the rows of `standfast_sessions`.

Invariant: a row speaks of a wish only; auth state is never read or changed here.
"""

from __future__ import annotations

from dataclasses import dataclass

from standfast.authstate.company import Company, company_id
from standfast.postgres.pool import Database, Statement

_LIST = Statement(
    "sessions.list",
    "select company_id, wanted, unlinked_at is not null from standfast_sessions order by company_id",
)
_SET = Statement(
    "sessions.set_wanted",
    "insert into standfast_sessions as s (company_id, wanted) values ($1, $2)"
    " on conflict (company_id) do update set wanted = excluded.wanted, updated_at = now()"
    " where s.wanted is distinct from excluded.wanted",
)
_LINKED = Statement(
    "sessions.set_linked",
    "insert into standfast_sessions (company_id, wanted, unlinked_at) values ($1, true, null)"
    " on conflict (company_id) do update set wanted = true, unlinked_at = null, updated_at = now()",
)
_UNLINKED = Statement(
    "sessions.set_unlinked",
    "insert into standfast_sessions (company_id, wanted, unlinked_at) values ($1, false, now())"
    " on conflict (company_id) do update set wanted = false, unlinked_at = now(), updated_at = now()",
)
_PUT = Statement(
    "sessions.put",
    "insert into standfast_sessions as s (company_id, wanted, unlinked_at) values ($1, $2, case when $3 then now() end)"
    " on conflict (company_id) do update set wanted = excluded.wanted, updated_at = now(),"
    " unlinked_at = case when $3 then coalesce(s.unlinked_at, now()) end"
    " where (s.wanted, s.unlinked_at is not null) is distinct from ($2, $3)",
)
_IS_UNLINKED = Statement(
    "sessions.is_unlinked",
    "select 1 from standfast_sessions where company_id = $1 and unlinked_at is not null",
)
_REMOVE = Statement("sessions.remove", "delete from standfast_sessions where company_id = $1")


@dataclass(frozen=True, slots=True)
class Row:
    """`wanted`: the session is to be kept connected. `unlinked`: the company's creds are known to be dead."""

    company: Company
    wanted: bool
    unlinked: bool


async def list_rows(database: Database) -> list[Row]:
    """Every row, in order of the companies' ids."""
    return [Row(company_id(row[0]), row[1], row[2]) for row in await database.fetch(_LIST)]


async def list_wanted(database: Database) -> list[Company]:
    """The companies whose sessions are to be kept connected, in order of their ids."""
    return [row.company for row in await list_rows(database) if row.wanted]


async def put(database: Database, row: Row) -> None:
    """Make the company's row say this."""
    await database.fetch(_PUT, [row.company, row.wanted, row.unlinked])


async def set_wanted(database: Database, company: Company, wanted: bool) -> None:
    await database.fetch(_SET, [company, wanted])


async def set_linked(database: Database, company: Company) -> None:
    """The company was paired: its session is wanted and its creds are alive."""
    await database.fetch(_LINKED, [company])


async def set_unlinked(database: Database, company: Company) -> None:
    """WhatsApp confirmed that the device was removed: the session is not wanted and the creds are dead."""
    await database.fetch(_UNLINKED, [company])


async def is_unlinked(database: Database, company: Company) -> bool:
    """Whether the company's creds are known to be dead."""
    return bool(await database.fetch(_IS_UNLINKED, [company]))


async def remove(database: Database, company: Company) -> None:
    """Forget the wish. Nothing happens where there was none."""
    await database.fetch(_REMOVE, [company])
