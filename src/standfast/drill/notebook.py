"""`Notebook`: what a drill writes down while it runs, and the record that comes of it.

Invariant: times are seconds since the drill began, on a clock that nobody sets; what is not written here is not in the
record.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncIterator

from standfast.drill.plan import NAMES, PHASES, Plan
from standfast.drill.record import Criterion, DrillRecord, Moment, MomentKind, Phase, Status
from standfast.errors import StandfastError
from standfast.jobs.progress import Progress
from standfast.version import __version__

_BUSY_LOAD = 1.5  # of a core


class Notebook:
    """Filled by the phases; `record()` at the end."""

    def __init__(self, plan: Plan, progress: Progress, node_name: str) -> None:
        self.plan = plan
        self.node_name = node_name
        self.moments: list[Moment] = []
        self.phases: list[Phase] = []
        self.acceptance: list[Criterion] = []
        self.performance: list[Criterion] = []
        self.phase = 0
        self.rto_s: float | None = None
        self.to_files_s: float | None = None
        self.to_postgres_s: float | None = None
        self._progress = progress
        self._began = time.monotonic()
        self._began_at = time.time()

    @property
    def id(self) -> str:
        """By the time of its beginning."""
        return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._began_at))

    def now(self) -> float:
        """Seconds since the drill began."""
        return time.monotonic() - self._began

    def doing(self, text: str) -> None:
        """What happens now, for whoever watches."""
        self._progress.step(f"phase {self.phase}, {text}")

    def moment(self, kind: MomentKind, text: str, *, since: float | None = None, subject: str = "") -> None:
        """Something that happened now; with `since`, that lasted until now."""
        now = self.now()
        at_s, until_s = (now, None) if since is None else (since, now)
        self.moments.append(
            Moment(
                at_s=round(at_s, 3),
                kind=kind,
                text=text,
                until_s=None if until_s is None else round(until_s, 3),
                subject=subject,
            )
        )

    def holds(
        self, name: str, target: str, actual: str, *, ok: bool, why: str = "", phase: int | None = None
    ) -> None:
        """A row of the acceptance table that holds or does not."""
        self.acceptance.append(
            Criterion(
                name=name,
                target=target,
                actual=actual,
                status="pass" if ok else "fail",
                phase=self.phase if phase is None else phase,
                why=why,
            )
        )

    def counted(
        self, name: str, value: float, limit: float, unit: str = "count", *, least: bool = False
    ) -> None:
        """A figure in the acceptance table: at most `limit`, with `least` at least."""
        ok = value >= limit if least else value <= limit
        shown = {"%": "{:g} %", "s": "{:.2f} s"}.get(unit, "{:,.0f}")
        self.acceptance.append(
            Criterion(
                name=name,
                target=shown.format(limit),
                actual=shown.format(value),
                status="pass" if ok else "fail",
                phase=self.phase,
                value=value,
                limit=limit,
                unit=unit,
            )
        )

    def took(self, name: str, seconds: float, limit_s: float, *, legacy: str = "") -> None:
        """A row of the performance table."""
        ok = seconds < limit_s
        self.performance.append(
            Criterion(
                name=name,
                target=f"< {limit_s:g} s",
                actual=f"{seconds:.2f} s",
                status="pass" if ok else "fail",
                phase=self.phase,
                value=round(seconds, 3),
                limit=limit_s,
                unit="s",
                legacy=legacy,
                why="" if ok else _load(),
            )
        )

    def skipped(self, name: str, target: str, why: str) -> None:
        """A row of the acceptance table that was not tried."""
        self.acceptance.append(
            Criterion(
                name=name, target=target, actual="not tried", status="skipped", phase=self.phase, why=why
            )
        )

    @contextlib.asynccontextmanager
    async def written(self, number: int) -> AsyncIterator[None]:
        """A phase; it fails where it is cut short, or where a criterion of it does."""
        self.phase, at_s, why = number, self.now(), ""
        self.moment("phase", f"{number} {NAMES[number]}")
        cut_short = True
        try:
            yield
            cut_short = False
        except StandfastError as error:
            why = error.message
            raise
        except BaseException as error:
            why = type(error).__name__
            raise
        finally:
            rows = [row for row in (*self.acceptance, *self.performance) if row.phase == number]
            status: Status = "fail" if cut_short or any(row.status == "fail" for row in rows) else "pass"
            self._add(number, at_s, status, why)

    def _add(self, number: int, at_s: float, status: Status, why: str) -> None:
        self.phases.append(
            Phase(
                number=number,
                name=NAMES[number],
                at_s=round(at_s, 3),
                duration_s=round(self.now() - at_s, 3),
                status=status,
                why=why,
            )
        )

    def record(self, sent: int, lost: int) -> DrillRecord:
        """The whole; phases that were not come to are skipped."""
        cut = next((phase.number for phase in self.phases if phase.status == "fail" and phase.why), None)
        for number in PHASES:
            if number not in {phase.number for phase in self.phases}:
                asked = self.plan.wants(number)
                why = f"phase {cut} did not come to its end" if asked and cut is not None else "not asked for"
                self._add(number, self.now(), "skipped", why)
        return DrillRecord(
            id=self.id,
            version=__version__,
            started_at=self._began_at,
            duration_s=round(self.now(), 3),
            kind="fast" if self.plan.is_fast else "full",
            here=False,
            node_name=self.node_name,
            scaled=self.plan.scaled,
            outage_kinds=list(self.plan.kinds),
            phases=self.phases,
            acceptance=self.acceptance,
            performance=self.performance,
            moments=self.moments,
            messages_sent=sent,
            messages_lost=lost,
            rto_s=self.rto_s,
            to_files_s=self.to_files_s,
            to_postgres_s=self.to_postgres_s,
        )


def _load() -> str:
    """Said beside a time that is too long: a busy machine may be all there is to it."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    return f"load {load:.1f} on {cores} cores" if load > cores * _BUSY_LOAD else ""
