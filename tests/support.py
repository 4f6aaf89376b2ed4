"""What several test modules need: waiting with a deadline, a TCP proxy that misbehaves, made-up auth state."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from standfast.errors import DatabaseUnavailable
from standfast.postgres.pool import Database

T = TypeVar("T")


def apart(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end in a loop of its own: for fixtures that outlive every test's loop."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.run_until_complete(_cancel_rest(loop))
        loop.close()


async def _cancel_rest(loop: asyncio.AbstractEventLoop) -> None:
    rest = asyncio.all_tasks(loop) - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


async def until(condition: Callable[[], bool | Awaitable[bool]], timeout_s: float = 10.0) -> None:
    """Wait until `condition` holds; fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        holds = condition()
        if holds if isinstance(holds, bool) else await holds:
            return
        assert time.monotonic() < deadline, f"not so within {timeout_s:g} s"
        await asyncio.sleep(0.01)


async def works(database: Database) -> bool:
    try:
        await database.ping()
    except DatabaseUnavailable:
        return False
    return True


def buffer(data: bytes) -> dict[str, str]:
    return {"type": "Buffer", "data": base64.b64encode(data).decode()}


def made_up_creds(identity: bytes = b"\x07" * 32, **fields: Any) -> bytes:
    """A creds document with the fields that Standfast reads; `fields` are put over it."""
    document = {
        "signedIdentityKey": {"public": buffer(identity), "private": buffer(b"\x08" * 32)},
        "registrationId": 1234,
        "nextPreKeyId": 31,
        "registered": False,
    }
    return json.dumps(document | fields).encode()


class Proxy:
    """A TCP proxy on 127.0.0.1. While `flowing` is cleared it passes nothing on, as a dead network; `mute` lets
    requests through and drops the answers."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.mute = False
        self.flowing = asyncio.Event()
        self.flowing.set()

    @classmethod
    @contextlib.asynccontextmanager
    async def before(cls, host: str, port: int) -> AsyncIterator[Proxy]:
        proxy = cls(host, port)
        await proxy.listen()
        try:
            yield proxy
        finally:
            await proxy.close()

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Refuse new connections and cut those there are; `listen` opens the same port again."""
        if self._server:
            self._server.close()
            self._server = None
        await self.cut()

    async def cut(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def freeze(self) -> None:
        """The connections there are never pass anything on again; new ones work."""
        self.flowing.clear()
        self.flowing = asyncio.Event()
        self.flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        upstream: asyncio.StreamWriter | None = None
        try:
            flowing = self.flowing
            answers, upstream = await asyncio.open_connection(*self._target)
            await asyncio.gather(
                self._pump(reader, upstream, flowing, answers=False),
                self._pump(answers, writer, flowing, answers=True),
            )
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for stream in (writer, upstream):
                if stream is not None:
                    stream.transport.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        flowing: asyncio.Event,
        *,
        answers: bool,
    ) -> None:
        while data := await reader.read(65536):
            await flowing.wait()
            if not (answers and self.mute):
                writer.write(data)
                await writer.drain()
        writer.close()
