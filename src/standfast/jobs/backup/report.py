"""What a run of the backup answers, and what a dry run found.

Invariant: plain values, the same in JSON, in an alert and on a terminal.
"""

from __future__ import annotations

import msgspec

from standfast.jobs.backup.manifest import Kind, Validation


class Plan(msgspec.Struct):
    """What a run would do. `tables`: bytes on disk of each. `expected_bytes`: of the file, by the last good backup;
    None where there is none. `free_bytes`: None where the directory does not exist yet."""

    root: str
    server: str
    server_version: str
    client_version: str
    pg_dump: str
    encrypted: bool
    kinds: list[Kind]
    tables: dict[str, int]
    expected_bytes: int | None
    free_bytes: int | None
    removed: list[str]
    left_over: list[str]


class BackupReport(msgspec.Struct, omit_defaults=True):
    """`oddities`: how it differs from the last good one. `removed`: backups that rotation took away. `left_over`: what
    killed runs had left. `validation`: None where nobody validated it. A dry run has only `plan`."""

    name: str = ""
    path: str = ""
    kinds: list[Kind] = []
    companies: int = 0
    rows: int = 0
    bytes: int = 0
    plain_bytes: int = 0
    encrypted: bool = False
    duration_s: float = 0.0
    oddities: list[str] = []
    removed: list[str] = []
    left_over: list[str] = []
    validation: Validation | None = None
    plan: Plan | None = None

    @property
    def first_line(self) -> str:
        """For whoever shows one line of it."""
        if self.plan is not None:
            return f"a dry run: nothing was written to {self.plan.root}"
        return f"{self.name}: {self.rows:,} rows of {self.companies:,} companies, {size(self.bytes)}"


def size(count: int) -> str:
    """Bytes in words."""
    return f"{count / 1e6:,.1f} MB" if count >= 1_000_000 else f"{count / 1e3:,.1f} kB"
