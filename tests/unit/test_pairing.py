"""Pairings without a Node host: codes that are refused or expire, other numbers, and what is asked for twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from standfast.alert import Alert
from standfast.authstate.company import Company
from standfast.errors import Conflict, PairingFailed
from standfast.sessions.backoff import Backoff
from standfast.sessions.events import Event, EventBus
from standfast.sessions.pairing import PairingOptions
from standfast.sessions.pool import SessionPool
from standfast.sessions.roster import Identity
from standfast.sessions.session import Pairing, Session, State
from tests.support import until

ACME = Company("acme")
ANNA, BORIS = "79990000001", "79990000002"
BY_CODE = Pairing("code", ANNA)
CODE_LIFETIME_S = 0.1


class Roster:
    """Knows one identity, and writes down what is done about it, in order."""

    def __init__(self, done: list[str]) -> None:
        self.done = done
        self.known: Identity | None = None

    async def wanted(self) -> list[Company]:
        return []

    async def want(self, company: Company, wanted: bool) -> None:
        self.done.append(f"wanted {wanted}")

    async def linked(self, company: Company) -> None:
        self.done.append("linked")

    async def unlinked(self, company: Company) -> None:
        self.done.append("unlinked")

    async def check_known(self, company: Company) -> None: ...

    async def identity(self, company: Company) -> Identity | None:
        return self.known

    async def prepare_pairing(
        self,
        company: Company,
        *,
        replaces: bool = False,
        release: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        if self.known is not None:
            self.done.append("archived")
        if release is not None:
            await release()
        if self.known is not None:
            self.done.append("removed")
            self.known = None

    async def forget_unpaired(self, company: Company) -> None:
        self.done.append("forgotten")


class Nobody:
    """Keeps no messages."""

    async def take(
        self, company: Company, message: dict[str, Any], attachment: bytes | None = None
    ) -> int | None:
        return 1

    def knows(self, company: Company, chat: str, message_id: str) -> bool:
        return False

    def sent_content(self, company: Company, message_id: str) -> bytes | None:
        return None


class World:
    """A pool whose host does what it is told; `done` is what was asked of it and of the roster."""

    is_ready = True

    def __init__(self) -> None:
        self.done: list[str] = []
        self.starts: list[dict[str, Any]] = []
        self.alerts: list[Alert] = []
        self.heard: list[Event] = []
        self.roster = Roster(self.done)
        bus = EventBus()
        bus.subscribe(self.heard.append)
        options = PairingOptions(code_lifetime_s=CODE_LIFETIME_S)
        backoff = Backoff(base_s=0.01, cap_s=0.01, jitter=0)
        self.pool = SessionPool(self.roster, bus, Nobody(), backoff, alerts=self, pairing=options)
        self.pool.use_host(self)

    def take(self, alert: Alert) -> None:
        if not alert.quiet:
            self.alerts.append(alert)

    async def request(self, method: str, params: Any, *, timeout_s: float) -> msgspec.Raw:
        self.done.append(method)
        if method == "session.start":
            self.starts.append(params["pair"])
        if method == "session.logout":
            self.event("closed", status=401, reason="logged out")
        return msgspec.Raw(b"null")

    @property
    def session(self) -> Session:
        session = self.pool.session(ACME)
        assert session is not None
        return session

    def event(self, kind: str, **data: Any) -> None:
        event = {"company": ACME, "generation": self.session.generation, "kind": kind, **data}
        self.pool.hearing.told("session.event", msgspec.Raw(msgspec.json.encode(event)))

    def code(self, code: str = "ABCD1234") -> None:
        self.event("pairing_code", code=code, ttl_s=50)

    def paired(self, number: str) -> None:
        self.event("paired", jid=f"{number}:1@s.whatsapp.net", lid=None)

    async def started(self, times: int) -> None:
        await until(lambda: len(self.starts) == times, 2)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.pool.close()


async def test_a_second_request_for_the_same_pairing_follows_the_first(world: World) -> None:
    """No second code is asked for; the one that is on show is told to who asks."""
    _, follows = await world.pool.begin_pairing(ACME, BY_CODE)
    world.code()
    assert not follows
    session, follows = await world.pool.begin_pairing(ACME, BY_CODE)
    assert follows
    prompt = world.pool.pairings.prompt(session)
    assert prompt is not None
    assert (prompt["kind"], prompt["code"]) == ("pairing_code", "ABCD1234")
    assert len(world.starts) == 1


async def test_no_second_code_is_asked_for_while_one_may_be_entered(world: World) -> None:
    """Neither for another number nor after the first was broken off; a QR may be asked for. Afterwards a code may."""
    await world.pool.pair(ACME, BY_CODE)
    with pytest.raises(PairingFailed, match="is being asked for already"):
        await world.pool.pair(ACME, Pairing("code", BORIS))
    world.code()
    await world.pool.cancel_pairing(ACME)
    for phone in (ANNA, BORIS):
        with pytest.raises(PairingFailed, match="may still be entered") as refused:
            await world.pool.pair(ACME, Pairing("code", phone))
        assert refused.value.facts == {"retry_in_s": 1}
    await asyncio.sleep(CODE_LIFETIME_S)
    await world.pool.pair(ACME, BY_CODE)
    world.code()
    await world.pool.pair(ACME, Pairing("qr"))
    assert world.starts == [BY_CODE.as_wire(), BY_CODE.as_wire(), {"by": "qr"}]


async def test_a_connection_that_falls_asks_for_its_next_code_when_the_first_is_over(world: World) -> None:
    """Reconnecting would be quicker, and a second code within the first one's life."""
    await world.pool.pair(ACME, BY_CODE)
    world.code()
    began = time.monotonic()
    world.event("closed", status=428, reason="gone")
    assert world.session.prompt is None
    await world.started(2)
    assert time.monotonic() - began >= CODE_LIFETIME_S


