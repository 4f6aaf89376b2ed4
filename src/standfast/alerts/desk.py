"""`AlertDesk`: hears every report of trouble and decides what is told, once, to whom.

Invariant: a trouble is told when it begins, when it gets worse and when it is over, and in between only counted. What
is held back (a cooldown, a storm) is told later or counted; it is never told twice, not by the desk of the next start
either. `take` neither raises nor waits. Durations count on the boot clock, which nobody sets.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from standfast.alert import Alert, AlertSink, Level, LoggedAlerts
from standfast.alerts import kinds
from standfast.alerts.channel import Note, NoteKind, worst
from standfast.alerts.notes import digest_note, new_id, note_of, resolved_note
from standfast.alerts.records import Incident, Trouble, facts_of, incident_of
from standfast.alerts.storm import Held, Storm
from standfast.vault.clock import Clock

log = structlog.get_logger(__name__)
TICK_S = 1.0
KEEP_EVERY_S = 30.0  # how often mere counts are written down
COUNTED_S = 86_400.0  # for how long what was counted and not told waits for the next of its kind
TROUBLES_MAX = 20_000  # those that go on are never given up


class Keeping(Protocol):
    """Where the desk's knowledge outlives it; none of this waits or raises."""

    def keep_trouble(self, trouble: Trouble) -> None: ...

    def drop_trouble(self, fingerprint: str) -> None: ...

    def keep_incident(self, incident: Incident) -> None: ...

    def keep_held(self, held: Held) -> None: ...

    def drop_held(self, held: Held) -> None: ...


class Telling(Protocol):
    """The channels, as the desk sees them."""

    def channels_for(self, level: Level) -> tuple[str, ...]:
        """The names of those that are told what is so bad."""
        ...

    def tell(self, note: Note, channels: Iterable[str]) -> None:
        """Have these channels told. Neither waits nor raises."""
        ...


