"""A webhook's receiver on this machine that answers as it is told; and webhooks over a real file."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec

from standfast.alert import Alert
from standfast.messaging.mailbox import Mailbox
from standfast.messaging.outside import Outside
from standfast.messaging.reach import Reach
from standfast.messaging.webhooks import Webhooks
from standfast.messaging.webhooks_courier import CourierOptions
from tests.messaging import ACME, KEY

QUICK = CourierOptions(timeout_s=10.0, retry_base_s=0.02, retry_cap_s=0.1)
Answer = int | bytes | None


class Receiver:
    """`answers` says what a request gets: a status, raw bytes before the connection ends, or None: it hangs."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.taken: list[dict[str, Any]] = []
        self.answers: Callable[[dict[str, Any]], Answer] = lambda _event: 200
        self.at_once = 0
        self.most_at_once = 0
        self.delay_s = 0.0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def numbers(self) -> list[int]:
        return [event["number"] for event in self.taken]

    def texts(self, chat: str | None = None) -> list[str]:
        return [
            event["data"]["text"] for event in self.taken if chat is None or event["data"]["chat"] == chat
        ]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._begin, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while await self._one(reader, writer):
                    pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head)}
        body = await reader.readexactly(int(headers["content-length"]))
        event = msgspec.json.decode(body)
        self.requests.append((headers, body))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            answer = self.answers(event)
            if answer is None:
                await asyncio.sleep(30)
        finally:
            self.at_once -= 1
        if isinstance(answer, bytes):
            writer.write(answer)
            await writer.drain()
            return False
        assert answer is not None
        if answer < 300:
            self.taken.append(event)
        writer.write(f"HTTP/1.1 {answer} X\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        return True


class Hooks:
    """Webhooks over the file in `directory`; `clock` is moved by hand where a day has to pass."""

    def __init__(self, directory: Path, options: CourierOptions = QUICK) -> None:
        self.alerts: list[Alert] = []
        self.quiet: list[Alert] = []
        self.shift_s = 0.0
        clock = lambda: time.time() + self.shift_s  # noqa: E731
        self.mailbox = Mailbox(directory, KEY, self, clock=clock)
        self.outside = Outside(Reach("127.0.0.1"))
        self.webhooks = Webhooks(self.mailbox.file, self.mailbox.log, self.outside, self, options, clock)
        self._next = 0

    def take(self, alert: Alert) -> None:
        (self.quiet if alert.quiet else self.alerts).append(alert)

    def ended(self) -> list[str]:
        """Names of alerts that were said to be over, where there was one."""
        return [name for alert in self.quiet for name in alert.ends]

    def alerted(self, name: str) -> list[Alert]:
        return [alert for alert in self.alerts if alert.name == name]

    async def __aenter__(self) -> Self:
        self.mailbox.open()
        self.webhooks.load()
        self.webhooks.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.webhooks.stop()
        await self.outside.close()
        await self.mailbox.close()

    async def message(self, text: str, chat: str = "79990000001@s.whatsapp.net", company: str = ACME) -> int:
        """A message that came in; its number."""
        number = await self.mailbox.log.take(
            company,  # type: ignore[arg-type]
            {"id": f"M{time.monotonic_ns()}", "chat": chat, "text": text, "from_me": False},
        )
        assert number is not None
        return number

    def state(self, name: str = "bot") -> dict[str, Any]:
        """How the webhook stands, counted anew."""
        self.webhooks._backlogs = (0.0, {})
        return self.webhooks.show(name)
