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
from standfast.errors import DatabaseUnavailable, GraceExpired, StandfastError

RESTART_REQUIRED = 515
LOGGED_OUT = 401
REPLACED = 440
TIMED_OUT = 408


class State(StrEnum):
    """Where a session stands."""

    CONNECTING = "connecting"
    QR = "qr"
    PAIRING = "pairing"
    OPEN = "open"
    CLOSED = "closed"
    REPLACED = "replaced"
    LOGGED_OUT = "logged_out"


class Next(StrEnum):
    """What follows when a socket has ended."""

    RESTART = "restart"
    RECONNECT = "reconnect"
    STOP = "stop"


ACTIVE = frozenset({State.CONNECTING, State.QR, State.PAIRING, State.OPEN})


@dataclass(frozen=True, slots=True)
class Pairing:
    """How a company is to be paired; `phone` (digits) is needed for a pairing code."""

    by: Literal["qr", "code"]
    phone: str | None = None

    def as_wire(self) -> dict[str, str]:
        return {"by": self.by} if self.phone is None else {"by": self.by, "phone": self.phone}


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
    failures: int = 0
    reconnects: int = 0
    messages_sent: int = 0
    messages_received: int = 0
    undecryptable: int = 0
    last_message_at: float | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)

    @property
    def is_active(self) -> bool:
        """Whether the host holds a socket for it, or makes one."""
        return self.state in ACTIVE

    @property
    def waits_for_database(self) -> bool:
        """Whether it could not be opened because PostgreSQL is away."""
        return isinstance(self.obstacle, DatabaseUnavailable | GraceExpired)

    def enter(self, state: State, reason: str | None = None, next_step: str | None = None) -> None:
        if state is not self.state:
            self.since = time.monotonic()
        self.state, self.reason, self.next_step = state, reason, next_step
        if state not in (State.QR, State.PAIRING):
            self.prompt = None

    def launched(self) -> int:
        """Begin a new generation and return it."""
        self.cancel_timer()
        self.generation += 1
        self.status, self.obstacle = None, None
        self.launched_at = time.monotonic()
        self.enter(State.CONNECTING)
        return self.generation

    def hindered(self, error: StandfastError) -> None:
        """What keeps the socket that is being made from being opened, for now."""
        if self.state is State.CONNECTING:
            self.obstacle = error

    def lost(self, error: StandfastError) -> None:
        """Another owner has the company: nothing follows by itself, as two owners would evict each other."""
        self.cancel_timer()
        self.pairing, self.obstacle = None, None
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

    def closed(self, status: int, reason: str, *, steady_s: float) -> Next:
        """Take the end of the current socket and say what follows.

        Codes: Baileys' `DisconnectReason` (lib/Types/index.js). `open` must have lasted `steady_s`
        seconds to count as a success; a momentary one must not reset the backoff.
        """
        if self.state is State.OPEN and time.monotonic() - self.since >= steady_s:
            self.failures = 0
        # A QR is shown only to who is not paired, whether or not a pairing was asked for in this process.
        unpaired = self.pairing is not None or self.state is State.QR
        self.status = status
        if status == RESTART_REQUIRED:
            self.enter(State.CONNECTING, "WhatsApp asked for a restart of the connection")
            return Next.RESTART
        if status == REPLACED:
            self.enter(
                State.REPLACED,
                "another client logged in with this company's auth state",
                f"Stop the other client, then 'standfast restart {self.company}'.",
            )
            return Next.STOP
        if unpaired and status in (LOGGED_OUT, TIMED_OUT):
            self.enter(
                State.CLOSED,
                "the pairing was not completed in time",
                f"Pair again: 'standfast pair {self.company}'.",
            )
            return Next.STOP
        if status == LOGGED_OUT:
            self.enter(
                State.LOGGED_OUT,
                "the phone's owner removed this device; the creds are dead",
                f"Pair again: 'standfast pair {self.company}'.",
            )
            return Next.STOP
        self.failures += 1
        if self.obstacle is not None:
            self.enter(State.CLOSED, self.obstacle.message, self.obstacle.next_step)
        else:
            self.enter(State.CLOSED, reason)
        return Next.RECONNECT

    def received(self, *, from_me: bool) -> None:
        """Count a decrypted message."""
        self.messages_received += not from_me
        self.last_message_at = time.monotonic()

    def cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def as_wire(self) -> dict[str, Any]:
        """What operators see; no QR and no code in it."""
        now = time.monotonic()
        return {
            "company": self.company,
            "state": self.state.value,
            "since_s": round(now - self.since, 1),
            "wanted": self.wanted,
            "jid": self.jid,
            "status": self.status,
            "reason": self.reason,
            "next_step": self.next_step,
            "generation": self.generation,
            "reconnects": self.reconnects,
            "messages_sent": self.messages_sent,
            "messages_received": self.messages_received,
            "undecryptable": self.undecryptable,
            "last_message_age_s": None
            if self.last_message_at is None
            else round(now - self.last_message_at, 1),
        }
