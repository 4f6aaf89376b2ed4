"""What a cleanup found and did, as it is shown, stored and sent.

Invariant: counts, times and sizes; never a key's id or value.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Policy = Literal["safe", "legacy"]
Reason = Policy | Literal["repair"]
"""Why keys went into the trash."""


class Measures(msgspec.Struct):
    """Of `whatsapp_keys`. `ages`: keys by when they were last written (`AGE_BUCKETS`); `oldest_at` and `newest_at` in
    seconds since 1970, None where there are no keys."""

    keys: int
    table_bytes: int
    index_bytes: int
    total_bytes: int
    ages: dict[str, int]
    oldest_at: float | None = None
    newest_at: float | None = None


class CompanyCleanup(msgspec.Struct, omit_defaults=True):
    """`removed` by type. `left`: how many stay though they are old, and `reason` why."""

    company: str
    removed: dict[str, int] = {}
    left: int = 0
    reason: str = ""

    @property
    def count(self) -> int:
        return sum(self.removed.values())


class CleanupReport(msgspec.Struct, omit_defaults=True):
    """`run` names it for `undo`; "" in a dry run, where `removed` is what would go. `after`: None there. `freed_bytes`:
    what the files shrank by; PostgreSQL uses what else is free for new rows. `vacuum`: "done", or why not."""

    run: str
    node: str
    policy: Reason
    retention_days: int
    dry_run: bool
    started_at: float
    duration_s: float
    removed: dict[str, int]
    companies: list[CompanyCleanup]
    before: Measures
    after: Measures | None = None
    freed_bytes: int = 0
    ceiling: int = 0
    beyond_ceiling: int = 0
    purged: int = 0
    vacuum: str = ""
    identities: dict[str, str] = {}

    @property
    def first_line(self) -> str:
        """For whoever shows one line of it."""
        return f"{self.count:,} keys removed, {self.freed_bytes / 1e6:,.1f} MB freed"

    @property
    def count(self) -> int:
        return sum(self.removed.values())

    @property
    def left(self) -> int:
        return sum(one.left for one in self.companies)


class Undone(msgspec.Struct, omit_defaults=True):
    """`restored` keys are as they were; `newer` were written anew since and stay as they are."""

    run: str
    restored: int
    newer: int
    companies: dict[str, int]
    refused: dict[str, str] = {}
    running: list[str] = []
