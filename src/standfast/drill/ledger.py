"""What a rehearsal writes down as it goes: phases, moments and criteria, which become a record.

Invariant: every time is of the same clock, in seconds since the drill began; a criterion is written once.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from standfast import __version__
from standfast.drill.record import Criterion, DrillRecord, Moment, MomentKind, Phase, Status
from standfast.errors import StandfastError


class Ledger:
    """`name` ends the drill's id, so that those of a sort are known by it."""

    def __init__(self, name: str) -> None:
        self.started_at = time.time()
        self.id = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(self.started_at))}-{name}"
        self.sent = self.lost = 0
        self.rto_s: float | None = None
        self._began = time.monotonic()
        self._phases: list[Phase] = []
        self._moments: list[Moment] = []
        self._rows: dict[str, list[Criterion]] = {"acceptance": [], "performance": []}

    def now(self) -> float:
        """Seconds since the drill began."""
        return time.monotonic() - self._began

    @contextlib.contextmanager
    def phase(self, number: int, name: str) -> Iterator[None]:
        """What happens within belongs to it. An error that leaves it makes it a failed one, and goes on its way."""
        began, status, why = self.now(), "fail", "it was cut short"
        try:
            yield
            status, why = "pass", ""
        except StandfastError as error:
            why = error.message
            raise
        finally:
            outcome: Status = "pass" if status == "pass" else "fail"
            self._phases.append(
                Phase(
                    number=number,
                    name=name,
                    at_s=began,
                    duration_s=self.now() - began,
                    status=outcome,
                    why=why,
                )
            )

    def skip_phase(self, number: int, name: str, why: str) -> None:
        """It was not tried."""
        self._phases.append(
            Phase(number=number, name=name, at_s=self.now(), duration_s=0.0, status="skipped", why=why)
        )

    def moment(self, kind: MomentKind, text: str, subject: str = "", *, since_s: float | None = None) -> None:
        """Something that happens now, or that began at `since_s` and ends now."""
        now = self.now()
        at_s, until_s = (now, None) if since_s is None else (since_s, now)
        self._moments.append(Moment(at_s=at_s, kind=kind, text=text, until_s=until_s, subject=subject))

    def judge(self, phase: int, name: str, target: str, actual: str, *, holds: bool, why: str = "") -> None:
        """A row of the acceptance table."""
        self._row("acceptance", phase, name, target, actual, "pass" if holds else "fail", why=why)

    def measure(
        self, phase: int, name: str, value: float | None, limit: float, unit: str = "s", *, legacy: str = ""
    ) -> None:
        """A row of the performance table: no more than `limit`; None: it did not come about."""
        target = f"< {limit:g} {unit}" if limit else "0"
        actual = "not reached" if value is None else f"{value:.2f} {unit}" if unit == "s" else f"{value:g}"
        holds = value is not None and (value < limit if limit else value == 0)
        status: Status = "pass" if holds else "fail"
        self._row(
            "performance",
            phase,
            name,
            target,
            actual,
            status,
            value=value,
            limit=limit,
            unit=unit,
            legacy=legacy,
        )

    def skip(self, table: str, phase: int, name: str, why: str, *, target: str = "") -> None:
        """A row for what cannot be tried here."""
        self._row(table, phase, name, target, "", "skipped", why=why)

    def record(self, *, kind: str, here: bool, node_name: str, outage_kinds: list[str]) -> DrillRecord:
        """Everything until now."""
        return DrillRecord(
            id=self.id,
            version=__version__,
            started_at=self.started_at,
            duration_s=self.now(),
            kind="fast" if kind == "fast" else "full",
            here=here,
            node_name=node_name,
            scaled={},
            outage_kinds=outage_kinds,
            phases=self._phases,
            acceptance=self._rows["acceptance"],
            performance=self._rows["performance"],
            moments=sorted(self._moments, key=lambda one: one.at_s),
            messages_sent=self.sent,
            messages_lost=self.lost,
            rto_s=self.rto_s,
        )

    def _row(
        self,
        table: str,
        phase: int,
        name: str,
        target: str,
        actual: str,
        status: Status,
        *,
        why: str = "",
        value: float | None = None,
        limit: float | None = None,
        unit: str = "",
        legacy: str = "",
    ) -> None:
        self._rows[table].append(
            Criterion(
                name=name,
                target=target,
                actual=actual,
                status=status,
                phase=phase,
                value=value,
                limit=limit,
                unit=unit,
                legacy=legacy,
                why=why,
            )
        )
