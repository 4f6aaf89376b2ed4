"""A TCP proxy that adds a round-trip delay, for measuring what distance to the database costs.

Invariant: bytes leave in the order in which they came, each `delay_s` / 2 after it arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def forward() -> None:
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                break
            writer.write(data)
            await writer.drain()
        writer.close()

    forwarding = asyncio.create_task(forward())
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            queue.put_nowait((loop.time() + delay_s, data))
    queue.put_nowait((loop.time() + delay_s, b""))
    with contextlib.suppress(ConnectionError):
        await forwarding


@contextlib.asynccontextmanager
async def delaying_proxy(host: str, port: int, round_trip_s: float) -> AsyncIterator[int]:
    """The port on 127.0.0.1 of a proxy to `host`:`port` that adds `round_trip_s` to each round trip."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(host, port)
        await asyncio.gather(
            _pump(reader, there_writer, round_trip_s / 2), _pump(there_reader, writer, round_trip_s / 2)
        )

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
