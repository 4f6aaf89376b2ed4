"""`ToFiles`: the switch to files, step by step.

Invariant: the switch is one durable write. What fails or is killed before it leaves nothing; what comes after it does
not take it back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec

from standfast.errors import EmergencyFailed, EmergencyRefused, StandfastError
from standfast.jobs.emergency.files_node import FilesNode, FilesStanding, Written
from standfast.jobs.emergency.folders import Folders
from standfast.jobs.emergency.mode import FORMAT, Mode, Placed
from standfast.jobs.emergency.return_report import Stopwatch, Timed
from standfast.jobs.progress import Progress

FETCHES_AT_ONCE = 4
WRITES_AT_ONCE = 1  # threads that take the interpreter from each other for every file are a third slower
RECONNECTS_AT_ONCE = 8
SESSIONS_TIMEOUT_S = 45.0
_POLL_S = 0.1
Source = str
"""Where a state comes from: "replica", "postgresql", or what `past` names."""
_PRESENT = frozenset({"replica", "postgresql"})


class Planned(msgspec.Struct, omit_defaults=True):
    """One company. `source` None: it stays behind, and `why` says why."""

    company: str
    source: Source | None
    sequence: int = 0
    keys: int = 0
    size_bytes: int = 0
    session: bool = False
    why: str | None = None


class FilesPlan(msgspec.Struct):
    """`postgresql` is what the vault says of it; `others`: companies of this node that were not named, which go on from
    the replica, without folders."""

    root: str
    postgresql: str
    companies: list[Planned]
    others: int = 0

    @property
    def left_out(self) -> list[Planned]:
        return [one for one in self.companies if one.source is None]

    @property
    def moving(self) -> list[Planned]:
        return [one for one in self.companies if one.source is not None]


class Moved(msgspec.Struct, omit_defaults=True):
    """One company. `session`: what became of it, where one is wanted; `kept`: its former folder lies in `kept` of the
    report."""

    company: str
    source: Source
    epoch: int
    sequence: int
    files: int
    session: str | None = None
    kept: bool = False


class FilesReport(msgspec.Struct):
    """`writes_lost` is 0 where every state came from the replica or PostgreSQL as it is; None: nobody knows what was
    written since the change log or the backup that one came from. `kept`: where former folders are. `is_service`: a
    service runs; else the next one starts on files."""

    id: str
    folders: str
    companies: list[Moved]
    left_out: list[Planned]
    steps: list[Timed]
    is_service: bool
    duration_s: float = 0.0
    writes_lost: int | None = 0
    kept: str | None = None

    @property
    def ok(self) -> bool:
        return all(one.session in (None, "open") for one in self.companies)


class Wanted(msgspec.Struct, frozen=True):
    """What was asked for. `only`: none but these companies get folders; empty: all."""

    root: str
    only: list[str] = []
    without: list[str] = []
    reconnects: bool = True
    reason: str = ""


class ToFiles:
    """`look`, then `run` with what was shown. `new_id` names the switch."""

    def __init__(
        self,
        node: FilesNode,
        wanted: Wanted,
        progress: Progress,
        new_id: Callable[[], str],
        *,
        is_service: bool,
    ) -> None:
        self._node = node
        self._wanted = wanted
        self._progress = progress
        self._new_id = new_id
        self._is_service = is_service
        self._watch = Stopwatch(progress)

    async def look(self) -> FilesPlan:
        """What would be done now. Changes nothing. `EmergencyRefused` where it makes no sense."""
        with self._watch.step("looking"):
            standing = await self._node.standing()
        if standing.mode is not None:
            raise EmergencyRefused(
                f"this node stands on files already, in {standing.mode.root}",
                next_step="'standfast emergency status' shows more; the way back is 'standfast emergency to-postgres'.",
            )
        planned = _planned(standing)
        self._refuse_unknown(planned)
        only, without = set(self._wanted.only), set(self._wanted.without)
        companies = [one for one in planned if not only or one.company in only]
        for one in companies:
            if one.company in without:
                one.source, one.why = None, "it was asked to be left out"
        plan = FilesPlan(self._wanted.root, _told(standing), companies, len(planned) - len(companies))
        if not plan.moving:
            raise EmergencyRefused(
                "there is no company here to go to files"
                + (f": {plan.left_out[0].why}" if companies else ""),
                next_step="With PostgreSQL gone and no replica, restore from a backup: standfast backup list",
            )
        return plan

    def _refuse_unknown(self, planned: list[Planned]) -> None:
        known = {one.company for one in planned}
        for company in (*self._wanted.only, *self._wanted.without):
            if company not in known:
                raise EmergencyRefused(
                    f"this node knows no company {company!r}",
                    next_step=f"It knows: {', '.join(sorted(known)[:10]) or 'none'}.",
                )

    async def run(self, plan: FilesPlan) -> FilesReport:
        """Do it. `EmergencyFailed` where it was not done; then nothing has changed."""
        switch = self._new_id()
        moving = {one.company: one for one in plan.moving}
        try:
            written = await self._write(switch, moving)
            mode = self._mode(switch, moving, written)
            with self._watch.step("switching"):
                kept = await self._node.commit(mode)
        except BaseException as error:
            await asyncio.shield(self._abandon(switch))
            if isinstance(error, StandfastError) and not isinstance(error, EmergencyRefused):
                raise EmergencyFailed(
                    f"nothing has changed: {error.message}", next_step=error.next_step
                ) from error
            raise
        report = FilesReport(
            switch,
            self._wanted.root,
            [_moved(one, written[company], kept) for company, one in moving.items()],
            plan.left_out,
            self._watch.steps,
            self._is_service,
        )
        if kept:
            report.kept = str(Folders(Path(self._wanted.root)).kept(switch))
        if any(one.source not in _PRESENT for one in report.companies):
            report.writes_lost = None
        await self._follow_up(report)
        report.duration_s = self._watch.seconds
        return report

    async def _write(self, switch: str, moving: Mapping[str, Planned]) -> dict[str, Written]:
        files = sum(one.keys + 3 for one in moving.values())
        with self._watch.step("preparing"):
            await self._node.prepare(
                switch, self._wanted.root, files, sum(one.size_bytes for one in moving.values())
            )
        fetched = [one.company for one in moving.values() if one.source == "postgresql"]
        if fetched:
            with self._watch.step("fetching from PostgreSQL", len(fetched), "companies"):
                await self._each(fetched, self._node.fetch, FETCHES_AT_ONCE)
        recalled = {one.company: one.source for one in moving.values() if one.source not in _PRESENT}
        if recalled:

            async def recall(company: str) -> None:
                await self._node.recall(company, recalled[company] or "")

            with self._watch.step("reading from the past", len(recalled), "companies"):
                await self._each(list(recalled), recall, 1)
        written: dict[str, Written] = {}

        async def write(company: str) -> None:
            written[company] = await self._node.write(switch, self._wanted.root, company)

        with self._watch.step("writing folders", len(moving), "companies"):
            await self._each(list(moving), write, WRITES_AT_ONCE)
        return written

    async def _each(self, companies: list[str], do: Callable[[str], Awaitable[None]], at_once: int) -> None:
        turns = asyncio.Semaphore(at_once)

        async def one(company: str) -> None:
            async with turns:
                await do(company)
            self._progress.advance(1)

        # All have ended before anything is undone, and what is raised is the error itself.
        for error in await asyncio.gather(*map(one, companies), return_exceptions=True):
            if isinstance(error, BaseException):
                raise error

    def _mode(self, switch: str, moving: Mapping[str, Planned], written: Mapping[str, Written]) -> Mode:
        companies = {
            company: Placed(
                one.source or "replica", written[company].epoch, written[company].sequence, company
            )
            for company, one in moving.items()
        }
        return Mode(FORMAT, switch, "files", time.time(), self._wanted.root, companies, self._wanted.reason)

    async def _abandon(self, switch: str) -> None:
        try:
            await self._node.abandon(switch, self._wanted.root)
        except (OSError, StandfastError) as error:
            self._progress.note(f"what was written aside is dropped by the next start: {error}")

    async def _follow_up(self, report: FilesReport) -> None:
        """It stands; what comes now is told, and changes nothing of that."""
        with self._watch.step("bringing folders up to date"):
            try:
                await self._node.flush()
            except (TimeoutError, StandfastError) as error:
                self._progress.note(f"folders are behind, and follow by themselves: {error}")
        wanted = await self._node.wanted([one.company for one in report.companies])
        if not wanted:
            return
        if self._wanted.reconnects:
            with self._watch.step("connecting sessions anew", len(wanted), "sessions"):
                await self._each(wanted, self._reconnect, RECONNECTS_AT_ONCE)
        with self._watch.step("hearing from WhatsApp"):
            heard = await self._heard(set(wanted))
        for one in report.companies:
            one.session = heard.get(one.company)

    async def _reconnect(self, company: str) -> None:
        try:
            await self._node.reconnect(company)
        except StandfastError as error:
            self._progress.note(f"{company}: {error.message}")

    async def _heard(self, wanted: set[str]) -> dict[str, str]:
        end = time.monotonic() + SESSIONS_TIMEOUT_S
        while True:
            seen = await self._node.sessions()
            found = {company: seen.get(company, "not started") for company in wanted}
            if all(how == "open" for how in found.values()) or time.monotonic() > end:
                return found
            await asyncio.sleep(_POLL_S)


def _planned(standing: FilesStanding) -> list[Planned]:
    wanted = set(standing.wanted)
    planned: list[Planned] = []
    for one in standing.held:
        source: Source | None = "replica" if one.whole else None
        why = None if one.whole else "the replica does not have the whole of it"
        if not one.whole and standing.elsewhere is not None:
            source, why = "postgresql", None
        planned.append(
            Planned(one.company, source, one.sequence, one.keys, one.size_bytes, one.company in wanted, why)
        )
    for lacking in planned:
        if lacking.source is None and lacking.company in standing.past:
            lacking.source, lacking.why = standing.past[lacking.company], None
    gone = standing.past.keys() - {one.company for one in planned}
    planned.extend(_guessed(company, standing.past[company], session=company in wanted) for company in gone)
    for company, holder in (standing.elsewhere or {}).items():
        if holder:
            planned.append(Planned(company, None, why=f"the node {holder} holds it: switch that one too"))
        else:
            planned.append(_guessed(company, "postgresql", session=company in wanted))
    return sorted(planned, key=lambda one: one.company)


def _guessed(company: str, source: Source, *, session: bool) -> Planned:
    """How large it is is known once it is here."""
    return Planned(company, source, keys=2_000, size_bytes=2**20, session=session)


def _moved(one: Planned, made: Written, kept: list[str]) -> Moved:
    source: Source = one.source or "replica"
    return Moved(one.company, source, made.epoch, made.sequence, made.files, kept=one.company in kept)


def _told(standing: FilesStanding) -> str:
    if standing.state == "online":
        return "it answers"
    return f"{standing.state}: {standing.cause}" if standing.cause else standing.state
