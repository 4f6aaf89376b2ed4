"""`standfast simulator`: the WhatsApp simulator alone, for a bot or a test of one's own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from standfast.cli.context import current_settings, run_async
from standfast.cli.output import JsonOption, console, print_json
from standfast.errors import NodeError
from standfast.node import bridge_directory, node_binary
from standfast.service.simulator import Ready, Simulator
from standfast.settings import Settings
from standfast.state_dir import StateDirectory

Port = Annotated[int, typer.Option(min=0, max=65_535, help="Port on 127.0.0.1; 0 takes a free one.")]


def register(app: typer.Typer) -> None:
    app.command("simulator")(simulator)


def simulator(
    *,
    port: Port = 0,
    admin_port: Port = 0,
    state: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where it keeps accounts; default: in the state directory."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Run the WhatsApp simulator until Ctrl-C; real Baileys clients pair with it and log in."""
    settings = current_settings()
    directory = StateDirectory(state or settings.state_dir / "simulator-alone")
    run_async(_serve(settings, directory, port, admin_port, as_json=json))


async def _serve(
    settings: Settings, directory: StateDirectory, port: int, admin_port: int, *, as_json: bool
) -> None:
    node, bridge = node_binary(settings.node_binary), bridge_directory(settings.bridge_dir)
    directory.acquire("simulator")
    server = Simulator(directory.path, node, bridge, port, admin_port)
    try:
        _tell(await server.start(), directory.path, as_json=as_json)
        code = await server.ended()
        raise NodeError(f"the simulator ended by itself (exit code {code})", next_step="Start it again.")
    finally:
        await asyncio.shield(server.stop())
        directory.release()


def _tell(ready: Ready, state: Path, *, as_json: bool) -> None:
    if as_json:
        document = {"url": ready.url, "admin": ready.admin, "root_key": ready.root_key, "pid": ready.pid}
        print_json(document, one_line=True)
        return
    out = console()
    out.print("The WhatsApp simulator is running. Ctrl-C ends it.", style="bold")
    out.print(f"  WhatsApp   {ready.url}   (Baileys: waWebSocketUrl)")
    out.print(f"  admin API  {ready.admin}   (scan QRs, add contacts, inject faults)")
    out.print(f"  root key   {ready.root_key}   (Baileys: WA_CERT_DETAILS.PUBLIC_KEY)")
    out.print(f"  state      {state}")
    out.print(
        "Standfast's own Node host takes the first and third from STANDFAST_WA_URL and STANDFAST_WA_ROOT_KEY."
    )