@pytest.mark.parametrize("reason", ["refused", "expired twice"])
async def test_a_pairing_by_code_goes_on_by_qr(world: World, reason: str) -> None:
    """Where WhatsApp refuses a code, and where two were not entered: an event says why, and so does the session."""
    await world.pool.pair(ACME, Pairing("code", ANNA, fallback=True))
    if reason == "refused":
        world.event("pairing_refused", status=429, reason="rate-overlimit")
        told = "WhatsApp refused a pairing code (status 429)"
    else:
        world.code()
        await world.started(2)
        world.code("EFGH5678")
        told = "no pairing code was entered in time"
    await until(lambda: world.starts[-1] == {"by": "qr"}, 2)
    (event,) = [event for event in world.heard if event.kind == "pairing_fallback"]
    assert (event.data["to"], event.data["reason"]) == ("qr", told)
    assert world.session.as_wire()["pairing"] == {"by": "qr", "because": told}


async def test_without_fallback_a_pairing_by_code_ends(world: World) -> None:
    """Two codes, then the session is closed and says what to do; nothing of the pairing is left."""
    await world.pool.pair(ACME, BY_CODE)
    world.code()
    await world.started(2)
    world.code()
    await until(lambda: world.session.state is State.CLOSED, 2)
    assert world.session.reason == "no pairing code was entered in time"
    assert world.session.next_step == "Wait some minutes, or pair by QR."
    assert world.session.pairing is None
    await until(lambda: world.done[-1] == "forgotten", 2)


async def test_a_code_that_was_entered_does_not_expire(world: World) -> None:
    """The device is linked: what follows is its own business."""
    await world.pool.pair(ACME, BY_CODE)
    world.code()
    world.paired(ANNA)
    await asyncio.sleep(CODE_LIFETIME_S * 1.5)
    assert len(world.starts) == 1
    assert world.session.state is State.PAIRING


