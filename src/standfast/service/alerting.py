"""`Alerting`: the service's alerts: the desk, what it keeps on disk, its channels, and what operators ask of them.

Invariant: an alert is taken from the first moment to the last, with PostgreSQL away and before any task runs; each note
is one event of kind `alert`, whatever becomes of the channels.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec
import structlog
from msgspec import Meta

from standfast.alert import Alert, Level
from standfast.alerts.channel import Channel, Note
from standfast.alerts.channels import channels_of, unusable_channels
from standfast.alerts.courier import ChannelState, CourierOptions, Couriers, Outcome
from standfast.alerts.desk import AlertDesk
from standfast.alerts.notes import new_id
from standfast.alerts.records import Incident, Trouble
from standfast.alerts.store import AlertStore
from standfast.errors import NotFound
from standfast.service.params import checked
from standfast.service.vault import vault_options
from standfast.sessions.events import Event, EventBus
from standfast.sessions.gateway import OperatorMethod
from standfast.sessions.wire import Connection
from standfast.settings import Settings
from standfast.vault.clock import Clock, SystemClock

log = structlog.get_logger(__name__)
KIND = "alert"
HISTORY_MAX = 1_000
CHECK_DELAY_S = 10.0  # their libraries take a moment to load: not while sessions open
_TAGS = {"component": "alerts"}
AlertName = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,59}$")]


class ListAlerts(msgspec.Struct):
    """Params of `alerts.list`; with `companies` only theirs."""

    since_s: Annotated[float, Meta(ge=0, le=30 * 86_400)] = 86_400.0
    open_only: bool = False
    companies: list[str] = []
    limit: Annotated[int, Meta(ge=1, le=HISTORY_MAX)] = 200


class TestAlerts(msgspec.Struct):
    """Params of `alerts.test`; without a channel all of them."""

    channel: str | None = None


class Dismiss(msgspec.Struct):
    """Params of `alerts.dismiss`; without a company those of all, and of the whole node."""

    name: str
    company: str | None = None


class GivenAlert(msgspec.Struct, forbid_unknown_fields=True):
    """An `Alert`, field by field."""

    name: AlertName
    level: Level
    message: Annotated[str, Meta(min_length=1, max_length=4_000)]
    tags: dict[str, str] = {}
    facts: dict[str, Any] = {}
    since: float | None = None
    lasts: bool = False
    ends: list[AlertName] = []
    quiet: bool = False


class RaiseAlerts(msgspec.Struct, forbid_unknown_fields=True):
    """Params of `alerts.raise`."""

    alerts: Annotated[list[GivenAlert], Meta(max_length=100)]


class Alerting:
    """The service's `AlertSink`. `open` before anything else can go wrong."""

    def __init__(
        self,
        settings: Settings,
        bus: EventBus,
        clock: Clock,
        channels: Sequence[Channel] | None = None,
        options: CourierOptions | None = None,
    ) -> None:
        """`channels`: None for those that the settings name."""
        self._channels = channels_of(settings) if channels is None else channels
        self._bus = bus
        self._clock = clock
        self._node = vault_options(settings).node_name
        self._store = AlertStore(settings.state_dir / "alerts", clock, self._unkept)
        self._couriers = Couriers(self._channels, self._store, clock, options)
        self._desk = AlertDesk(self._node, clock, self._store, self._couriers, self._publish)

    def take(self, alert: Alert) -> None:
        """See `AlertSink`."""
        self._desk.take(alert)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Go on from what an earlier run left; at the end deliver and write down what can be."""
        kept = self._store.open()
        self._desk.restore(kept.troubles, kept.held)
        self._couriers.restore(kept.waiting)
        self._desk.bind()
        self._couriers.start()
        tasks = {asyncio.create_task(self._desk.run()), asyncio.create_task(self._check_channels())}
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._desk.keep_counts()
            await self._couriers.stop()
            await self._store.close()

    def open_alerts(self) -> list[Alert]:
        """Those that go on, as they were last reported."""
        return self._desk.open_alerts()

    def troubles(self) -> list[Trouble]:
        """The same, with since when and how often."""
        return self._desk.troubles()

    def channels(self) -> list[ChannelState]:
        return self._couriers.states()

    def methods(self) -> Mapping[str, OperatorMethod]:
        """By name, for `Gateway.serve_operators`."""
        return {
            "alerts.list": self._list,
            "alerts.test": self._test,
            "alerts.dismiss": self._dismiss,
            "alerts.raise": self._raise,
        }

    async def listed(
        self, since_s: float, open_only: bool = False, companies: Sequence[str] = (), limit: int = HISTORY_MAX
    ) -> dict[str, Any]:
        """The history of so many seconds, newest first, and what goes on; docs/alerts.md has the form. Of these
        companies only, where any is named."""
        now, error = self._clock.wall(), self._store.error
        if open_only:
            incidents = [one.incident for one in reversed(self._desk.troubles())]
        else:
            known = [one.incident for one in self._desk.troubles()]
            incidents, error = await self._store.history(now - since_s, HISTORY_MAX, known)
        chosen = [one for one in incidents if not companies or one.company in companies]
        return {
            "alerts": [incident_wire(one, now) for one in chosen[:limit]],
            "channels": [state_wire(one) for one in self._couriers.states()],
            "error": error,
        }

    async def _check_channels(self) -> None:
        """A channel that cannot work as it is set up shows that before it is needed."""
        await asyncio.sleep(CHECK_DELAY_S)
        try:
            self._couriers.found_unusable(await unusable_channels(self._channels))
        except Exception:
            log.exception("the channels of alerts could not be looked at")

    async def tested(self, channel: str | None = None) -> list[dict[str, Any]]:
        """What becomes of a test note over each channel, within its deadline. `NotFound` for a name that none has."""
        names = [one.name for one in self._couriers.states()]
        if channel is not None and channel not in names:
            raise NotFound(
                f"there is no channel {channel!r}",
                next_step=f"The channels that are set up: {', '.join(names) or 'none'}.",
            )
        note = trial_note(self._node, self._clock.wall())
        return [outcome_wire(one) for one in await self._couriers.attempt(note, channel)]

    async def _list(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        asked = checked(ListAlerts, params)
        return await self.listed(asked.since_s, asked.open_only, asked.companies, asked.limit)

    async def _dismiss(self, connection: Connection, params: msgspec.Raw) -> list[dict[str, Any]]:
        asked = checked(Dismiss, params)
        dismissed = self._desk.dismiss(asked.name, asked.company)
        if not dismissed:
            whose = f" of {asked.company}" if asked.company else ""
            raise NotFound(
                f"no alert {asked.name!r}{whose} goes on",
                next_step="'standfast alerts --open' shows what does.",
            )
        log.info("alerts were dismissed", alert=asked.name, company=asked.company, count=len(dismissed))
        now = self._clock.wall()
        return [incident_wire(one, now) for one in dismissed]

    async def _raise(self, connection: Connection, params: msgspec.Raw) -> None:
        """What a command's job found, as if this service had run it."""
        for given in checked(RaiseAlerts, params).alerts:
            fields = msgspec.structs.asdict(given) | {"ends": tuple(given.ends)}
            self.take(Alert(**fields))

    async def _test(self, connection: Connection, params: msgspec.Raw) -> list[dict[str, Any]]:
        return await self.tested(checked(TestAlerts, params).channel)

    def _publish(self, note: Note) -> None:
        company = note.company or ""
        self._bus.publish(Event(company, KIND, {"company": company, "kind": KIND, **note_wire(note)}))

    def _unkept(self, why: str | None) -> None:
        if why is None:
            over = "alerts can be written down again"
            self.take(Alert("alerts_kept_again", "info", over, _TAGS, ends=("alerts_not_kept",), quiet=True))
            return
        step = "Free or add disk space for the state directory, or make it writable; a restart would forget alerts."
        self.take(Alert("alerts_not_kept", "warning", why, _TAGS, {"next_step": step}, lasts=True))


