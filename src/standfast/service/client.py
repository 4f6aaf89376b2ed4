"""The Python API: a client of a running service, over its gateway.

Invariant: every call ends within its deadline, and a lost connection raises; it never looks like "nothing there".
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from standfast.errors import CompanyUnknown, SendFailed, from_wire
from standfast.health.document import Health
from standfast.service.consumer import consume
from standfast.service.link import Link
from standfast.service.records import (
    AlertHistory,
    BegunPairing,
    DeliveryState,
    Downloaded,
    ExportedFolder,
    Group,
    Sent,
    Session,
    Status,
)
from standfast.service.streams import (
    CALL_TIMEOUT_S,
    EventStream,
    LiveEvents,
    LoggedEvents,
    logged_event,
    message_of,
)
from standfast.sessions.events import Message
from standfast.settings import state_directory

SEND_WAIT_S = 30.0
DOWNLOAD_TIMEOUT_S = 300.0
HANDOVER_TIMEOUT_S = 90.0
T = TypeVar("T")


class Client:
    """Made by `connect()`. Calls raise `ServiceUnavailable` where the service is gone, and the next call connects
    again; otherwise they raise the error that the service gave, as its class in `standfast.errors`."""

    def __init__(self, socket: Path) -> None:
        self._link = Link(socket)

    async def send(
        self,
        company: str,
        to: str,
        content: str | Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        wait_s: float = SEND_WAIT_S,
    ) -> Sent:
        """Send a text, or other content (docs/messages.md), to a phone number (+7…) or JID. It is on the service's disk
        before anything else; then it is waited for, at most `wait_s`, until WhatsApp has it (`state` tells). Raises the
        error that it failed with (`facts["message_id"]` names it). Repeated with the same `idempotency_key` it
        is sent once."""
        params: dict[str, Any] = {"company": company, "to": to, "wait_s": wait_s}
        params["content"] = {"type": "text", "text": content} if isinstance(content, str) else content
        if idempotency_key is not None:
            params["idempotency_key"] = idempotency_key
        sent = await self._typed(Sent, "messages.send", params, CALL_TIMEOUT_S + wait_s)
        if sent.state == "failed":
            error = from_wire(sent.error or {"code": SendFailed.code, "message": "the message was not sent"})
            error.facts.setdefault("message_id", sent.message_id)
            raise error
        return sent

    async def message(self, company: str, message_id: str) -> Sent | None:
        """A message that was sent, as it stands now; None where the service does not keep it (any more)."""
        params = {"company": company, "message_id": message_id}
        found = await self._document("messages.get", params)
        return None if found is None else msgspec.convert(found, Sent)

    async def sent(
        self, company: str, *, to: str | None = None, state: DeliveryState | None = None, limit: int = 50
    ) -> list[Sent]:
        """Messages that were to be sent, newest first, at most `limit` (500 or fewer)."""
        params = {"company": company, "to": to, "state": state, "limit": limit}
        return await self._typed(list[Sent], "messages.sent", params)

    async def received(
        self, company: str, chat: str | None = None, *, before: int | None = None, limit: int = 50
    ) -> list[Message]:
        """Messages that came in, newest first, at most `limit` (500 or fewer), of one chat (a phone number or JID) or
        of all; `before` is the `number` of the oldest one that is known."""
        params = {"company": company, "chat": chat, "limit": limit}
        found = await self._document(
            "messages.received", params if before is None else {**params, "before": before}
        )
        return [message_of(logged_event(one)) for one in found]

    async def cancel(self, company: str, message_id: str) -> Sent:
        """Do not send a message that still waits. `UsageError` where it is on its way or was sent, `NotFound`."""
        params = {"company": company, "message_id": message_id}
        return await self._typed(Sent, "messages.cancel", params)

    async def read(self, company: str, chat: str, message_ids: Sequence[str] | None = None) -> list[str]:
        """Mark received messages of a chat as read, or without ids all that came since this was done so the last time;
        the ids that were marked."""
        params = {"company": company, "chat": chat, "message_ids": message_ids}
        marked: list[str] = (await self._document("messages.read", params))["message_ids"]
        return marked

    async def download(self, company: str, chat: str, message_id: str, file: Path) -> Downloaded:
        """Have the service write a received message's file as `file` (absolute, new). `TargetFailed` where WhatsApp
        does not hand it over."""
        params = {"company": company, "chat": chat, "message_id": message_id, "file": str(file)}
        return await self._typed(Downloaded, "messages.download", params, DOWNLOAD_TIMEOUT_S)

    async def typing(self, company: str, chat: str, on: bool = True, ttl_s: float = 25.0) -> None:
        """Show the company as typing in a chat, for at most `ttl_s` (25 or less), or no longer."""
        params = {"company": company, "chat": chat, "typing": on, "ttl_s": ttl_s}
        await self._call("chats.typing", params)

    async def groups(self, company: str) -> list[Group]:
        """The groups that the company is in."""
        return await self._typed(list[Group], "groups.list", {"company": company})

    async def group(self, company: str, jid: str) -> Group:
        """One group, with its members."""
        return await self._typed(Group, "groups.info", {"company": company, "group": jid})

    async def sessions(self) -> list[Session]:
        """Every session with its state."""
        return await self._typed(list[Session], "sessions.list", {})

    async def session(self, company: str) -> Session:
        """One company's session; `CompanyUnknown` where it has none."""
        for one in await self.sessions():
            if one.company == company:
                return one
        raise CompanyUnknown(f"there is no session of company {company!r}")

    async def status(self) -> Status:
        """Service, database, host and sessions."""
        document = await self._document("status", {})
        return msgspec.structs.replace(msgspec.convert(document, Status), document=document)

    async def health(self, *, verbose: bool = False) -> Health:
        """How the service, its database and its sessions are, with what to do (docs/health.md); `verbose` with the
        samples, statements and sessions behind it."""
        return await self._typed(Health, "health.get", {"verbose": verbose})

    async def pair(
        self,
        company: str,
        by: Literal["qr", "code"] = "qr",
        phone: str | None = None,
        *,
        confirm: bool = False,
        fallback: bool | None = None,
    ) -> BegunPairing:
        """Begin pairing, or follow the same one that is under way; the QR or the code comes as an event: enter
        `events(company)` before. Another number than the company's raises `Conflict` unless `confirm` is set;
        `fallback` (None: as the service is set up): by QR where WhatsApp gives no code."""
        params = {"company": company, "by": by, "phone": phone, "confirm": confirm, "fallback": fallback}
        return await self._typed(BegunPairing, "sessions.pair", params)

    async def cancel_pairing(self, company: str) -> Session:
        """End a pairing that is not done; nothing of it is left."""
        return await self._typed(Session, "sessions.cancel_pairing", {"company": company})

    async def start(self, company: str) -> Session:
        """Start a paired company's session; does nothing where it runs."""
        return await self.command("start", company)

    async def stop(self, company: str) -> Session:
        """End a session; it is not started again by itself."""
        return await self.command("stop", company)

    async def restart(self, company: str) -> Session:
        """End a session, if it runs, and start it anew."""
        return await self.command("restart", company)

    async def logout(self, company: str) -> Session:
        """Unlink the company's device at WhatsApp; it must be paired anew afterwards."""
        return await self.command("logout", company)

    async def command(self, verb: Literal["start", "stop", "restart", "logout"], company: str) -> Session:
        """The verb by its name; the session as it stands then."""
        return await self._typed(Session, f"sessions.{verb}", {"company": company})

    async def export(self, company: str, folder: Path, *, overwrite: bool = False) -> ExportedFolder:
        """Have the service write the company's auth state as `folder` (absolute)."""
        params = {"company": company, "folder": str(folder), "overwrite": overwrite}
        return await self._typed(ExportedFolder, "companies.export", params)

    async def nodes(self) -> list[dict[str, str]]:
        """The other nodes that live: `node`, which identifies it, and `name`."""
        return await self._typed(list[dict[str, str]], "nodes.list", {})

    async def hand_over(self, company: str, node: str, name: str) -> dict[str, Any]:
        """Give the company's session to another living node, as `nodes` has it: docs/upgrade.md. `closed_s` of the
        answer is how long it was nobody's. Where it fails the session runs here as before."""
        params = {"company": company, "node": node, "name": name}
        return await self._typed(dict[str, Any], "sessions.hand_over", params, HANDOVER_TIMEOUT_S)

    async def quarantine(self, verb: Literal["list", "show", "apply", "discard"], **params: int | str) -> Any:
        """See docs/protocol.md: the entries; one entry; what became of one."""
        return await self._document(f"quarantine.{verb}", params)

    async def job(self, method: str, params: Mapping[str, Any], timeout_s: float) -> Any:
        """The report of a job that the service runs, such as `cleanup.run`: see docs/protocol.md."""
        return msgspec.json.decode(await self._call(method, params, timeout_s))

    async def last_event(self) -> int:
        """The number of the newest event in the service's log; 0 where there is none."""
        newest: int = (await self._document("events.list", {}))["after"]
        return newest

    def events(
        self, company: str | None = None, *, kinds: Sequence[str] = (), after: int | None = None
    ) -> EventStream:
        """Events of one company or of all. Without `after`: what happens from now on, prompts of pairings too, until
        the service ends (`ServiceUnavailable`; the same where a consumer falls 10,000 events behind). With `after`:
        what the service's log has above that number (0: all it keeps) and then what comes, also over a restart of the
        service of up to a minute; messages, receipts, states and alerts are logged."""
        if after is not None:
            return LoggedEvents(self._link, after, () if company is None else (company,), kinds)
        return LiveEvents(
            self._link,
            lambda event: company in (None, event.company) and (not kinds or event.kind in kinds),
        )

    async def messages(
        self, company: str | None = None, *, after: int | None = None
    ) -> AsyncGenerator[Message, None]:
        """Received messages of one company or of all, as they arrive; `after` and the end as with `events`."""
        async with self.events(company, kinds=("message",), after=after) as events:
            async for event in events:
                yield message_of(event)

    async def on_message(
        self,
        callback: Callable[[Message], Awaitable[None]],
        company: str | None = None,
        *,
        consumer: str | None = None,
    ) -> None:
        """Await `callback` for each live inbound message, one after the other, until the service ends; from now on, or
        with the name of a `consumer` from behind the last message whose callback returned, whoever crashed since: at
        least once, in order. What `callback` raises ends this, and that message comes again."""

        async def take(message: Message) -> None:
            if message.live and not message.from_me:
                await callback(message)

        if consumer is not None:
            companies = () if company is None else (company,)
            return await consume(
                self._link,
                consumer,
                lambda event: take(message_of(event)),
                companies=companies,
                kinds=("message",),
            )
        async with contextlib.aclosing(self.messages(company)) as messages:
            async for message in messages:
                await take(message)
        return None

    async def webhooks(self, verb: str, **params: Any) -> Any:
        """`list`, `show`, `add`, `remove`, `pause`, `resume`, `rotate`, `test`, `dead`, `replay`: docs/webhooks.md."""
        return await self._document(f"webhooks.{verb}", params)

    async def alerts(
        self, since_s: float = 86_400.0, *, open_only: bool = False, companies: Sequence[str] = ()
    ) -> AlertHistory:
        """Alerts that were reported in so many seconds (at most 30 days) and all that go on, newest first; of these
        companies only, where some are named."""
        params = {"since_s": since_s, "open_only": open_only, "companies": list(companies), "limit": 1_000}
        return await self._typed(AlertHistory, "alerts.list", params)

    async def test_alerts(self, channel: str | None = None) -> list[dict[str, Any]]:
        """Send a test over one channel of alerts, or all, and wait for what becomes of it: docs/alerts.md."""
        return await self._typed(list[dict[str, Any]], "alerts.test", {"channel": channel}, CALL_TIMEOUT_S)

    async def dismiss_alert(self, name: str, company: str | None = None) -> list[dict[str, Any]]:
        """End the alert of that name, of one company or of all, without telling anybody: for what nothing will end. It
        is told again where it goes on. Raises `NotFound` where nothing of that name goes on."""
        return await self._typed(list[dict[str, Any]], "alerts.dismiss", {"name": name, "company": company})

    async def schedule(self, verb: Literal["list", "run"], **params: str) -> Any:
        """The jobs with their times and last runs; or have the one named `job` run next: docs/schedule.md."""
        return await self._document(f"schedule.{verb}", params)

    async def consumers(self, verb: Literal["list", "remove"], **params: str) -> Any:
        """The names that `on_message` goes on under: all of them, or remove the one of that `name`."""
        return await self._document(f"consumers.{verb}", params)

    async def open(self) -> None:
        """Connect now rather than at the first call; `connect()` does it."""
        await self._link.open()

    async def close(self) -> None:
        """End the connection, and every iteration over events."""
        self._link.close()

    async def _typed(
        self, result: type[T], method: str, params: Mapping[str, Any], timeout_s: float = CALL_TIMEOUT_S
    ) -> T:
        return msgspec.json.decode(await self._call(method, params, timeout_s), type=result)

    async def _document(self, method: str, params: Mapping[str, Any]) -> Any:
        return msgspec.json.decode(await self._call(method, params))

    async def _call(
        self, method: str, params: Mapping[str, Any], timeout_s: float = CALL_TIMEOUT_S
    ) -> msgspec.Raw:
        return await self._link.request(method, params, timeout_s)


@contextlib.asynccontextmanager
async def connect(socket: Path | str | None = None) -> AsyncIterator[Client]:
    """A client of the service that listens at `socket` (default: the gateway of the configured state
    directory). Raises `ServiceUnavailable` within 5 s where none answers."""
    client = Client(Path(socket) if socket else state_directory() / "gateway.sock")
    await client.open()
    try:
        yield client
    finally:
        await client.close()