class AlertDesk:
    """`heard` is called with each note that is not a digest: those of a storm one by one, and at once. `log_to` takes
    every report that is news."""

    def __init__(
        self,
        node: str,
        clock: Clock,
        keeping: Keeping,
        telling: Telling,
        heard: Callable[[Note], None] = lambda _note: None,
        log_to: AlertSink | None = None,
    ) -> None:
        self._node = node
        self._clock = clock
        self._keeping = keeping
        self._telling = telling
        self._heard = heard
        self._logged = log_to or LoggedAlerts()
        self._troubles: dict[str, Trouble] = {}
        self._storm = Storm()
        self._counted: set[str] = set()
        self._counts_due_b = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.get_ident()

    def restore(self, troubles: Iterable[Trouble], held: Iterable[Held]) -> None:
        """Take up what an earlier run kept."""
        self._troubles = {one.fingerprint: one for one in troubles} | self._troubles
        for one in held:
            self._storm.keep(one, self._clock.boottime())

    def bind(self) -> None:
        """From now on what other threads report is handed to the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def take(self, alert: Alert) -> None:
        """See `AlertSink`."""
        if self._loop is None or threading.get_ident() == self._thread:
            self._safely(alert)
            return
        try:
            self._loop.call_soon_threadsafe(self._safely, alert)
        except RuntimeError:  # the loop has ended: there is nobody left to tell
            self._log(alert)

    def troubles(self) -> list[Trouble]:
        """Those that go on, the oldest first."""
        return sorted(
            (one for one in self._troubles.values() if one.is_open), key=lambda one: one.incident.since
        )

    def open_alerts(self) -> list[Alert]:
        """The same, as they were last reported."""
        return [one.as_alert() for one in self.troubles()]

    def dismiss(self, name: str, company: str | None = None) -> list[Incident]:
        """End what goes on under that name, of one company or of all, without a word to anybody. Where it is reported
        again it is told again, after its cooldown."""
        now_b = self._clock.boottime()
        chosen = [
            one
            for one in self.troubles()
            if one.incident.name == name and company in (None, one.incident.company)
        ]
        for trouble in chosen:
            self._close(trouble, now_b)
        return [one.incident for one in chosen]

    async def run(self) -> None:
        """Until cancelled: what time brings."""
        while True:
            await asyncio.sleep(TICK_S)
            try:
                self.tick()
            except Exception:
                log.exception("alerts that were due could not be told")

    def tick(self) -> None:
        """Tell what was held back for long enough, remind, sum up, forget."""
        now_b = self._clock.boottime()
        for digest in self._storm.due(now_b):
            self._sum_up(digest_note(digest, self._clock.wall()), digest.held)
        for trouble in list(self._troubles.values()):
            self._tick_one(trouble, now_b)
        if now_b >= self._counts_due_b:
            self._counts_due_b = now_b + KEEP_EVERY_S
            self.keep_counts()

    def keep_counts(self) -> None:
        """Have what was only counted written down."""
        for fingerprint in list(self._counted):
            self._keep(self._troubles[fingerprint])

    def _tick_one(self, trouble: Trouble, now_b: float) -> None:
        if not trouble.is_open:
            if not trouble.is_cooling(now_b - (COUNTED_S if trouble.unsaid else 0.0)):
                self._forget(trouble)
        elif trouble.is_held:
            if not trouble.is_cooling(now_b):
                trouble.is_held = False
                self._say("raised", trouble, now_b)
        elif _is_due_again(trouble, now_b):
            self._say("reminder", trouble, now_b)

    def _safely(self, alert: Alert) -> None:
        try:
            self._take(alert)
        except Exception:
            log.exception("an alert could not be handled", alert=alert.name)

    def _take(self, alert: Alert) -> None:
        now_b = self._clock.boottime()
        ended = [one for name in alert.ends if (one := self._open(f"{name}|{alert.subject}")) is not None]
        if ended:
            self._log(_spoken(alert))
            self._end(alert, ended, now_b)
        elif alert.quiet:
            return
        if not ended or alert.lasts:
            trouble = self._troubles.get(alert.fingerprint)
            if alert.lasts or (trouble is not None and trouble.is_open):
                self._goes_on(alert, trouble, now_b)
            else:
                self._occurs(alert, trouble, now_b)

    def _log(self, alert: Alert) -> None:
        try:
            self._logged.take(alert)
        except Exception:
            log.exception("an alert could not be logged", alert=alert.name)

    def _open(self, fingerprint: str) -> Trouble | None:
        trouble = self._troubles.get(fingerprint)
        return trouble if trouble is not None and trouble.is_open else None

    def _goes_on(self, alert: Alert, trouble: Trouble | None, now_b: float) -> None:
        if trouble is None or not trouble.is_open:
            self._log(alert)
            self._begin(alert, trouble, now_b)
            return
        if trouble.level != alert.level:
            self._log(alert)
        trouble.report(alert, self._clock.wall())
        self._counted.add(trouble.fingerprint)
        if trouble.is_worse(alert.level):
            self._worsen(trouble, now_b)

    def _begin(self, alert: Alert, former: Trouble | None, now_b: float) -> None:
        """A trouble that is new, or has come back."""
        if former is not None and former.is_cooling(now_b):
            trouble = former
            trouble.report(alert, self._clock.wall())
            trouble.incident.ended = trouble.incident.duration_s = None
            trouble.incident.lasts = True
            trouble.incident.returns += 1
            trouble.is_open, trouble.is_said, trouble.told = True, False, []
            trouble.began_b = now_b - self._age_s(alert)
            trouble.is_held = not trouble.is_worse(alert.level)
        else:
            trouble = self._new(alert, now_b)
        if trouble.is_held:
            self._keep(trouble)
        else:
            self._say("raised", trouble, now_b)

    def _worsen(self, trouble: Trouble, now_b: float) -> None:
        for held in self._storm.call_back(trouble.fingerprint):
            self._keeping.drop_held(held)
        trouble.is_held = False
        self._say("escalated" if trouble.is_said else "raised", trouble, now_b)

    def _occurs(self, alert: Alert, trouble: Trouble | None, now_b: float) -> None:
        self._log(alert)
        if trouble is None:
            trouble = self._new(alert, now_b)
        elif trouble.is_cooling(now_b):
            self._occurred_again(alert, trouble)
            if trouble.is_worse(alert.level):
                self._worsen(trouble, now_b)
            return
        else:
            unsaid, trouble = trouble.unsaid, self._new(alert, now_b)
            trouble.unsaid += unsaid
        self._say("raised", trouble, now_b)

    def _occurred_again(self, alert: Alert, trouble: Trouble) -> None:
        trouble.report(alert, self._clock.wall())
        trouble.incident.ended = trouble.incident.last_at
        self._counted.add(trouble.fingerprint)

    def _new(self, alert: Alert, now_b: float) -> Trouble:
        at = self._clock.wall()
        trouble = Trouble(
            fingerprint=alert.fingerprint,
            incident=incident_of(alert, new_id(), at if alert.since is None else alert.since, at),
            level=alert.level,
            tags=dict(alert.tags),
            facts=facts_of(alert),
            began_b=now_b - self._age_s(alert),
            is_open=alert.lasts,
            unsaid=1,
        )
        self._troubles[trouble.fingerprint] = trouble
        if len(self._troubles) > TROUBLES_MAX:
            rests = next((one for one in self._troubles.values() if not one.is_open), None)
            if rests is not None:
                self._forget(rests)
        return trouble

    def _age_s(self, alert: Alert) -> float:
        return 0.0 if alert.since is None else max(0.0, self._clock.wall() - alert.since)

    def _end(self, ender: Alert, ended: list[Trouble], now_b: float) -> None:
        said, channels = list[Trouble](), set[str]()
        for trouble in ended:
            self._close(trouble, now_b)
            if trouble.is_said:
                said.append(trouble)
                channels.update(trouble.told)
        if said:
            self._hand_over(
                resolved_note(ender, said, self._node, self._clock.wall(), now_b), channels, now_b
            )

    def _close(self, trouble: Trouble, now_b: float) -> None:
        for held in self._storm.call_back(trouble.fingerprint):
            self._keeping.drop_held(held)
        trouble.is_open = trouble.is_held = False
        trouble.incident.ended = self._clock.wall()
        trouble.incident.duration_s = round(now_b - trouble.began_b, 1)
        if trouble.is_said:
            trouble.cool_until_b = now_b + kinds.cooldown_s(trouble.incident.name)
        self._keep(trouble)

    def _say(self, kind: NoteKind, trouble: Trouble, now_b: float) -> None:
        note = note_of(kind, trouble, self._node, self._clock.wall())
        trouble.said = worst(trouble.level, trouble.said or trouble.level)
        trouble.is_said, trouble.unsaid, trouble.noted_b = True, 0, now_b
        if not trouble.is_open:
            trouble.cool_until_b = now_b + kinds.cooldown_s(note.name)
        self._hand_over(note, self._telling.channels_for(note.level), now_b)
        self._keep(trouble)

    def _hand_over(self, note: Note, channels: Iterable[str], now_b: float) -> None:
        self._heard(note)
        held = Held(note, tuple(channels))
        if not held.channels:
            return
        if self._storm.passes(held, now_b):
            self._sum_up(note, [held])
        else:
            self._keeping.keep_held(held)

    def _sum_up(self, note: Note, held: list[Held]) -> None:
        """Have the channels told `note`, which stands for all of these."""
        channels = sorted({channel for one in held for channel in one.channels})
        for one in held:
            self._keeping.drop_held(one)
            trouble = self._troubles.get(one.note.fingerprint)
            if trouble is not None and one.note.kind != "resolved":
                trouble.told = sorted({*trouble.told, *channels})
                self._keeping.keep_trouble(trouble)
        self._telling.tell(note, channels)

    def _keep(self, trouble: Trouble) -> None:
        self._counted.discard(trouble.fingerprint)
        self._keeping.keep_trouble(trouble)
        self._keeping.keep_incident(trouble.incident)

    def _forget(self, trouble: Trouble) -> None:
        self._counted.discard(trouble.fingerprint)
        del self._troubles[trouble.fingerprint]
        self._keeping.drop_trouble(trouble.fingerprint)


def _is_due_again(trouble: Trouble, now_b: float) -> bool:
    since_b = trouble.noted_b
    return trouble.level == "critical" and since_b is not None and now_b - since_b >= kinds.REMINDER_S


def _spoken(alert: Alert) -> Alert:
    return Alert(alert.name, alert.level, alert.message, alert.tags, alert.facts)
