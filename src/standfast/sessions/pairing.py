"""`Pairings`: how a company gets an identity at WhatsApp: by QR or by a code, and what follows where that fails.

Invariant: a company has one pairing at a time, and no second code is asked for while one may still be entered; auth
state that lives is replaced only by a number that was confirmed, and only after it was archived.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import Any

import structlog

from standfast.authstate.company import Company
from standfast.errors import Conflict, PairingFailed, StandfastError
from standfast.sessions import alarms
from standfast.sessions.driver import STOP_TIMEOUT_S, SessionDriver
from standfast.sessions.events import Event, EventBus
from standfast.sessions.phone import masked, number_of
from standfast.sessions.roster import Identity, Roster, remember
from standfast.sessions.session import Pairing, Session, State

log = structlog.get_logger(__name__)
FALLBACK = "pairing_fallback"


@dataclass(frozen=True, slots=True)
class PairingOptions:
    """`code_lifetime_s`: for how long a code may be entered, longer than it is shown (50 s). `codes`: how many are
    asked for until the pairing falls back to a QR, or ends."""

    code_lifetime_s: float = 60.0
    codes: int = 2


@dataclass(slots=True)
class _Effort:
    """What is known of a company's latest pairing."""

    expected: str | None  # the number that was asked for, else the one that the company had
    codes: int = 0
    code_ends_at: float = 0.0
    timer: asyncio.TimerHandle | None = None

    def code_is_over(self) -> None:
        self.code_ends_at = 0.0
        if self.timer is not None:
            self.timer.cancel()


