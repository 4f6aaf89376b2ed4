"""Notes to tell, channels to tell them, and an HTTP server on this machine that answers as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from typing import Any, NamedTuple, Self

import msgspec
import pytest

from standfast.alerts.channel import Channel, Note, Undelivered
from standfast.alerts.channels import NotifyChannel, SentryChannel
from standfast.alerts.channels.services import secrets_of, service_of, telegram_of
from standfast.settings import Settings

BOT_TOKEN = "123456:ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghi"
PHONE = "79990000001"
SECRETS = (PHONE, "geheim", "hunter2", "T0PSECRET", BOT_TOKEN.partition(":")[2])
NASTY = (
    f"cannot reach postgresql://bot:geheim@db.example/x?password=hunter2 <b>&amp;</b> for {PHONE}@s.whatsapp.net, "
    f"+7 999 000-00-01, {PHONE}, token=T0PSECRET and {BOT_TOKEN}"
)


def note(**changes: Any) -> Note:
    """An outage of three minutes and twelve seconds, at the node n1."""
    made = Note(
        id="0123456789abcdef0123456789abcdef",
        kind="raised",
        name="outage_began",
        level="error",
        message="PostgreSQL is away; sessions go on from the replica",
        since=1_767_225_600.0,
        at=1_767_225_792.0,
        node="n1",
        fingerprint="outage_began|",
        tags={"component": "vault"},
        facts={"error": "PostgreSQL did not answer within 3 s", "code": "database_unavailable"},
        next_step="Check that PostgreSQL runs: 'standfast config'.",
    )
    return msgspec.structs.replace(made, **changes)


class Answer(NamedTuple):
    """`drip_s`: the pause before each byte of the body."""

    status: int = 200
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed
    body: bytes = b'{"ok":true}'
    drip_s: float = 0.0


class Request(NamedTuple):
    path: str
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.content)

    @property
    def event(self) -> dict[str, Any]:
        """The event in an envelope of Sentry."""
        header, item, event = gzip.decompress(self.content).decode().strip().split("\n")
        assert msgspec.json.decode(item)["type"] == "event"
        found: dict[str, Any] = msgspec.json.decode(event)
        assert msgspec.json.decode(header)["event_id"] == found["event_id"]
        return found

    def holds(self, text: str) -> bool:
        """Whether it was sent, in the body."""
        content = self.content
        if self.headers.get("content-encoding") == "gzip":
            content = gzip.decompress(content)
        return text in content.decode()


class Outlet:
    """Gives `answers` in turn, then 200; None hangs."""

    def __init__(self, *answers: Answer | None) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def host(self) -> str:
        assert self._server is not None
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._begin, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            try:
                await self._one(reader, writer)
            finally:
                writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests.append(Request(first.split(" ")[1], headers, content))
        answer = self.answers.pop(0) if self.answers else Answer()
        if answer is None:
            await asyncio.sleep(30)
            return
        head = {"Content-Length": str(len(answer.body)), "Connection": "close", **answer.headers}
        shown = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        writer.write(f"HTTP/1.1 {answer.status} X\r\n{shown}\r\n".encode())
        for byte in answer.body if answer.drip_s else b"":
            await asyncio.sleep(answer.drip_s)
            writer.write(bytes([byte]))
        if not answer.drip_s:
            writer.write(answer.body)
        await writer.drain()


CHAT = "-1001234567890"
CHANNELS = ("sentry", "telegram", "json")


def channel_to(outlet: Outlet, name: str, timeout_s: float = 5.0) -> Channel:
    """The channel as settings make it, with another deadline."""
    if name == "sentry":
        return SentryChannel(f"http://T0PSECRET@{outlet.host}/42", "warning", timeout_s=timeout_s)
    if name == "telegram":
        api = f"http://{outlet.host}"
        make = lambda: telegram_of(BOT_TOKEN, CHAT, api, "TELEGRAM")  # noqa: E731
        secrets = secrets_of(BOT_TOKEN)
    else:
        url = f"json://bot:geheim@{outlet.host}/T0PSECRET"
        make = lambda: service_of(url, "URL 1")  # noqa: E731
        secrets = secrets_of(url.partition("://")[2])
    return NotifyChannel(name, "error", make, where=name.upper(), secrets=secrets, timeout_s=timeout_s)


def settings_for(outlet: Outlet, **more: str) -> Settings:
    """Sentry and Telegram, both at the outlet."""
    return named(
        SENTRY_DSN=f"http://T0PSECRET@{outlet.host}/42",
        TELEGRAM_BOT_TOKEN=BOT_TOKEN,
        TELEGRAM_CHAT_ID=CHAT,
        TELEGRAM_API_URL=f"http://{outlet.host}",
        **more,
    )


def named(**given: str) -> Settings:
    """Settings by the names of their variables."""
    return Settings.model_validate(given)


async def refusal(channel: Channel, **changes: Any) -> Undelivered:
    """What a delivery fails with; its words hold no secret."""
    with pytest.raises(Undelivered) as caught:
        await channel.deliver(note(**changes))
    shown = f"{caught.value.message} {caught.value.next_step}"
    assert not [secret for secret in SECRETS if secret in shown]
    return caught.value
