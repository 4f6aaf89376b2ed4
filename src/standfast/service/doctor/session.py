"""`Session`: the login that the steps at PostgreSQL share.

Invariant: values are always parameters, and what a step asks for is one row or some.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from standfast.service.doctor.patient import Patient


@dataclass(frozen=True, slots=True)
class Session:
    """`where` names the server for messages, without secrets."""

    connection: psycopg.Connection[tuple[Any, ...]]
    patient: Patient
    where: str

    def row(self, query: str, values: Sequence[Any] = ()) -> tuple[Any, ...]:
        """The first row; every query here has one."""
        found = self.rows(query, values)
        return found[0]

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        # Unprepared, and parameters apart: a pooler in between need not know statements.
        return self.connection.execute(query.encode(), values or None, prepare=False).fetchall()

    def setting(self, name: str) -> str | None:
        """A server setting as text; None where this version has none of the name."""
        value: str | None = self.row("select current_setting(%s, true)", [name])[0]
        return value

    @property
    def is_local(self) -> bool:
        """Whether the connection stays on this machine."""
        info = self.connection.info
        return info.host.startswith(("/", "@")) or info.hostaddr in {"127.0.0.1", "::1"}
