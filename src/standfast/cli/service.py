"""Commands that run the service, or tell how it is: up, status.

Thin: everything is decided in the service.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from standfast.cli.asking import asked
from standfast.cli.context import current_settings, run_async
from standfast.cli.output import JsonOption, duration, print_json, size
from standfast.cli.sessions import sessions_table
from standfast.cli.standing import company_lines, node_line, outage_lines, vault_line
from standfast.cli.webhooks import webhook_table
from standfast.errors import UsageError
from standfast.service.records import Session

_LEASE_STYLES = {"held": "green", "unclaimed": "yellow", "fenced": "red"}


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("up")(up)
    app.command("status")(status)


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
    answer = run_async(asked(lambda client: client.status())).document
    if as_json:
        return print_json(answer)
    console = Console()
    for line in outage_lines(answer):
        console.print(line, soft_wrap=True)
    _print_facts(console, answer)
    for line in company_lines(answer["vault"]):
        console.print(line, soft_wrap=True)
    _print_companies(console, answer["vault"]["companies"])
    console.print(sessions_table(msgspec.convert(answer["sessions"], list[Session])))
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
        "http": answer.get("http") or "off",
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