async def test_a_code_that_was_entered_stands_in_nobodys_way(world: World) -> None:
    """A company that is logged out at once may be paired by another code at once."""
    await world.pool.pair(ACME, BY_CODE)
    world.code()
    world.paired(ANNA)
    world.event("closed", status=401, reason="logged out")
    await world.pool.pair(ACME, BY_CODE)
    assert len(world.starts) == 2


@pytest.mark.parametrize("is_alive", [True, False])
async def test_another_number_needs_a_confirmation(world: World, is_alive: bool) -> None:
    """Refused with both numbers masked and nothing changed; confirmed, the old state is archived, then removed."""
    world.roster.known = Identity(BORIS, is_alive=is_alive)
    with pytest.raises(Conflict) as refused:
        await world.pool.pair(ACME, BY_CODE)
    assert refused.value.facts == {"stored": "…0002", "asked": "…0001", "is_alive": is_alive}
    assert ANNA not in str(refused.value)
    assert world.done == []
    await world.pool.pair(ACME, BY_CODE, confirm=True)
    assert world.done == ["archived", "removed", "session.start"]
    world.paired(ANNA)
    assert world.alerts == []


async def test_the_device_of_an_open_session_is_unlinked_before_another_number_takes_its_place(
    world: World,
) -> None:
    """Archived first; then logged out at WhatsApp, removed, and paired anew."""
    await world.pool.pair(ACME, Pairing("qr"))
    world.paired(BORIS)
    world.event("open", jid=f"{BORIS}:1@s.whatsapp.net", lid=None)
    world.roster.known = Identity(BORIS, is_alive=True)
    with pytest.raises(Conflict):
        await world.pool.pair(ACME, BY_CODE)
    assert world.session.state is State.OPEN
    world.done.clear()
    await world.pool.pair(ACME, BY_CODE, confirm=True)
    steps = ("archived", "session.logout", "removed", "session.start")
    assert [step for step in world.done if step in steps] == list(steps)
    assert not world.session.wanted


async def test_the_same_number_is_not_replaced(world: World) -> None:
    """A confirmation is for another number: a company that lives is not paired again by one that was not needed."""
    world.roster.known = Identity(ANNA, is_alive=True)
    for pairing in (BY_CODE, Pairing("qr")):
        with pytest.raises(PairingFailed, match="paired already"):
            await world.pool.pair(ACME, pairing, confirm=True)
    assert world.done == []


async def test_a_phone_of_another_number_that_scans_is_told(world: World) -> None:
    """The event and an alert name both numbers, masked; the same number is no news."""
    world.roster.known = Identity(ANNA, is_alive=False)
    await world.pool.pair(ACME, Pairing("qr"))
    world.paired(BORIS)
    (alert,) = world.alerts
    assert (alert.name, alert.facts["before"], alert.facts["now"]) == (
        "paired_with_another_number",
        "…0001",
        "…0002",
    )
    (event,) = [event for event in world.heard if event.kind == "paired"]
    assert event.data["another_number"] == {"before": "…0001", "now": "…0002"}
    assert BORIS not in alert.message
    world.session.state = State.LOGGED_OUT
    await world.pool.pair(ACME, Pairing("qr"))
    world.paired(BORIS)
    assert len(world.alerts) == 1


async def test_a_pairing_that_is_broken_off_leaves_nothing(world: World) -> None:
    """The socket ends, the session is not wanted; breaking off what is done, or was never begun, changes nothing."""
    await world.pool.pair(ACME, Pairing("qr"))
    world.event("qr", qr="2@x", ttl_s=60)
    session = await world.pool.cancel_pairing(ACME)
    assert (session.state, session.reason, session.pairing) == (
        State.CLOSED,
        "the pairing was broken off",
        None,
    )
    assert world.done[-2:] == ["session.stop", "forgotten"]
    await world.pool.pair(ACME, Pairing("qr"))
    world.paired(ANNA)
    assert (await world.pool.cancel_pairing(ACME)).state is State.PAIRING
