"""What every job is given.

Invariant: a job reaches nothing but what stands here; whether a service or a command runs it makes no difference to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from standfast.alert import AlertSink
from standfast.jobs.progress import Progress, Silent
from standfast.postgres.pool import Database
from standfast.settings import Settings


@dataclass(frozen=True, slots=True)
class JobContext:
    """`node` is the uuid by which PostgreSQL knows who runs it (a command that runs without a service has one of its
    own), `node_name` what operators call it. The database is open; its schema may be older than this version."""

    settings: Settings
    database: Database
    alerts: AlertSink
    node: str
    node_name: str
    progress: Progress = field(default_factory=Silent)
