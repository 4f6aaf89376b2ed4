"""What answers hold, for the description of the API; and how they are written.

Invariant: a document that is sent has the fields named here; it may have more, which a client passes over.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Problem(msgspec.Struct):
    """RFC 9457. `code` is stable; `next_step` is for people; `retryable`: the same request may succeed later."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    next_step: str
    retryable: bool
    facts: dict[str, Any] = {}
    errors: list[dict[str, str]] = []


class Live(msgspec.Struct):
    """The process answers."""

    status: Literal["live"]


class Ready(msgspec.Struct):
    """Whether the service can take work; `missing` says what for."""

    status: Literal["ready", "not_ready"]
    missing: list[str]


class SessionHealth(msgspec.Struct):
    """A session judged by its traffic. `verdict`: `ok`, `quiet` (open, and nothing was heard for longer than that is
    usual), `pairing`, `down` (wanted, and not open), `stopped` (not wanted)."""

    company: str
    verdict: Literal["ok", "quiet", "pairing", "down", "stopped"]
    state: str
    judged_by: Literal["traffic", "state"]
    last_frame_age_s: float | None
    last_message_age_s: float | None
    reason: str | None
    next_step: str | None


class Health(msgspec.Struct):
    """`status`: `ok`, `degraded` (something needs somebody, and what can stands), `down` (nothing can be sent)."""

    status: Literal["ok", "degraded", "down"]
    service: str
    uptime_s: float
    database: str
    vault: str
    host_ready: bool
    waiting: int
    sessions: list[SessionHealth]


class Session(msgspec.Struct):
    """A company's session; docs/protocol.md has every field."""

    company: str
    state: str
    since_s: float
    wanted: bool
    jid: str | None
    status: int | None
    reason: str | None
    next_step: str | None


class Sessions(msgspec.Struct):
    sessions: list[Session]


class Prompt(msgspec.Struct):
    """What is to be shown to who pairs: a QR's text, or a code to be entered at the phone."""

    company: str
    by: Literal["qr", "code"]
    qr: str | None
    code: str | None
    ttl_s: float


class Sent(msgspec.Struct):
    """A message that was accepted; times in seconds since 1970. `error` is a problem without `type` and `title`."""

    company: str
    message_id: str
    jid: str
    content: dict[str, Any]
    state: Literal["queued", "sending", "sent", "delivered", "read", "played", "failed"]
    at: float
    changed_at: float
    expires_at: float
    attempts: int
    error: dict[str, Any] | None


class Kept(msgspec.Struct):
    """A message of the list: one that was sent, or one that came in (`message` as in docs/protocol.md)."""

    direction: Literal["sent", "received"]
    company: str
    message_id: str
    at: float


class Messages(msgspec.Struct):
    """Newest first; `next` as `before` asks for older ones, null at the end."""

    messages: list[Kept]
    next: str | None


class Event(msgspec.Struct):
    """One event; `data` is as in docs/protocol.md, "Events"."""

    number: int
    company: str
    kind: str
    at: float
    data: dict[str, Any]


class Events(msgspec.Struct):
    """`after` asks for what follows."""

    events: list[Event]
    after: int


class Alert(msgspec.Struct):
    """One trouble; docs/alerts.md has every field."""

    id: str
    name: str
    level: Literal["info", "warning", "error", "critical"]
    message: str
    since: float
    last_at: float
    lasts: bool
    open: bool
    ended: float | None
    duration_s: float | None
    count: int
    returns: int
    company: str | None
    subject: str
    next_step: str | None


class Alerts(msgspec.Struct):
    alerts: list[Alert]


class Upload(msgspec.Struct):
    """A file that is kept; `upload` names it in a message's content."""

    upload: str
    size_bytes: int


class Group(msgspec.Struct):
    """A group, with its members where one was asked for; docs/protocol.md has every field."""

    jid: str
    name: str


class Groups(msgspec.Struct):
    groups: list[Group]


class ReadMarks(msgspec.Struct):
    """The messages that were marked as read."""

    message_ids: list[str]


class Typing(msgspec.Struct):
    on: bool


class LegacySent(msgspec.Struct):
    """What bots of old answer with, and what is known of the message here."""

    success: bool
    messageId: str  # noqa: N815 - the name that callers look for
    status: str


encode = msgspec.json.Encoder().encode
