"""A webhook's receiver: answers 200, and tells when asked how many came and how old they were. Options: `{}`.

Invariant: it ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import msgspec
import uvloop

from benchmarks.child import pause, tell, told_options
from benchmarks.figures import percentile

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class _Event(msgspec.Struct):
    at: float


_decode = msgspec.json.Decoder(_Event).decode


async def serve(_options: dict[str, Any]) -> None:
    """Serve until told to end; each line of standard input asks for the figures since the last."""
    ages_ms: list[float] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
                event = _decode(await reader.readexactly(length))
                ages_ms.append((time.time() - event.at) * 1000)
                writer.write(_ANSWER)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    tell({"url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"})
    while await pause():
        tell(
            {
                "received": len(ages_ms),
                "p50_ms": percentile(ages_ms, 0.5),
                "p99_ms": percentile(ages_ms, 0.99),
            }
        )
        ages_ms.clear()
    server.close()


if __name__ == "__main__":
    uvloop.run(serve(told_options()))
