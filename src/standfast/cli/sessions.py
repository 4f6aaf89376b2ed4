"""Commands about sessions that exist: sessions, start, stop, restart, logout.

Thin: everything is decided in the service.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from standfast.cli.asking import CompanyArgument, YesOption, asked, can_ask, confirmed
from standfast.cli.context import run_async
from standfast.cli.live import STATE_STYLES
from standfast.cli.output import JsonOption, duration, print_json
from standfast.cli.watching import watch_sessions
from standfast.errors import UsageError
from standfast.service.records import Session
from standfast.sessions.phone import masked

Verb = Literal["start", "stop", "restart", "logout"]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (sessions, start, stop, restart, logout):
        app.command(command.__name__)(command)


def sessions(
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Keep the list up to date; q ends it.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List every session with its state. With --watch and --json: one document a line for each change."""
    if watch:
        run_async(watch_sessions(Console(), sessions_table, as_json=as_json))
        return
    rows = run_async(asked(lambda client: client.sessions()))
    if as_json:
        print_json([msgspec.to_builtins(one) for one in rows])
    else:
        Console().print(sessions_table(rows))


def start(company: CompanyArgument, as_json: JsonOption = False) -> None:
    """Start a paired company's session."""
    _command("start", company, as_json=as_json)


def stop(company: CompanyArgument, as_json: JsonOption = False) -> None:
    """End a session; it is not started again by itself."""
    _command("stop", company, as_json=as_json)


def restart(company: CompanyArgument, as_json: JsonOption = False) -> None:
    """End a session and start it anew."""
    _command("restart", company, as_json=as_json)


def logout(company: CompanyArgument, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Unlink the company's device at WhatsApp; it must be paired anew afterwards."""
    if not yes:
        if not can_ask(as_json=as_json):
            raise UsageError(
                "a logout unlinks the device at WhatsApp, and nobody is there to confirm it",
                next_step=f"Confirm it: 'standfast logout {company} --yes'.",
            )
        if not confirmed(f"Unlink {company} at WhatsApp? It must be paired anew afterwards."):
            raise UsageError("nothing was changed", next_step="Answer y, or give --yes, to log out.")
    _command("logout", company, as_json=as_json)


def _command(verb: Verb, company: str, *, as_json: bool) -> None:
    session = run_async(asked(lambda client: client.command(verb, company), company))
    if as_json:
        print_json(msgspec.to_builtins(session))
        return
    why = f" ({session.reason})" if session.reason else ""
    typer.echo(f"{company}: {session.state}{why}")


def sessions_table(rows: list[Session]) -> RenderableType:
    """Sessions as people read them."""
    if not rows:
        return Text("no session yet; pair one: standfast pair COMPANY")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("company", "state", "for", "phone", "in", "out", "why"):
        table.add_column(name, justify="right" if name in ("for", "in", "out") else "left")
    for row in rows:
        table.add_row(
            row.company,
            Text(row.state, style=STATE_STYLES.get(row.state, "")),
            duration(row.since_s),
            masked(row.jid.split("@")[0]) if row.jid else "",
            str(row.messages_received),
            str(row.messages_sent),
            ". ".join(part for part in (row.reason, row.next_step) if part),
        )
    return table
