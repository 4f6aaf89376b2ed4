"""`Link`: the network between one node and PostgreSQL, which stalls, drops, and cuts at a given byte.

Invariant: it never changes a byte, and passes none twice or out of order: it only stops.
"""

from __future__ import annotations

import asyncio
import contextlib

_READ_BYTES = 16384


class Link:
    """Listens on 127.0.0.1 at `port`, the same one for as long as it lives."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._mute = False
        self._requests_left: int | None = None
        self._answers_left: int | None = None
        self.port = 0
        self._flowing.set()

    @property
    def is_clean(self) -> bool:
        """Whether nothing stands in the way, or waits to."""
        return (
            self._server is not None
            and self._flowing.is_set()
            and not self._mute
            and self._requests_left is None
            and self._answers_left is None
        )

    @property
    def is_severed(self) -> bool:
        """Whether nothing at all comes back from PostgreSQL."""
        return self._server is None or not self._flowing.is_set() or self._mute

    async def open(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Refuse what comes and cut what there is."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.cut()

    async def cut(self) -> None:
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def stall(self) -> None:
        """Nothing passes any more, in connections old and new; nobody is told."""
        self._flowing.clear()

    def mute(self) -> None:
        """Requests pass, answers do not."""
        self._mute = True

    def cut_requests(self, after_bytes: int) -> None:
        """Cut every connection once so many more bytes have gone to PostgreSQL, and none after them."""
        self._requests_left = after_bytes

    def cut_answers(self, after_bytes: int) -> None:
        """The same for what PostgreSQL answers: it has done what it was asked to."""
        self._answers_left = after_bytes

    async def heal(self) -> None:
        """All is well again; a connection of which bytes were withheld is cut."""
        if self._mute or not self._flowing.is_set():
            await self.cut()
        self._mute = False
        self._requests_left = self._answers_left = None
        self._flowing.set()
        await self.open()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        upstream: asyncio.StreamWriter | None = None
        try:
            await self._flowing.wait()
            answers, upstream = await asyncio.open_connection(*self._target)
            both = (self._pump(reader, upstream, answers=False), self._pump(answers, writer, answers=True))
            pumps = [asyncio.ensure_future(pump) for pump in both]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for stream in (writer, upstream):
                if stream is not None:
                    stream.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_READ_BYTES):
                await self._flowing.wait()
                if answers and self._mute:
                    continue
                allowed = self._allowed(len(data), answers=answers)
                writer.write(data[:allowed])
                await writer.drain()
                if allowed < len(data):
                    # What is still in the socket's buffer was sent; an abort would take it back.
                    await asyncio.sleep(0)
                    asyncio.get_running_loop().call_soon(asyncio.ensure_future, self.cut())
                    return

    def _allowed(self, count: int, *, answers: bool) -> int:
        """How many of `count` bytes may pass; fewer than all of them where the cut is due."""
        left = self._answers_left if answers else self._requests_left
        if left is None:
            return count
        rest = None if left < count else left - count
        if answers:
            self._answers_left = rest
        else:
            self._requests_left = rest
        return min(left, count)
