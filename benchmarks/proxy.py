"""A TCP proxy on 127.0.0.1 that adds a round-trip delay, and can refuse or stall.

Invariant: bytes leave in the order in which they came, each half a round trip after it arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

_CHUNK_BYTES = 65536


class Road:
    """`async with Road(host, port, round_trip_s) as road:` the way to a server, by `road.port`."""

    def __init__(self, host: str, port: int, round_trip_s: float = 0.0) -> None:
        self._target = (host, port)
        self._delay_s = round_trip_s / 2
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.restore()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()

    async def restore(self) -> None:
        """Let everything through again, by the same port."""
        self._flowing.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Cut the connections there are and accept no more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def hang(self) -> None:
        """Accept connections and pass nothing on, in either direction."""
        self._flowing.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        upstream: asyncio.StreamWriter | None = None
        try:
            await self._flowing.wait()
            answers, upstream = await asyncio.open_connection(*self._target)
            await asyncio.gather(self._pump(reader, upstream), self._pump(answers, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for stream in (writer, upstream):
                if stream is not None:
                    stream.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        forwarding = asyncio.create_task(self._forward(queue, writer))
        try:
            while data := await reader.read(_CHUNK_BYTES):
                queue.put_nowait((loop.time() + self._delay_s, data))
            queue.put_nowait((loop.time() + self._delay_s, b""))
            await forwarding
        finally:
            forwarding.cancel()

    async def _forward(self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await queue.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            await self._flowing.wait()
            if not data:
                break
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()
