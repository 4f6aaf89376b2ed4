"""What a drill has done and measured: the one document that every form of its report is made from.

Invariant: a record tells what was measured and no more; a criterion that was not tried is `skipped`, with the reason,
never passed.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Status = Literal["pass", "fail", "skipped"]
MomentKind = Literal[
    "phase",
    "outage",
    "restored",
    "restart",
    "state",
    "sent",
    "received",
    "lost",
    "saved",
    "alert",
    "command",
    "note",
]


class Criterion(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a table. `value` and `limit` are in `unit` ("s", "%", "count"), where there is a figure; `target` and
    `actual` are how people read them. `legacy`: what the manual procedure took."""

    name: str
    target: str
    actual: str
    status: Status
    phase: int
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    legacy: str = ""
    why: str = ""


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened `at_s` after the drill began; `until_s` where it lasted (an outage, a restart)."""

    at_s: float
    kind: MomentKind
    text: str
    until_s: float | None = None
    subject: str = ""


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """`number` is the plan's, 0 to 6; a phase that was cut short by an error says so in `why`."""

    number: int
    name: str
    at_s: float
    duration_s: float
    status: Status
    why: str = ""


class DrillRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`kind`: "full", or "fast" with clock settings scaled down as `scaled` says (name, in seconds: asked and used).
    `here`: rehearsed on the running installation. `rto_s`: from the beginning of a restart in the outage to the last
    session open; `messages_lost` of `messages_sent`."""

    id: str
    version: str
    started_at: float
    duration_s: float
    kind: Literal["full", "fast"]
    here: bool
    node_name: str
    scaled: dict[str, tuple[float, float]]
    outage_kinds: list[str]
    phases: list[Phase]
    acceptance: list[Criterion]
    performance: list[Criterion]
    moments: list[Moment]
    messages_sent: int
    messages_lost: int
    rto_s: float | None
    to_files_s: float | None = None
    to_postgres_s: float | None = None

    @property
    def passed(self) -> bool:
        """Whether every criterion that was tried holds, and at least one was."""
        tried = [row.status for row in (*self.acceptance, *self.performance) if row.status != "skipped"]
        return bool(tried) and "fail" not in tried and all(phase.status != "fail" for phase in self.phases)
