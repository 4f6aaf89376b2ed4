"""What stands before PostgreSQL and gives its own answers, as PgBouncer does."""

from __future__ import annotations

import asyncio
import contextlib


class Relay:
    """Stands before PostgreSQL as a pooler does: a login is answered with a process id of its own."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self.serving: list[asyncio.Task[None]] = []

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.append(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await asyncio.open_connection(*self._target)
        await asyncio.gather(
            self._pump(reader, upstream[1], rewrite=False), self._pump(upstream[0], writer, rewrite=True)
        )

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, rewrite: bool
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                key = data.find(b"K\x00\x00\x00") if rewrite else -1
                if key >= 0:
                    data = data[: key + 5] + (4321).to_bytes(4, "big") + data[key + 9 :]
                writer.write(data)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
