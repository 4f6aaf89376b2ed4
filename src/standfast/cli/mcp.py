"""`standfast mcp`: an MCP server over stdin and stdout, beside a running service.

Thin. Invariant: stdout holds the protocol and nothing else; logs go to stderr.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import Annotated, Any

import typer

from standfast.authstate.company import company_id
from standfast.cli.context import current_settings, run_async
from standfast.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("mcp")(mcp)


def mcp(
    company: Annotated[
        str | None, typer.Option(help="Serve this company only; without it, all of them.")
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Leave out sending.")] = False,
) -> None:
    """Serve an MCP client over stdin and stdout; the client starts it, see docs/mcp.md."""
    only = company_id(company) if company is not None else None
    run_async(_serve(current_settings(), only, read_only=read_only))


async def _serve(settings: Settings, company: str | None, *, read_only: bool) -> None:
    from standfast.service.client import Client
    from standfast.service.mcp import build_server
    from standfast.service.tools import Tools

    # Below that the SDK logs what is asked and answered: texts.
    logging.getLogger("mcp").setLevel(logging.WARNING)
    # Not connected yet: the service may be down when the client starts, and may restart under it.
    client = Client(settings.state_dir / "gateway.sock")
    server = build_server(Tools(client, company), read_only=read_only)
    try:
        await _until_ended(asyncio.ensure_future(server.run_stdio_async()))
    finally:
        await client.close()


async def _until_ended(serving: asyncio.Future[None]) -> None:
    """Until stdin ends. The SDK reads it in a thread that no cancellation wakes, and waits for that thread: where a
    signal comes the process ends with it. Nothing is lost: what was accepted is the service's."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _end, ended, 128 + number)
    either: set[asyncio.Future[Any]] = {serving, ended}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        os._exit(ended.result())
    serving.result()


def _end(ended: asyncio.Future[int], code: int) -> None:
    if not ended.done():
        ended.set_result(code)
