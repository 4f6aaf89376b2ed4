"""Sends back what it gets on a Unix socket. Options: `{"socket"}`.

Invariant: it ends when its standard input does.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import uvloop

from benchmarks.child import pause, told_options


class Echo(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


async def serve(options: dict[str, Any]) -> None:
    """Serve until told to end."""
    server = await asyncio.get_running_loop().create_unix_server(Echo, options["socket"])
    while await pause():
        pass
    server.close()


if __name__ == "__main__":
    uvloop.run(serve(told_options()))
