"""What a migration does or would do, in words and in SQL.

Invariant: a plan's steps are everything that changes the database; its notices change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Step:
    """`version` is the number of the migration, None for the adoption of a table that a bot made."""

    title: str
    sql: str
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that works against the operator and that a migration which only adds leaves to them."""

    message: str
    next_step: str


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    steps: tuple[Step, ...] = ()
    notices: tuple[Notice, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.steps

    def as_dict(self) -> dict[str, Any]:
        return {
            "steps": [{"title": step.title, "version": step.version, "sql": step.sql} for step in self.steps],
            "notices": [
                {"message": notice.message, "next_step": notice.next_step} for notice in self.notices
            ],
        }
