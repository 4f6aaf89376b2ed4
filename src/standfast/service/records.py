"""What the Python API answers with: typed records of sessions, messages and the service.

Invariant: the `repr` of a record shows no phone number and no text; a field that a newer service adds is passed over,
and stands in `Status.document`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from standfast.sessions.phone import masked

DeliveryState = Literal["queued", "sending", "sent", "delivered", "read", "played", "failed"]


class Sent(msgspec.Struct):
    """A message that was accepted; times in seconds since 1970. `error` is a wire error: why it failed or could not
    be sent yet."""

    company: str
    message_id: str
    jid: str
    content: dict[str, Any]
    state: DeliveryState
    at: float
    changed_at: float
    expires_at: float
    attempts: int
    error: dict[str, Any] | None = None

    @property
    def is_confirmed(self) -> bool:
        """Whether WhatsApp has it."""
        return self.state not in ("queued", "sending", "failed")

    def __repr__(self) -> str:
        return (
            f"Sent(company={self.company!r}, message_id={self.message_id!r}, jid={masked(self.jid)!r},"
            f" type={self.content.get('type')!r}, state={self.state!r})"
        )


class Downloaded(msgspec.Struct, kw_only=True):
    """A received file that the service wrote as `file`; `mime_type` and `file_name` are its sender's word."""

    file: str
    size_bytes: int
    sha256: str
    mime_type: str
    file_name: str | None = None


class Member(msgspec.Struct, kw_only=True):
    """A member of a group; `phone_jid` where its phone number is known. `role`: member, admin or superadmin."""

    jid: str
    phone_jid: str | None = None
    lid: str | None = None
    role: str = "member"

    def __repr__(self) -> str:
        return f"Member(jid={masked(self.jid)!r}, role={self.role!r})"


class Group(msgspec.Struct, kw_only=True):
    """A group; `participants` only where it was asked for by itself. `admins_only`: only admins may write,
    `locked`: only they may change it."""

    jid: str
    name: str = ""
    size: int = 0
    owner: str | None = None
    created_s: int | None = None
    admins_only: bool = False
    locked: bool = False
    description: str | None = None
    participants: list[Member] = []

    def __repr__(self) -> str:
        return f"Group(jid={self.jid!r}, size={self.size})"


class Prompt(msgspec.Struct, kw_only=True):
    """What is to be scanned or typed at the phone: `kind` is qr or pairing_code."""

    kind: Literal["qr", "pairing_code"]
    ttl_s: float
    qr: str | None = None
    code: str | None = None

    def __repr__(self) -> str:
        return f"Prompt(kind={self.kind!r}, ttl_s={self.ttl_s})"


class BegunPairing(msgspec.Struct, kw_only=True):
    """A pairing that was asked for. `follows`: the same one was under way already, and `prompt` is what it shows.
    Events of an older `generation` are of what it has replaced."""

    state: str
    generation: int = 0
    follows: bool = False
    prompt: Prompt | None = None


class PairingUnderWay(msgspec.Struct, kw_only=True):
    """How a session is being paired; `because`: why a QR took the place of a code."""

    by: Literal["qr", "code"]
    because: str | None = None


class Session(msgspec.Struct, kw_only=True):
    """A company's session. `wanted`: it is opened by itself; `reason` and `next_step` say why it is not open, and what
    to do; `status` is Baileys' code of its last end; `retry_in_s` when it is tried again; `unlinking`: an operator has
    asked WhatsApp to remove the device. What was heard from WhatsApp last, how fast it answered, and for how long it
    has left a message unconfirmed, say whether it is alive. Counters are since the service was started."""

    company: str
    state: str
    since_s: float = 0.0
    wanted: bool = False
    pairing: PairingUnderWay | None = None
    jid: str | None = None
    status: int | None = None
    reason: str | None = None
    next_step: str | None = None
    generation: int = 0
    failures: int = 0
    breaker: str = "closed"
    retry_in_s: float | None = None
    reconnects: int = 0
    messages_sent: int = 0
    messages_received: int = 0
    unlinking: bool = False
    undecryptable: int = 0
    retry_receipts_sent: int = 0
    retry_receipts_received: int = 0
    last_message_age_s: float | None = None
    last_frame_age_s: float | None = None
    ping_ms: float | None = None
    unconfirmed_s: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is connected to WhatsApp."""
        return self.state == "open"

    def __repr__(self) -> str:
        jid = masked(self.jid) if self.jid else None
        return (
            f"Session(company={self.company!r}, state={self.state!r}, since_s={self.since_s}, jid={jid!r},"
            f" reason={self.reason!r})"
        )


class DatabaseStatus(msgspec.Struct, kw_only=True):
    """PostgreSQL as the service sees it; `error` and `next_step` where it is not online."""

    state: str
    latency_ms: float | None = None
    server: str | None = None
    connections: int | None = None
    error: str | None = None
    next_step: str | None = None


class HostStatus(msgspec.Struct, kw_only=True):
    """A Node host, which runs Baileys; of several, all as if they were one. `retiring`: it takes no new sessions."""

    ready: bool = False
    pid: int | None = None
    restarts: int = 0
    rss_mb: float = 0.0
    event_loop_delay_ms: float | None = None
    sessions: int = 0
    retiring: bool = False


class Status(msgspec.Struct, kw_only=True):
    """The service, its database and its sessions. `vault` is as in docs/vault.md; `document` is the whole of what
    `standfast status --json` prints."""

    service: str
    uptime_s: float
    state_dir: str
    gateway: str
    database: DatabaseStatus
    host: HostStatus
    hosts: list[HostStatus] = []
    vault: dict[str, Any]
    sessions: list[Session]
    document: dict[str, Any] = {}

    @property
    def is_ready(self) -> bool:
        """Whether the service can serve: its host runs, and every session that is wanted is open."""
        return self.host.ready and all(one.is_open for one in self.sessions if one.wanted)

    def __repr__(self) -> str:
        return (
            f"Status(service={self.service!r}, uptime_s={self.uptime_s}, database={self.database.state!r},"
            f" sessions={len(self.sessions)})"
        )


class ExportedFolder(msgspec.Struct):
    """A folder of Baileys' files that the service has written, with how many keys."""

    company: str
    folder: str
    keys: int


class RaisedAlert(msgspec.Struct, kw_only=True):
    """One trouble as it was told to the operator; docs/alerts.md. `lasts`: it begins and ends, rather than happens;
    `open`: it goes on, for `duration_s` by now. `level` is the worst that it had, `count` how often it was reported,
    `returns` how often it came back soon after its end."""

    id: str
    name: str
    level: str
    message: str
    since: float
    last_at: float
    lasts: bool
    open: bool
    ended: float | None = None
    duration_s: float | None = None
    count: int = 1
    returns: int = 0
    company: str | None = None
    subject: str = ""
    next_step: str | None = None


class AlertHistory(msgspec.Struct, kw_only=True):
    """`error`: why this is not all, or will not outlive the service; None where nothing is wrong. `channels` as in
    docs/alerts.md."""

    alerts: list[RaisedAlert]
    channels: list[dict[str, Any]] = []
    error: str | None = None