class Pairings:
    """Begins and ends pairings; `Hearing` tells what hosts say about them."""

    def __init__(
        self,
        roster: Roster,
        driver: SessionDriver,
        bus: EventBus,
        options: PairingOptions | None = None,
    ) -> None:
        self._roster = roster
        self._driver = driver
        self._bus = bus
        self._options = options or PairingOptions()
        self._efforts: dict[Company, _Effort] = {}
        driver.hold_s = self._code_left_s

    async def begin(self, session: Session, pairing: Pairing, *, confirm: bool = False) -> bool:
        """Begin pairing; whether the same pairing was under way already, which then goes on. `PairingFailed` where the
        company is paired or a code is out, `Conflict` where it has another number and that is not confirmed."""
        async with session.lock:
            if session.runs and session.pairing is not None and session.pairing.is_same_as(pairing):
                return True
            self._refuse_another_code(session, pairing)
            if session.state is State.LOGGED_OUT:
                await self._roster.unlinked(session.company)  # its note may not have been written yet
            # Before anything is ended: a request that is refused must not cost the session its connection.
            identity = await self._identity(session)
            self._check(session, identity, pairing, confirm=confirm)
            is_alive = identity is not None and identity.is_alive
            await self._roster.prepare_pairing(
                session.company, replaces=is_alive, release=lambda: self._release(session)
            )
            await self._give_up_wish(session)
            former = identity.number if identity else number_of(session.jid)
            self._effort(session.company).code_is_over()
            self._efforts[session.company] = _Effort(pairing.phone or former)
            session.pairing, session.jid, session.lid = pairing, None, None
            session.forgive()
            await self._driver.launch(session)
        return False

    async def cancel(self, session: Session) -> None:
        """End a pairing that is not done; nothing of it is left. Does nothing where none is under way."""
        async with session.lock:
            if session.pairing is not None or session.state is State.QR:
                await self._end(session, "the pairing was broken off", _pair_again(session))

    def prompt(self, session: Session) -> dict[str, Any] | None:
        """What is on show: {"kind": "qr" or "pairing_code", "qr" or "code", "ttl_s"}; None where nothing is."""
        if session.prompt is None:
            return None
        ttl_s = round(max(0.0, session.prompt_ends_at - time.monotonic()), 1)
        if session.state is State.QR:
            return {"kind": "qr", "qr": session.prompt, "ttl_s": ttl_s}
        return {"kind": "pairing_code", "code": session.prompt, "ttl_s": ttl_s}

    def code_shown(self, session: Session) -> None:
        """WhatsApp has accepted the request for a code."""
        effort, loop = self._effort(session.company), asyncio.get_running_loop()
        lifetime_s, generation = self._options.code_lifetime_s, session.generation
        effort.code_is_over()
        effort.codes += 1
        effort.code_ends_at = time.monotonic() + lifetime_s
        effort.timer = loop.call_later(
            lifetime_s, lambda: self._driver.spawn(self._expired(session, generation))
        )

    def refused(self, session: Session, status: int) -> None:
        """WhatsApp gives this number no code."""
        self._effort(session.company).code_is_over()
        why = f"WhatsApp refused a pairing code (status {status})"
        self._driver.spawn(self._without_code(session, session.generation, why))

    def paired(self, session: Session, data: dict[str, Any]) -> None:
        """A phone has linked the device; `data` is the event. Where it is another one than expected, that and an alert
        say so."""
        effort = self._effort(session.company)
        effort.code_is_over()
        now = number_of(data.get("jid"))
        if effort.expected is None or now is None or now == effort.expected:
            return
        data["another_number"] = {"before": masked(effort.expected), "now": masked(now)}
        self._driver.alert(alarms.another_number(session, effort.expected, now))

    async def _identity(self, session: Session) -> Identity | None:
        if session.state is State.OPEN:
            return Identity(number_of(session.jid), is_alive=True)
        return await self._roster.identity(session.company)

    def _check(self, session: Session, identity: Identity | None, pairing: Pairing, *, confirm: bool) -> None:
        if identity is None:
            return
        is_other = pairing.phone is not None and identity.number not in (None, pairing.phone)
        if is_other and not confirm:
            raise _other_number(session.company, identity, pairing)
        if identity.is_alive and not is_other:
            error = _paired_already(session)
            if session.state is State.CLOSED:
                session.enter(State.CLOSED, error.message, error.next_step)
            raise error

    def _refuse_another_code(self, session: Session, pairing: Pairing) -> None:
        if pairing.by != "code":
            return
        left_s = math.ceil(self._code_left_s_of(session.company))
        if left_s > 0:
            raise PairingFailed(
                f"a pairing code of {session.company} may still be entered",
                next_step=f"Enter it, pair by QR, or ask for another one in {left_s} s.",
                retry_in_s=left_s,
            )
        if session.pairing is not None and session.pairing.by == "code" and session.runs:
            raise PairingFailed(
                f"a pairing code of {session.company} is being asked for already, for another number",
                next_step="Wait until it is shown or refused; then ask again, or pair by QR.",
            )

    async def _release(self, session: Session) -> None:
        """End whoever uses the auth state that is about to be removed; a device that lives is unlinked."""
        if session.state is State.OPEN:
            session.unlinking = True
            await self._driver.request(session, "session.logout", {}, STOP_TIMEOUT_S)
            await self._roster.unlinked(session.company)
        await self._driver.end(session, "a new pairing was asked for")

    async def _give_up_wish(self, session: Session) -> None:
        """Nobody wants a session without an identity: a start of the service would show its QR to nobody."""
        if session.wanted:
            session.wanted = False
            await remember(session.company, self._roster.want(session.company, False))

    async def _expired(self, session: Session, generation: int) -> None:
        if self._effort(session.company).codes >= self._options.codes:
            await self._without_code(session, generation, "no pairing code was entered in time")
            return
        async with session.lock:
            if _still(session, generation):
                await self._driver.launch(session)

    async def _without_code(self, session: Session, generation: int, why: str) -> None:
        """Go on with a QR, or end."""
        async with session.lock:
            if not _still(session, generation) or session.pairing is None:
                return
            if not session.pairing.fallback:
                await self._end(session, why, "Wait some minutes, or pair by QR.")
                return
            session.pairing = Pairing("qr", because=why)
            log.info("pairing falls back to a QR", company=session.company, reason=why)
            data = {"company": session.company, "generation": generation, "kind": FALLBACK}
            self._bus.publish(Event(session.company, FALLBACK, {**data, "to": "qr", "reason": why}))
            await self._driver.launch(session)

    async def _end(self, session: Session, why: str, next_step: str) -> None:
        await self._driver.end(session, why, next_step)
        try:
            await self._roster.forget_unpaired(session.company)
        except StandfastError as error:
            log.warning("an unfinished pairing was not removed", company=session.company, error=error.code)

    def _code_left_s(self, session: Session) -> float:
        """For how long no socket may ask for another code."""
        is_by_code = session.pairing is not None and session.pairing.by == "code"
        return self._code_left_s_of(session.company) if is_by_code else 0.0

    def _code_left_s_of(self, company: Company) -> float:
        return max(0.0, self._effort(company).code_ends_at - time.monotonic())

    def _effort(self, company: Company) -> _Effort:
        return self._efforts.setdefault(company, _Effort(None))


def _still(session: Session, generation: int) -> bool:
    return session.generation == generation and session.pairing is not None


def _pair_again(session: Session) -> str:
    return f"Pair again: 'standfast pair {session.company}'."


def _paired_already(session: Session) -> PairingFailed:
    unlink = f"unlink it first: 'standfast logout {session.company}'."
    if session.state is State.OPEN:
        return PairingFailed(
            f"company {session.company!r} is paired and connected", next_step=unlink[0].upper() + unlink[1:]
        )
    return PairingFailed(
        f"company {session.company!r} is paired already",
        next_step=f"Start it: 'standfast start {session.company}'; or {unlink}",
    )


def _other_number(company: Company, identity: Identity, pairing: Pairing) -> Conflict:
    stored, asked = masked(identity.number or ""), masked(pairing.phone or "")
    is_or_was = "is" if identity.is_alive else "was"
    return Conflict(
        f"company {company!r} {is_or_was} paired with another number ({stored}) than {asked}",
        next_step="Confirm the new number ('--yes', or confirm: true); the old auth state is archived first.",
        stored=stored,
        asked=asked,
        is_alive=identity.is_alive,
    )