async def try_channels_here(settings: Settings, channel: str | None = None) -> list[dict[str, Any]]:
    """The same without a service: over the channels that these settings name, from this process."""
    apart = Alerting(settings, EventBus(), SystemClock())
    return await apart.tested(channel)


def trial_note(node: str, at: float) -> Note:
    """What is sent to see whether anything arrives."""
    return Note(
        id=new_id(),
        kind="test",
        name="test",
        level="info",
        message="This is a test: alerts of Standfast arrive here.",
        since=at,
        at=at,
        node=node,
        fingerprint="test|",
        tags=dict(_TAGS),
    )


def note_wire(note: Note) -> dict[str, Any]:
    """The JSON form of a note in events; times in seconds since 1970."""
    return {
        "name": note.name,
        "level": note.level,
        "message": note.message,
        "tags": note.tags,
        "facts": note.facts,
        "at": round(note.at, 3),
        "since": round(note.since, 3),
        "state": note.kind,
        "count": note.count,
        "duration_s": note.duration_s,
        "ends": list(note.ends),
        "next_step": note.next_step,
    }


def incident_wire(incident: Incident, now: float) -> dict[str, Any]:
    """The JSON form of an incident; of one that goes on with how long it has."""
    wire: dict[str, Any] = msgspec.to_builtins(incident)
    wire["open"] = incident.is_open
    if incident.is_open:
        wire["duration_s"] = round(max(0.0, now - incident.since), 1)
    return wire


def state_wire(state: ChannelState) -> dict[str, Any]:
    wire: dict[str, Any] = msgspec.to_builtins(state)
    return wire


def outcome_wire(outcome: Outcome) -> dict[str, Any]:
    """`error` is as everywhere; None: the channel took it."""
    failure = outcome.failure
    return {
        "channel": outcome.channel,
        "ok": failure is None,
        "seconds": round(outcome.seconds, 2),
        "error": None if failure is None else failure.as_wire(),
    }
