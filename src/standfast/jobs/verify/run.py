"""A verification: every source that was asked for, company by company, and the sources with one another.

Invariant: nothing is changed; what is written to meanwhile is looked at twice, so that a moment between two writes is
no finding.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from standfast.authstate.company import company_id
from standfast.errors import CompanyUnknown, DatabaseRejected, DatabaseUnavailable, StandfastError, UsageError
from standfast.jobs.context import JobContext
from standfast.jobs.verify import sources
from standfast.jobs.verify.check import State, check
from standfast.jobs.verify.finding import Compared, Finding, Places, Source, VerifyReport, merged
from standfast.jobs.verify.sources import LocalReplica, Looked, Stored

AGAIN_AFTER_S = 0.2


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """`sources`: those that must be read; None: every one that there is, and what cannot be read is named. `files`:
    where the folders are; None: none are looked at."""

    company: str | None = None
    sources: tuple[Source, ...] | None = None
    files: Path | None = None
    again_after_s: float = AGAIN_AFTER_S


@dataclass(slots=True)
class _Seen:
    findings: list[Finding] = field(default_factory=list)
    compared: list[Compared] = field(default_factory=list)
    looked_at: dict[str, int] = field(default_factory=dict)
    not_looked_at: dict[str, str] = field(default_factory=dict)
    keys: int = 0

    def counts(self, source: Source, keys: int) -> None:
        self.looked_at[source] = self.looked_at.get(source, 0) + 1
        self.keys += keys


async def run_verify(
    context: JobContext, replica: LocalReplica | None, options: VerifyOptions | None = None
) -> VerifyReport:
    """What is wrong. `CompanyUnknown` for a company that no source has; of a source that was asked for, what it
    raises."""
    run = _Verify(context, replica, options or VerifyOptions())
    began = time.monotonic()
    seen = await run.look()
    wished = run.options.company
    if wished is not None and not seen.looked_at and not seen.not_looked_at:
        raise CompanyUnknown(f"no source that was looked at has anything of {wished!r}")
    return VerifyReport(
        seen.looked_at,
        seen.keys,
        round(time.monotonic() - began, 3),
        merged(seen.findings),
        seen.compared,
        seen.not_looked_at,
    )


class _Verify:
    def __init__(self, context: JobContext, replica: LocalReplica | None, options: VerifyOptions) -> None:
        self._context = context
        self._replica = replica
        self.options = options
        self._seen = _Seen()

    async def look(self) -> _Seen:
        stored = await self._named("postgresql", self._stored_companies)
        kept = await self._named("replica", self._kept_companies)
        names = sorted({*stored, *kept})
        self._context.progress.step("looking at auth state", len(names), "companies")
        for name in names:
            await self._company(name, in_tables=name in stored, in_replica=name in kept)
            self._context.progress.advance(1)
        if self._wants("postgresql") and "postgresql" not in self._seen.not_looked_at:
            await self._orphans()
        if self._wants("files") and self.options.files is not None:
            await self._files(self.options.files)
        return self._seen

    def _wants(self, source: Source) -> bool:
        return self.options.sources is None or source in self.options.sources

    async def _named(self, source: Source, ask: Callable[[], Awaitable[list[str]]]) -> set[str]:
        if not self._wants(source):
            return set()
        try:
            names = await ask()
        except StandfastError as error:
            if self.options.sources is not None:
                raise
            self._seen.not_looked_at[source] = error.message
            return set()
        return {name for name in names if self.options.company in (None, name)}

    async def _stored_companies(self) -> list[str]:
        return await sources.stored_companies(self._context.database)

    async def _kept_companies(self) -> list[str]:
        if self._replica is None:
            if self.options.sources is not None:
                raise UsageError(
                    "this state directory has no replica",
                    next_step="Name the one of the service with --state-dir.",
                )
            return []
        return await self._replica.companies()

    async def _company(self, name: str, *, in_tables: bool, in_replica: bool) -> None:
        tables: Stored | None = None
        if in_tables:
            try:
                tables, found = await self._in_tables(name)
            except (DatabaseUnavailable, DatabaseRejected) as error:
                if self.options.sources is not None:
                    raise
                self._seen.not_looked_at["postgresql"] = error.message
            else:
                self._seen.findings += found
                self._seen.counts("postgresql", tables.state.key_count)
        kept = await self._in_replica(name) if in_replica else None
        if kept is not None:
            self._seen.findings += kept.findings
            self._seen.counts("replica", kept.keys)
        if kept is None or not kept.complete:
            return
        if tables is not None:
            await self._compare(name, tables, kept)
        elif kept.held and not in_tables and await self._is_gone(name):
            places = Places()
            places.add("gone")
            self._seen.findings += places.findings(name, "postgresql")

    async def _is_gone(self, name: str) -> bool:
        """Whether PostgreSQL still lacks it a moment later: it may just have been paired, or removed."""
        if not self._wants("postgresql") or "postgresql" in self._seen.not_looked_at:
            return False
        await asyncio.sleep(self.options.again_after_s)
        with contextlib.suppress(DatabaseUnavailable, DatabaseRejected):
            if name in await sources.stored_companies(self._context.database):
                return False
            kept = await self._replica.look(name) if self._replica is not None else None
            return kept is not None and kept.held
        return False

    async def _in_tables(self, name: str) -> tuple[Stored, list[Finding]]:
        async def look() -> tuple[Stored, list[Finding]]:
            tables = await sources.stored(self._context.database, name)
            found = await asyncio.to_thread(_checked, tables.state, name)
            return tables, found

        tables, found = await look()
        if not _matters(found):
            return tables, found
        await asyncio.sleep(self.options.again_after_s)
        tables, again = await look()
        return tables, _in_both(found, again)

    async def _in_replica(self, name: str) -> Looked | None:
        assert self._replica is not None
        try:
            kept = await self._replica.look(name)
            if kept is not None and _matters(kept.findings):
                await asyncio.sleep(self.options.again_after_s)
                again = await self._replica.look(name)
                if again is not None:
                    again.findings = _in_both(kept.findings, again.findings)
                return again
        except StandfastError as error:
            if self.options.sources is not None:
                raise
            self._seen.not_looked_at["replica"] = error.message
            return None
        return kept

    async def _compare(self, name: str, tables: Stored, kept: Looked) -> None:
        compared = _compared(name, tables, kept)
        self._seen.compared.append(compared)
        places = Places()
        if compared.newer == "same":
            ours = await asyncio.to_thread(sources.digests, tables.state)
            types = {one for one in {*ours, *kept.digests} if ours.get(one) != kept.digests.get(one)}
            if types:
                places.add("differs", "", "", f"in {', '.join(sorted(types))}")
        elif compared.newer == "postgresql" and tables.epoch == kept.epoch:
            places.add("behind", "", "", f"by {tables.sequence - kept.sequence:,} writes")
        self._seen.findings += places.findings(name, "replica")

    async def _orphans(self) -> None:
        with contextlib.suppress(DatabaseUnavailable):
            for kind, name in await sources.orphans(self._context.database):
                if self.options.company in (None, name):
                    places = Places()
                    places.add(kind)
                    self._seen.findings += places.findings(name, "postgresql")

    async def _files(self, root: Path) -> None:
        try:
            folders = await asyncio.to_thread(sources.folders_of, root, self.options.company)
        except UsageError as error:
            if self.options.sources is not None:
                raise
            self._seen.not_looked_at["files"] = error.message
            return
        self._context.progress.step("looking at files", len(folders), "folders")
        for name, folder in folders:
            keys, found = await asyncio.to_thread(_in_files, name, folder)
            if _matters(found):
                # It may be a folder that a bot, or this node's mirror, is writing.
                await asyncio.sleep(self.options.again_after_s)
                keys, again = await asyncio.to_thread(_in_files, name, folder)
                found = _in_both(found, again)
            self._seen.findings += found
            self._seen.counts("files", keys)
            self._context.progress.advance(1)


def _checked(state: State, name: str, source: Source = "postgresql") -> list[Finding]:
    found = check(state)
    if source == "postgresql":
        try:
            company_id(name)
        except UsageError:
            found.add("odd-name")
    return found.findings(name, source)


def _in_files(name: str, folder: Path) -> tuple[int, list[Finding]]:
    state, found = sources.read_folder(folder)
    return state.key_count, [*found.findings(name, "files"), *_checked(state, name, "files")]


def _matters(findings: list[Finding]) -> bool:
    return any(one.level != "info" for one in findings)


def _in_both(first: list[Finding], second: list[Finding]) -> list[Finding]:
    ids = {one.id for one in first}
    return [one for one in second if one.level == "info" or one.id in ids]


def _compared(name: str, tables: Stored, kept: Looked) -> Compared:
    ours, theirs = (kept.epoch, kept.sequence), (tables.epoch, tables.sequence)
    newer: Literal["same", "postgresql", "replica"] = "postgresql" if theirs > ours else "replica"
    return Compared(name, "same" if ours == theirs else newer, *theirs, *ours)
