"""What is done by schedule, and when.

Invariant: a job is due by its cron alone; whoever looks at the same moment finds the same time due.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from standfast.alert import Alert
from standfast.jobs.context import JobContext
from standfast.settings import Settings
from standfast.settings.cron import OFF, Cron, zone_of

Work = Callable[[JobContext], Awaitable[Any]]
Able = Callable[[], bool]


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Job:
    """`cron`: None is off. `each_node`: it is about what lies on a node's own disk, so every node does it. `able`:
    whether this node can, asked in a thread. `alerts`: the job tells operators of its failures itself, and `well` is
    what ends them once another node has done it."""

    name: str
    work: Work
    cron: Cron | None
    fields: str
    each_node: bool = False
    alerts: bool = False
    able: Able = _always
    well: Callable[[], Alert] | None = None

    def key(self, node: str) -> str:
        """Its name in PostgreSQL."""
        return f"{self.name}@{node}" if self.each_node else self.name


def cron_of(settings: Settings, fields: str) -> Cron | None:
    """None: off. Settings that were loaded hold none that is malformed."""
    return None if fields == OFF else Cron(fields, zone_of(settings.time_zone))
