"""The roster's local copy: which companies' sessions are wanted, and which of these wishes PostgreSQL lacks.

Invariant: a wish stays dirty until that very wish was sent.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from standfast.authstate.company import Company

_LIST = "select company, wanted, unlinked, dirty from wishes order by company"
_PUT = (
    "insert into wishes (company, wanted, unlinked, dirty) values (?, ?, ?, ?) on conflict (company) do update"
    " set wanted = excluded.wanted, unlinked = excluded.unlinked, dirty = excluded.dirty"
)
_SENT = "update wishes set dirty = 0 where company = ? and wanted = ? and unlinked = ?"


@dataclass(frozen=True, slots=True)
class Wish:
    """`unlinked`: WhatsApp confirmed that the company's creds are dead. `dirty`: PostgreSQL does not know it yet."""

    company: Company
    wanted: bool
    unlinked: bool
    dirty: bool


def load(connection: sqlite3.Connection) -> dict[Company, Wish]:
    return {
        company: Wish(company, bool(wanted), bool(unlinked), bool(dirty))
        for company, wanted, unlinked, dirty in connection.execute(_LIST)
    }


def put(connection: sqlite3.Connection, wish: Wish) -> None:
    connection.execute(_PUT, (wish.company, wish.wanted, wish.unlinked, wish.dirty))


def sent(connection: sqlite3.Connection, wish: Wish) -> None:
    """PostgreSQL has this wish, unless another one was made since."""
    connection.execute(_SENT, (wish.company, wish.wanted, wish.unlinked))


def drop(connection: sqlite3.Connection, company: Company) -> None:
    connection.execute("delete from wishes where company = ?", (company,))
