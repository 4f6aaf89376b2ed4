"""The Python API: a client of a running service, over its gateway.

Invariant: every call ends within its deadline, and a lost connection raises; it never looks like "nothing there".
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from standfast.errors import SendFailed, ServiceUnavailable, StateDirectoryError, from_wire
from standfast.sessions.events import Event, Message
from standfast.sessions.wire import PROTOCOL_VERSION, Connection
from standfast.settings import load_settings
from standfast.state_dir import StateDirectory

CALL_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5.0
SEND_WAIT_S = 30.0
EVENTS_KEPT = 10_000


class Sent(msgspec.Struct):
    """A message that was accepted; times in seconds since 1970. `state`: queued, sending, sent, delivered, read, played
    or failed, `error` why."""

    company: str
    message_id: str
    jid: str
    content: dict[str, Any]
    state: str
    at: float
    changed_at: float
    expires_at: float
    attempts: int
    error: dict[str, Any] | None = None


class Client:
    """Made by `connect()`. All calls raise `ServiceUnavailable` where the service is gone, and otherwise the
    error that the service gave, as its class in `standfast.errors`."""

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._queues: list[tuple[str | None, asyncio.Queue[Event | None]]] = []
        self._subscribed = False

    async def send(
        self,
        company: str,
        to: str,
        content: str | dict[str, Any],
        *,
        idempotency_key: str | None = None,
        wait_s: float = SEND_WAIT_S,
    ) -> Sent:
        """Send a text, or other content (docs/messages.md), to a phone number (+7…) or JID. It is on the service's disk
        before anything else; then it is waited for, at most `wait_s`, until WhatsApp has it (`state` tells). Raises the
        error that it failed with. Repeated with the same `idempotency_key` it is sent once."""
        params: dict[str, Any] = {"company": company, "to": to, "wait_s": wait_s}
        params["content"] = {"type": "text", "text": content} if isinstance(content, str) else content
        if idempotency_key is not None:
            params["idempotency_key"] = idempotency_key
        sent = msgspec.json.decode(
            await self._call("messages.send", params, CALL_TIMEOUT_S + wait_s), type=Sent
        )
        if sent.state == "failed":
            raise from_wire(sent.error or {"code": SendFailed.code, "message": "the message was not sent"})
        return sent

    async def sessions(self) -> list[dict[str, Any]]:
        """Every session with its state; see docs/protocol.md."""
        sessions: list[dict[str, Any]] = msgspec.json.decode(await self._call("sessions.list", {}))
        return sessions

    async def status(self) -> dict[str, Any]:
        """Service, database, gateway and sessions."""
        status: dict[str, Any] = msgspec.json.decode(await self._call("status", {}))
        return status

    async def pair(self, company: str, by: Literal["qr", "code"] = "qr", phone: str | None = None) -> None:
        """Begin pairing; the QR or the code comes as an event (`events`)."""
        params = {"company": company, "by": by}
        await self._call("sessions.pair", params if phone is None else {**params, "phone": phone})

    async def command(
        self, verb: Literal["start", "stop", "restart", "logout"], company: str
    ) -> dict[str, Any]:
        """Start, stop, restart or log out a company's session; its new state."""
        answer: dict[str, Any] = msgspec.json.decode(
            await self._call(f"sessions.{verb}", {"company": company})
        )
        return answer

    async def export(self, company: str, folder: Path, *, overwrite: bool = False) -> dict[str, Any]:
        """Have the service write the company's auth state as `folder` (absolute): {"company", "folder", "keys"}."""
        params = {"company": company, "folder": str(folder), "overwrite": overwrite}
        answer: dict[str, Any] = await self._document("companies.export", params)
        return answer

    async def quarantine(self, verb: Literal["list", "show", "apply", "discard"], **params: int | str) -> Any:
        """See docs/protocol.md: the entries; one entry; what became of one."""
        return await self._document(f"quarantine.{verb}", params)

    async def subscribe(self) -> None:
        """Ask the service for its events; `events` does so by itself when it begins."""
        if not self._subscribed:
            self._subscribed = True
            await self._call("events.subscribe", {})

    async def events(self, company: str | None = None) -> AsyncGenerator[Event, None]:
        """Events of one company or of all, from now on, until the iteration is left or the service ends
        (`ServiceUnavailable`). A consumer that falls 10,000 events behind is told so by the same error."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(EVENTS_KEPT + 1)
        entry = (company, queue)
        self._queues.append(entry)
        try:
            await self.subscribe()
            while (event := await queue.get()) is not None:
                yield event
            raise ServiceUnavailable(
                "the stream of events ended: the service went away or this consumer fell behind"
            )
        finally:
            self._queues.remove(entry)

    async def messages(self, company: str | None = None) -> AsyncGenerator[Message, None]:
        """Inbound messages of one company or of all, as they arrive; see `events` for its end."""
        async with contextlib.aclosing(self.events(company)) as events:
            async for event in events:
                if event.kind == "message":
                    message = msgspec.convert(event.data["message"], Message)
                    message.company = event.company
                    yield message

    async def on_message(
        self, callback: Callable[[Message], Awaitable[None]], company: str | None = None
    ) -> None:
        """Await `callback` for each live inbound message, one after the other, until the service ends."""
        async with contextlib.aclosing(self.messages(company)) as messages:
            async for message in messages:
                if message.live and not message.from_me:
                    await callback(message)

    async def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()

    async def open(self, socket: Path) -> None:
        """Connect and say hello; `connect()` does it."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await loop.create_unix_connection(lambda: Connection(self), str(socket))
        except (OSError, TimeoutError) as error:
            raise ServiceUnavailable(f"no service answers at {socket}") from error
        self._connection = connection
        hello = {"protocol": PROTOCOL_VERSION, "role": "operator", "client": "standfast-python"}
        await self._call("hello", hello)

    async def _document(self, method: str, params: Mapping[str, Any]) -> Any:
        return msgspec.json.decode(await self._call(method, dict(params)))

    async def _call(
        self, method: str, params: dict[str, Any], timeout_s: float = CALL_TIMEOUT_S
    ) -> msgspec.Raw:
        if self._connection is None:
            raise ServiceUnavailable("this client is not connected", next_step="Use 'async with connect()'.")
        return await self._connection.request(method, params, timeout_s=timeout_s)

    async def handle(self, connection: Connection, method: str, params: msgspec.Raw) -> Any:
        """The service asks nothing of operators (see `wire.Handler`)."""
        raise ServiceUnavailable(f"an operator's client does not serve {method[:60]!r}")

    def notified(self, connection: Connection, method: str, params: msgspec.Raw) -> None:
        data: dict[str, Any] = msgspec.json.decode(params)
        kind = "state" if method == "session.state" else str(data.get("kind"))
        event = Event(str(data.get("company")), kind, data)
        for company, queue in self._queues:
            if company in (None, event.company):
                _put(queue, event)

    def closed(self, connection: Connection) -> None:
        """The service is gone: every iteration over events ends."""
        for _, queue in self._queues:
            _put(queue, None)


def _put(queue: asyncio.Queue[Event | None], event: Event | None) -> None:
    if queue.qsize() >= EVENTS_KEPT:
        # Full: the consumer learns at its end that it fell behind; nothing is skipped in silence.
        event = None
    with contextlib.suppress(asyncio.QueueFull):
        queue.put_nowait(event)


def _beside(path: Path) -> str | None:
    """The next step where the one that runs is `standfast up --simulator`, which keeps a directory of its own."""
    simulated = StateDirectory(path.parent / "simulator")
    with contextlib.suppress(StateDirectoryError):
        if simulated.holder() is not None:
            return f"One with the simulator runs: name it with '--state-dir {simulated.path}'; or 'standfast up'."
    return None


@contextlib.asynccontextmanager
async def connect(socket: Path | str | None = None) -> AsyncIterator[Client]:
    """A client of the service that listens at `socket` (default: the gateway of the configured state
    directory). Raises `ServiceUnavailable` within 5 s where none answers."""
    client = Client()
    path = Path(socket) if socket else load_settings().state_dir / "gateway.sock"
    try:
        await client.open(path)
    except ServiceUnavailable as error:
        error.next_step = _beside(path) or error.next_step
        raise
    try:
        yield client
    finally:
        await client.close()
