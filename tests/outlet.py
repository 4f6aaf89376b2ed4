"""Notes to tell, and an HTTP server on this machine that answers a channel as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from typing import Any, NamedTuple, Self

import msgspec

from standfast.alerts.channel import Note

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
    status: int = 200
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed
    body: bytes = b'{"ok":true}'


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
        content = await reader.readexactly(int(headers["content-length"]))
        self.requests.append(Request(first.split(" ")[1], headers, content))
        answer = self.answers.pop(0) if self.answers else Answer()
        if answer is None:
            await asyncio.sleep(30)
            return
        head = {"Content-Length": str(len(answer.body)), "Connection": "close", **answer.headers}
        shown = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        writer.write(f"HTTP/1.1 {answer.status} X\r\n{shown}\r\n".encode() + answer.body)
        await writer.drain()
