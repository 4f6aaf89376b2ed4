"""What the doctor found: one `Result` a line, and the report over all of them.

Invariant: whatever is not ok says what to do; what could not be looked at never counts as ok. A mend has one step a
line: words end with a period or a colon, everything else is to be pasted as it stands.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

SCHEMA = "standfast.doctor/1"
Outcome = Literal["ok", "warning", "wrong", "unknown", "skipped"]
EXIT_CODES: dict[Outcome, int] = {"ok": 0, "skipped": 0, "warning": 1, "wrong": 2, "unknown": 3}
"""As `standfast health` and monitoring plugins end."""
_RANK: tuple[Outcome, ...] = ("skipped", "ok", "unknown", "warning", "wrong")
GROUPS = {
    "settings": "Settings",
    "machine": "Machine",
    "node": "Node",
    "postgres": "PostgreSQL",
    "state": "State directory",
    "credentials": "Credentials",
    "network": "Network",
    "alerts": "Alerts",
    "backups": "Backups",
    "leftovers": "Leftovers",
}
"""By the first part of a check's name, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class Result:
    """`check` is stable and names the check ("postgres.login"); `subject` says in a word or two what was looked at.
    "unknown": it could not be looked at; "skipped": there was nothing to look at, or it was not asked for."""

    check: str
    subject: str
    outcome: Outcome
    message: str
    mend: str | None = None
    took_ms: float = 0.0

    @property
    def group(self) -> str:
        return GROUPS[self.check.partition(".")[0]]

    def as_wire(self) -> dict[str, Any]:
        """JSON-able; the names are stable."""
        return {
            "check": self.check,
            "group": self.group,
            "subject": self.subject,
            "outcome": self.outcome,
            "message": self.message,
            "mend": self.mend,
            "took_ms": self.took_ms,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All results in the order of their groups. `took_s`: how long the whole took."""

    results: tuple[Result, ...]
    took_s: float

    @property
    def outcome(self) -> Outcome:
        """What is known to be bad outweighs what is not known."""
        return max((one.outcome for one in self.results), key=_RANK.index, default="ok")

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.outcome]

    def count(self, outcome: Outcome) -> int:
        return sum(one.outcome == outcome for one in self.results)

    def as_wire(self) -> dict[str, Any]:
        """The document of `--json`."""
        return {
            "schema": SCHEMA,
            "outcome": "ok" if self.outcome == "skipped" else self.outcome,
            "took_ms": round(self.took_s * 1000, 1),
            "results": [one.as_wire() for one in self.results],
        }


def ok(check: str, subject: str, message: str, mend: str | None = None) -> Result:
    return Result(check, subject, "ok", message, mend)


def warning(check: str, subject: str, message: str, mend: str) -> Result:
    return Result(check, subject, "warning", message, mend)


def wrong(check: str, subject: str, message: str, mend: str) -> Result:
    return Result(check, subject, "wrong", message, mend)


def unknown(check: str, subject: str, message: str, mend: str | None = None) -> Result:
    return Result(check, subject, "unknown", f"could not be checked: {message}", mend)


def skipped(check: str, subject: str, message: str) -> Result:
    return Result(check, subject, "skipped", f"not checked: {message}")


def command(*words: object) -> str:
    """A command line for a shell, whatever its words hold."""
    return shlex.join(map(str, words))


def in_order(results: Iterable[Result]) -> tuple[Result, ...]:
    """By group; within one as they came."""
    names = list(GROUPS)
    return tuple(sorted(results, key=lambda one: names.index(one.check.partition(".")[0])))
