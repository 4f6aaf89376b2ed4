"""Commands that run the service or ask a running one: up, status, sessions, pair, start, stop, …

Thin: everything is decided in the service.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from standfast.cli.context import current_settings, run_async
from standfast.cli.live import STATE_STYLES
from standfast.cli.output import JsonOption, duration, print_json, size
from standfast.cli.standing import company_lines, node_line, outage_lines, vault_line
from standfast.cli.webhooks import webhook_table
from standfast.errors import PairingFailed, UsageError
from standfast.service.client import connect
from standfast.sessions.events import Event
from standfast.sessions.phone import masked
from standfast.sessions.qr import TERMINAL_STYLE, qr_lines, qr_png

PAIRING_TIMEOUT_S = 240.0
_LEASE_STYLES = {"held": "green", "unclaimed": "yellow", "fenced": "red"}
CompanyArgument = Annotated[str, typer.Argument(help="Company id: 1 to 50 letters, digits, '-' or '_'.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("up")(up)
    app.command("status")(status)
    app.command("sessions")(sessions)
    app.command("pair")(pair)
    for verb in ("start", "stop", "restart", "logout"):
        app.command(verb, help=_VERBS[verb])(_command(verb))


def up(
    simulator: Annotated[
        bool, typer.Option("--simulator", help="Use the WhatsApp simulator and two demo companies.")
    ] = False,
    gateway_only: Annotated[
        bool, typer.Option("--gateway-only", help="Serve auth state to your own Node bots; run no session.")
    ] = False,
    company: Annotated[str, typer.Option(help="The company to pair where none is there yet.")] = "main",
) -> None:
    """Run the service: database, gateway, Node host and every wanted session. Ctrl-C ends it."""
    from standfast.cli.up import Mode
    from standfast.cli.up import up as run_service

    if simulator and gateway_only:
        raise UsageError("--simulator and --gateway-only exclude each other", next_step="Give one of them.")
    mode = Mode.SIMULATOR if simulator else Mode.GATEWAY if gateway_only else Mode.WHATSAPP
    run_async(run_service(current_settings(), mode=mode, company=company, console=Console()))


def status(as_json: JsonOption = False) -> None:
    """Show the running service, its database and its sessions."""
    answer = run_async(_asked(lambda client: client.status())).document
    if as_json:
        return print_json(answer)
    console = Console()
    for line in outage_lines(answer):
        console.print(line, soft_wrap=True)
    _print_facts(console, answer)
    for line in company_lines(answer["vault"]):
        console.print(line, soft_wrap=True)
    _print_companies(console, answer["vault"]["companies"])
    _print_sessions(console, answer["sessions"])
    if answer["webhooks"]:
        console.print()
        console.print(webhook_table(answer["webhooks"]))
    return None


def _print_facts(console: Console, answer: dict[str, Any]) -> None:
    database, host = answer["database"], answer["host"]
    latency = f", {database['latency_ms']} ms" if database.get("latency_ms") is not None else ""
    facts = {
        "service": f"{answer['service']}, up {duration(answer['uptime_s'])}",
        "database": f"{database['state']}{latency}  {database.get('server') or database.get('error') or ''}",
        "vault": vault_line(answer["vault"]),
        "node": node_line(answer["vault"]),
        "host": f"pid {host['pid']}, {host['rss_mb']} MB, restarts {host['restarts']}",
        **host_lines(answer["hosts"]),
        "gateway": answer["gateway"],
        "state": answer["state_dir"],
    }
    for name, fact in facts.items():
        console.print(Text(f"{name:<9} ", style="dim").append_text(_as_text(fact)), soft_wrap=True)


def host_lines(hosts: list[dict[str, Any]]) -> dict[str, str]:
    """One line for each Node host, where there are several."""
    return {
        f"host {number}": f"pid {host['pid']}, {host['sessions']} sessions, {host['rss_mb']} MB, event loop "
        f"{host['event_loop_delay_ms'] or 0:g} ms late, restarts {host['restarts']}"
        + (", being replaced" if host["retiring"] else "" if host["ready"] else ", starting")
        for number, host in enumerate(hosts, 1)
        if len(hosts) > 1
    }


def _as_text(fact: str | Text) -> Text:
    return fact if isinstance(fact, Text) else Text(fact)


def _print_companies(console: Console, rows: list[dict[str, Any]]) -> None:
    """Lease and replication of every company that is open here or has a journal."""
    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("company", "lease", "epoch", "replica age", "journal", "lag"):
        table.add_column(name, justify="left" if name in ("company", "lease") else "right")
    for row in rows:
        age, lag = row["replica_age_s"], row["lag_s"]
        table.add_row(
            row["company"],
            Text(row["lease"], style=_LEASE_STYLES.get(row["lease"], "")),
            str(row["epoch"]),
            "" if age is None else duration(age),
            f"{row['journal_batches']:,} ({size(row['journal_bytes'])})" if row["journal_batches"] else "0",
            "" if lag is None else f"{lag * 1000:.0f} ms" if lag < 1 else duration(lag),
        )
    console.print(table)
    console.print()


def sessions(as_json: JsonOption = False) -> None:
    """List every session with its state."""
    rows = [msgspec.to_builtins(one) for one in run_async(_asked(lambda client: client.sessions()))]
    if as_json:
        print_json(rows)
    else:
        _print_sessions(Console(), rows)


def pair(
    company: CompanyArgument,
    phone: Annotated[str | None, typer.Option(help="Pair by code with this phone number.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write the QR to this PNG file as well.")] = None,
    fallback: Annotated[
        bool | None,
        typer.Option("--fallback/--no-fallback", help="Go on by QR where WhatsApp gives no code."),
    ] = None,
) -> None:
    """Pair a company: shows the QR (or, with --phone, the pairing code) and waits until it is connected."""
    settings = current_settings()
    number = phone
    if number is None and settings.use_pairing_code and settings.whatsapp_phone_number:
        number = settings.whatsapp_phone_number.get_secret_value()
    run_async(_pair(company, number, png, fallback))


_VERBS: dict[str, str] = {
    "start": "Start a paired company's session.",
    "stop": "End a session; it is not started again by itself.",
    "restart": "End a session and start it anew.",
    "logout": "Unlink the company's device at WhatsApp; it must be paired anew afterwards.",
}


def _command(verb: str) -> Any:
    def run(company: CompanyArgument) -> None:
        literal: Literal["start", "stop", "restart", "logout"] = verb  # type: ignore[assignment]
        session = run_async(_asked(lambda client: client.command(literal, company)))
        why = f" ({session.reason})" if session.reason else ""
        typer.echo(f"{company}: {session.state}{why}")

    return run


async def _pair(company: str, phone: str | None, png: Path | None, fallback: bool | None) -> None:
    console, deadline = Console(), time.monotonic() + PAIRING_TIMEOUT_S
    async with connect() as client, client.events(company) as events:
        await client.pair(company, "code" if phone else "qr", phone, fallback=fallback)
        while not _show_pairing(console, await _before(deadline, events, company), png):
            pass


async def _before(deadline: float, events: AsyncIterator[Event], company: str) -> Event:
    try:
        return await asyncio.wait_for(anext(events), deadline - time.monotonic())
    except TimeoutError:
        raise PairingFailed(f"{company} was not paired within {PAIRING_TIMEOUT_S:g} s") from None


def _show_pairing(console: Console, event: Event, png: Path | None) -> bool:
    """Show one event of a pairing; whether it is done."""
    data = event.data
    if event.kind == "qr":
        shown = Text("\n".join(qr_lines(data["qr"])), style=TERMINAL_STYLE, no_wrap=True)
        console.print(shown, crop=False, soft_wrap=True)
        if png is not None:
            _write_png(str(data["qr"]), png)
        console.print(f"Scan it with WhatsApp > Linked devices within {data.get('ttl_s', 20):g} s.")
    elif event.kind == "pairing_code":
        code = str(data["code"])
        console.print(f"Code [bold]{code[:4]}-{code[4:]}[/], valid {data.get('ttl_s', 50):g} s:")
        console.print("enter it in WhatsApp > Linked devices > Link with phone number.")
    elif event.kind == "state":
        if data["state"] == "open":
            console.print(f"{event.company} is paired and connected.")
            return True
        if data["state"] in ("closed", "logged_out", "replaced") and data.get("next_step"):
            raise PairingFailed(f"{event.company}: {data['reason']}", next_step=data["next_step"])
    return False


def _write_png(qr: str, path: Path) -> None:
    try:
        path.write_bytes(qr_png(qr))
        path.chmod(0o600)
    except OSError as error:
        raise UsageError(
            f"cannot write the QR to {path}: {error}", next_step="Name a writable .png file."
        ) from error


def _print_sessions(console: Console, rows: list[dict[str, Any]]) -> None:
    if not rows:
        console.print("no session yet; pair one: standfast pair COMPANY")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("company", "state", "for", "phone", "in", "out", "why"):
        table.add_column(name, justify="right" if name in ("for", "in", "out") else "left")
    for row in rows:
        table.add_row(
            row["company"],
            Text(row["state"], style=STATE_STYLES.get(row["state"], "")),
            duration(row["since_s"]),
            masked(row["jid"].split("@")[0]) if row["jid"] else "",
            str(row["messages_received"]),
            str(row["messages_sent"]),
            " ".join(part for part in (row["reason"], row["next_step"]) if part),
        )
    console.print(table)


async def _asked(ask: Any) -> Any:
    async with connect() as client:
        return await ask(client)
