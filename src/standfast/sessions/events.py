"""What happens to sessions, as it is told to callbacks, operators and the live view.

Invariant: a listener that fails or is slow to take an event affects no other listener and no session.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog

from standfast.sessions.phone import masked

log = structlog.get_logger(__name__)


class Media(msgspec.Struct, kw_only=True):
    """A message's file; `sha256` in hexadecimal, all of it as its sender says."""

    mime_type: str | None = None
    size_bytes: int | None = None
    file_name: str | None = None
    seconds: int | None = None
    width: int | None = None
    height: int | None = None
    sha256: str | None = None


class Message(msgspec.Struct, kw_only=True):
    """A decrypted message. `chat` and `sender` are JIDs as WhatsApp addresses them (often …@lid), `*_alt`
    the phone-number form where it is known; `live` is false for history and for what other devices sent. `number` is
    its place in the service's log, `at` when it came there (seconds since 1970, by its clock). `reply_to` and
    `target_id` are ids of messages: the one that it answers, and the one that it reacts to, edits or deletes. Its
    `repr` shows no address and no text."""

    id: str
    chat: str
    sender: str
    timestamp_s: int
    company: str = ""
    number: int | None = None
    at: float | None = None
    chat_alt: str | None = None
    sender_alt: str | None = None
    from_me: bool = False
    push_name: str | None = None
    type: str = "unknown"
    text: str | None = None
    live: bool = True
    reply_to: str | None = None
    mentions: list[str] = []
    target_id: str | None = None
    media: Media | None = None

    def __repr__(self) -> str:
        return (
            f"Message(company={self.company!r}, number={self.number}, id={self.id!r}, chat={masked(self.chat)!r},"
            f" type={self.type!r}, live={self.live})"
        )


@dataclass(frozen=True, slots=True)
class Event:
    """One event: `kind` and `data` as in docs/protocol.md, or kind `state` with the session's wire form. `number` is
    its place in the log, where it has one and that is known. Its `repr` shows no `data`: texts, numbers, QRs."""

    company: str
    kind: str
    data: dict[str, Any] = field(repr=False)
    number: int | None = None
    at: float | None = None


Listener = Callable[[Event], None]


class EventBus:
    """Hands every event to every listener, in order, at once. Listeners must not block."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Add a listener; the returned call removes it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def publish(self, event: Event) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception:
                log.exception("an event listener failed", kind=event.kind)
