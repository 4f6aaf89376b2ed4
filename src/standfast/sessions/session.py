"""One company's session: its state machine and what is known of it.

Invariant: the state changes only through the methods here, and an event of an older generation changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from standfast.authstate.company import Company
from standfast.errors import (
    DatabaseUnavailable,
    GraceExpired,
    JournalUnwritable,
    ServiceUnavailable,
    StandfastError,
)
from standfast.sessions.breaker import Breaker

RESTART_REQUIRED = 515
LOGGED_OUT = 401
REPLACED = 440
TIMED_OUT = 408
# The account is locked (403) or banned (406): knocking again only speaks against the number.
FORBIDDEN = frozenset({403, 406})


class State(StrEnum):
    """Where a session stands."""

    CONNECTING = "connecting"
    QR = "qr"
    PAIRING = "pairing"
    OPEN = "open"
    CLOSED = "closed"
    REPLACED = "replaced"
    LOGGED_OUT = "logged_out"
    FORBIDDEN = "forbidden"


class Next(StrEnum):
    """What follows when a socket has ended."""

    RESTART = "restart"
    RECONNECT = "reconnect"
    STOP = "stop"


ACTIVE = frozenset({State.CONNECTING, State.QR, State.PAIRING, State.OPEN})
# Only somebody's doing leads out of these.
ENDED = frozenset({State.REPLACED, State.LOGGED_OUT, State.FORBIDDEN})
_HINDRANCES = (DatabaseUnavailable, GraceExpired, JournalUnwritable, ServiceUnavailable)


@dataclass(frozen=True, slots=True)
class Pairing:
    """How a company is to be paired; `phone` (digits) is needed for a pairing code. `fallback`: by QR where WhatsApp
    gives no code or none is entered; `because`: why a QR took the place of a code."""

    by: Literal["qr", "code"]
    phone: str | None = None
    fallback: bool = False
    because: str | None = None

    def is_same_as(self, other: Pairing) -> bool:
        """Whether who asks for `other` gets it by following this one."""
        return (self.by, self.phone) == (other.by, other.phone)

    def as_public(self) -> dict[str, str | None]:
        """What operators see; no number."""
        return {"by": self.by, "because": self.because}

    def as_wire(self) -> dict[str, str]:
        return {"by": self.by} if self.phone is None else {"by": self.by, "phone": self.phone}


@dataclass(slots=True)
class Traffic:
    """What the host saw of a socket at `seen_at`, ages in seconds: its last frame, the last ping's round trip, and the
    oldest message that WhatsApp has not confirmed."""

    seen_at: float
    frame_age_s: float | None = None
    ping_s: float | None = None
    unconfirmed_s: float | None = None

    def frame_age_now_s(self) -> float | None:
        return None if self.frame_age_s is None else self.frame_age_s + time.monotonic() - self.seen_at


@dataclass(slots=True)
class Session:
    """State, counters and the current generation of one company's session."""

    company: Company
    state: State = State.CLOSED
    generation: int = 0
    wanted: bool = False
    pairing: Pairing | None = None
    jid: str | None = None
    lid: str | None = None
    status: int | None = None
    reason: str | None = None
    next_step: str | None = None
    obstacle: StandfastError | None = field(default=None, repr=False)
    launched_at: float = 0.0
    prompt: str | None = None
    prompt_ends_at: float = 0.0
    since: float = field(default_factory=time.monotonic)
    breaker: Breaker = field(default_factory=Breaker)
    hindrances: int = 0
    retry_at: float | None = None
    awaits_host: bool = False
    elsewhere: str | None = None  # the living node that has the company
    unlinking: bool = False  # an operator has asked WhatsApp to remove the device
    traffic: Traffic | None = None
    silences: int = 0
    reconnects: int = 0
    messages_sent: int = 0
    messages_received: int = 0
    undecryptable: int = 0
    retry_receipts_sent: int = 0
    retry_receipts_received: int = 0
    retries_seen: tuple[int, int] = (0, 0)  # the part of these that the present socket has had
    last_message_at: float | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)
    steady: asyncio.TimerHandle | None = field(default=None, repr=False)
    settled: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    @property
    def failures(self) -> int:
        """How often in a row WhatsApp, or the way to it, has failed this session."""
        return self.breaker.failures

    @property
    def is_active(self) -> bool:
        """Whether the host holds a socket for it, or makes one."""
        return self.state in ACTIVE

    @property
    def waits_for_database(self) -> bool:
        """Whether it could not be opened because PostgreSQL is away."""
        return isinstance(self.obstacle, DatabaseUnavailable | GraceExpired)

    @property
    def is_hindered(self) -> bool:
        """Whether this side kept it from being opened: no failure of the session."""
        return isinstance(self.obstacle, _HINDRANCES)

    @property
    def runs(self) -> bool:
        """Whether it has a socket, or gets one by itself."""
        return self.is_active or self.awaits_host or self.timer is not None

    def enter(self, state: State, reason: str | None = None, next_step: str | None = None) -> None:
        if state is not self.state:
            self.since = time.monotonic()
        self.state, self.reason, self.next_step = state, reason, next_step
        if state is not State.OPEN:
            self.cancel_steady()
        if state is not State.CONNECTING:
            self.settled.set()
        if state not in (State.QR, State.PAIRING):
            self.prompt = None

    def launched(self) -> int:
        """Begin a new generation and return it."""
        self.cancel_timer()
        self.generation += 1
        self.status, self.obstacle, self.traffic = None, None, None
        self.awaits_host, self.unlinking, self.elsewhere, self.retries_seen = False, False, None, (0, 0)
        self.launched_at = time.monotonic()
        self.breaker.tried()
        self.settled.clear()
        self.enter(State.CONNECTING)
        return self.generation

    def hindered(self, error: StandfastError) -> None:
        """What keeps the socket that is being made from being opened, for now."""
        if self.state is State.CONNECTING:
            self.obstacle = error

    def lost(self, error: StandfastError) -> None:
        """Another owner has the company: nothing follows by itself, as two owners would evict each other."""
        self.cancel_timer()
        self.pairing, self.obstacle, self.awaits_host = None, None, False
        next_step = f"{error.next_step} Then 'standfast restart {self.company}' takes it back."
        self.enter(State.REPLACED, error.message, next_step)

    def prompted(self, state: State, prompt: str, ttl_s: float) -> None:
        """A QR or a pairing code is to be shown for `ttl_s` seconds."""
        self.enter(state)
        self.prompt, self.prompt_ends_at = prompt, time.monotonic() + ttl_s

    def paired(self, jid: str | None, lid: str | None) -> None:
        self.jid, self.lid = jid or self.jid, lid or self.lid
        self.pairing = None
        self.enter(State.PAIRING, "paired; WhatsApp asks for a restart of the connection")

    def opened(self, jid: str | None, lid: str | None) -> None:
        self.jid, self.lid = jid or self.jid, lid or self.lid
        self.pairing, self.obstacle = None, None
        self.enter(State.OPEN)

    def succeeded(self) -> bool:
        """It has been open for long enough: whether its breaker had opened before."""
        self.hindrances = 0
        return self.breaker.reset()

    def forgive(self) -> None:
        """An operator wants it tried: what failed before counts no more."""
        self.hindrances, self.silences = 0, 0
        self.breaker.reset()

    def closed(self, status: int, reason: str, *, steady_s: float) -> Next:
        """Take the end of the current socket and say what follows.

        Codes: Baileys' `DisconnectReason` (lib/Types/index.js). `open` must have lasted `steady_s`
        seconds to count as a success; a momentary one must not reset the backoff.
        """
        if self.state is State.OPEN and time.monotonic() - self.since >= steady_s:
            self.succeeded()
        # A QR is shown only to who is not paired, whether or not a pairing was asked for in this process.
        unpaired = self.pairing is not None or self.state is State.QR
        self.status = status
        if status == RESTART_REQUIRED:
            self.enter(State.CONNECTING, "WhatsApp asked for a restart of the connection")
            return Next.RESTART
        ended = self._ended_by(status, unpaired=unpaired)
        if ended is not None:
            self.enter(*ended)
            return Next.STOP
        self.failed(reason)
        return Next.RECONNECT

    def failed(self, reason: str) -> None:
        """The attempt, or the connection, has failed; another one is to follow."""
        if self.is_hindered:
            self.hindrances += 1
        else:
            self.breaker.failed()
        if self.obstacle is not None:
            self.enter(State.CLOSED, self.obstacle.message, self.obstacle.next_step)
        else:
            self.enter(State.CLOSED, reason)

    def _ended_by(self, status: int, *, unpaired: bool) -> tuple[State, str, str] | None:
        """State, reason and next step where the code means that only somebody's doing leads on."""
        pair, restart = f"'standfast pair {self.company}'", f"'standfast restart {self.company}'"
        if status == REPLACED:
            why = "another client logged in with this company's auth state"
            return State.REPLACED, why, f"Stop the other client, then {restart}."
        if unpaired and status in (LOGGED_OUT, TIMED_OUT):
            return State.CLOSED, "the pairing was not completed in time", f"Pair again: {pair}."
        if status == LOGGED_OUT:
            who = "an operator unlinked" if self.unlinking else "the phone's owner removed"
            why = f"{who} this device; the creds are dead"
            return State.LOGGED_OUT, why, f"Pair again: {pair}."
        if status in FORBIDDEN:
            why = f"WhatsApp has locked or banned the account (code {status})"
            return State.FORBIDDEN, why, f"Look at the phone what WhatsApp asks for, then {restart}."
        return None

    def received(self, *, from_me: bool) -> None:
        """Count a decrypted message."""
        self.messages_received += not from_me
        self.last_message_at = time.monotonic()

    def retried(self, sent: int, received: int) -> None:
        """What the present socket has had of retry receipts since it was made."""
        before_sent, before_received = self.retries_seen
        self.retry_receipts_sent += max(0, sent - before_sent)
        self.retry_receipts_received += max(0, received - before_received)
        self.retries_seen = sent, received

    def cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer, self.retry_at = None, None

    def cancel_steady(self) -> None:
        if self.steady is not None:
            self.steady.cancel()
            self.steady = None

    def as_wire(self) -> dict[str, Any]:
        """What operators see; no QR and no code in it."""
        now = time.monotonic()
        return {
            "company": self.company,
            "state": self.state.value,
            "since_s": round(now - self.since, 1),
            "wanted": self.wanted,
            "pairing": self.pairing.as_public() if self.pairing else None,
            "jid": self.jid,
            "status": self.status,
            "reason": self.reason,
            "next_step": self.next_step,
            "generation": self.generation,
            "failures": self.failures,
            "breaker": self.breaker.state.value,
            "retry_in_s": None if self.retry_at is None else max(0.0, round(self.retry_at - now, 1)),
            "reconnects": self.reconnects,
            "messages_sent": self.messages_sent,
            "messages_received": self.messages_received,
            "unlinking": self.unlinking,
            "undecryptable": self.undecryptable,
            "retry_receipts_sent": self.retry_receipts_sent,
            "retry_receipts_received": self.retry_receipts_received,
            "last_message_age_s": None
            if self.last_message_at is None
            else round(now - self.last_message_at, 1),
            **self._traffic(),
        }

    def _traffic(self) -> dict[str, Any]:
        seen = self.traffic or Traffic(0.0)
        age_s, ping_s, unconfirmed_s = seen.frame_age_now_s(), seen.ping_s, seen.unconfirmed_s
        return {
            "last_frame_age_s": None if age_s is None else round(age_s, 1),
            "ping_ms": None if ping_s is None else round(ping_s * 1000, 1),
            "unconfirmed_s": None if unconfirmed_s is None else round(unconfirmed_s, 1),
        }
