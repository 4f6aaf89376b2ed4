"""`standfast alerts`: what operators were told of, what goes on, and whether the channels work.

Thin: the service tells; where none runs, its file is read, and that is said.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from standfast.cli.context import current_settings, run_async
from standfast.cli.output import JsonOption, console, duration, print_json
from standfast.cli.webhooks import since_time
from standfast.errors import ServiceUnavailable, SettingsError, TargetFailed, UsageError
from standfast.service.alerting import try_channels_here
from standfast.service.client import connect
from standfast.service.offline import local_alerts, service_runs
from standfast.settings import Settings
from standfast.state_dir import StateDirectory

MONTH_S = 30 * 86_400.0
_LOOKS = {
    "critical": ("✖", "bold red"),
    "error": ("✖", "red"),
    "warning": ("▲", "yellow"),
    "info": ("●", "cyan"),
}
_NONE_SET_UP = "no channel of alerts is set up"
_SET_ONE_UP = (
    "Set SENTRY_DSN, or TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_ID, or STANDFAST_NOTIFY_URLS, and restart the service: "
    "docs/alerts.md. Webhooks are tried with 'standfast webhooks test NAME'."
)
SinceOption = Annotated[
    str, typer.Option(metavar="TIME", help="Since when: 30m, 24h, 7d or a date; at most 30 days.")
]
OpenOption = Annotated[bool, typer.Option("--open", help="Only what goes on.")]

app = typer.Typer(
    name="alerts",
    help="Show what operators were told of, and what goes on; 'test' tries the channels.",
    rich_markup_mode=None,
    invoke_without_command=True,
)


def register(parent: typer.Typer) -> None:
    """Add the group of commands."""
    parent.add_typer(app)


@app.callback()
def alerts(
    ctx: typer.Context, *, since: SinceOption = "24h", open_: OpenOption = False, json: JsonOption = False
) -> None:
    """Show what operators were told of, newest first, and what goes on; 'test' tries the channels."""
    if ctx.invoked_subcommand is not None:
        return
    since_s = _since_s(since)
    settings = current_settings()
    document = run_async(_document(settings, since_s, open_only=open_))
    if json:
        print_json(document)
        return
    out = console()
    if document["measured_by"] == "file":
        place = settings.state_dir / "alerts"
        out.print(f"No service answers here: this is what it left in {place}.", style="yellow")
    _print_alerts(
        document["alerts"],
        "Nothing goes on." if open_ else f"Nothing was told since {_when(time.time() - since_s)}.",
    )
    if document["error"]:
        out.print(f"This may not be all: {document['error']}", style="red")
    for channel in document["channels"]:
        if channel["error"]:
            out.print(f"{channel['name']}: {channel['waiting']:,} wait; {channel['error']}", style="red")
            out.print(f"  next: {channel['next_step']}", style="yellow")


@app.command("test")
def try_channels(
    channel: Annotated[
        str | None, typer.Argument(metavar="[CHANNEL]", help="One channel; default: all.")
    ] = None,
    *,
    json: JsonOption = False,
) -> None:
    """Send a test over every channel and show what became of it."""
    outcomes, by_service = run_async(_tested(current_settings(), channel))
    if not outcomes:
        raise SettingsError(_NONE_SET_UP, next_step=_SET_ONE_UP)
    if json:
        print_json(outcomes)
    else:
        if not by_service:
            console().print("No service runs here: sent by this command, with its settings.", style="yellow")
        _print_outcomes(outcomes)
    sys.stdout.flush()
    if not all(outcome["ok"] for outcome in outcomes):
        raise typer.Exit(TargetFailed.exit_code)


@app.command("dismiss")
def dismiss(
    name: Annotated[str, typer.Argument(help="The alert's name, as 'standfast alerts --open' shows it.")],
    *,
    company: Annotated[str | None, typer.Option(metavar="ID", help="Only that company's.")] = None,
    json: JsonOption = False,
) -> None:
    """End an alert that nothing else will end; it is told again where its trouble goes on."""
    dismissed = run_async(_dismissed(name, company))
    if json:
        print_json(dismissed)
        return
    for one in dismissed:
        whose = one["company"] or one["subject"] or "this node"
        console().print(f"{one['name']} ({whose}) is dismissed, after {duration(one['duration_s'] or 0)}.")


async def _dismissed(name: str, company: str | None) -> list[dict[str, Any]]:
    async with connect() as client:
        return await client.dismiss_alert(name, company)


def _print_alerts(found: list[dict[str, Any]], nothing: str) -> None:
    out = console()
    if not found:
        out.print(nothing, style="green")
        return
    width = out.width if out.is_terminal else None
    for alert in found:
        for line in alert_lines(alert, width):
            out.print(line)
    out.print(_summary(found), style="dim")


def alert_lines(alert: dict[str, Any], width: int | None) -> Iterator[Text]:
    """One alert: on a terminal a head with its words below, in a pipe one line."""
    symbol, style = _LOOKS.get(alert["level"], _LOOKS["error"])
    head = Text.assemble(
        (f"{symbol} {alert['level']:<8} ", style),
        f"{_when(alert['since'])}  ",
        (_how_long(alert), _state_style(alert)),
    )
    if alert["company"] or alert["subject"]:
        head.append(f"  {alert['company'] or alert['subject']}", style="bold")
    head.append(f"  {alert['name']}", style="dim")
    if width is None:
        head.append(f"  {alert['message']}")
        if alert["next_step"]:
            head.append(f"  Do: {alert['next_step']}")
        yield head
        return
    yield head
    yield from _indented(Text(alert["message"]), width)
    if alert["next_step"] and (alert["open"] or not alert["lasts"]):
        yield from _indented(Text(f"Do: {alert['next_step']}", style="yellow"), width)


def _indented(text: Text, width: int) -> Iterator[Text]:
    for line in text.wrap(console(), max(20, width - 2)):
        line.rstrip()
        yield Text.assemble("  ", line)


def _how_long(alert: dict[str, Any]) -> str:
    if alert["open"]:
        lasted = f"for {duration(alert['duration_s'] or 0)}"
    elif alert["lasts"]:
        lasted = f"over after {duration(alert['duration_s'] or 0)}"
    else:
        lasted = "once" if alert["count"] == 1 else f"{alert['count']:,} times"
    if alert["returns"]:
        lasted += f", came back {alert['returns']:,} times"
    return lasted


def _state_style(alert: dict[str, Any]) -> str:
    return "bold" if alert["open"] else "green" if alert["lasts"] else "default"


def _summary(found: list[dict[str, Any]]) -> str:
    open_ = sum(alert["open"] for alert in found)
    return f"{open_:,} of {len(found):,} {'goes' if open_ == 1 else 'go'} on."


def _print_outcomes(outcomes: list[dict[str, Any]]) -> None:
    out = console()
    width = max(len(outcome["channel"]) for outcome in outcomes)
    for outcome in outcomes:
        line = Text(f"{outcome['channel']:<{width}}  ")
        if outcome["ok"]:
            out.print(line.append(f"ok, taken in {outcome['seconds']:.1f} s", style="green"))
            continue
        out.print(line.append(f"failed: {outcome['error']['message']}", style="red"))
        out.print(f"{'':<{width}}  next: {outcome['error']['next_step']}", style="yellow")


def _since_s(text: str) -> float:
    now = time.time()
    since_s = now - since_time(text, now)
    if not 0 <= since_s <= MONTH_S:
        raise UsageError(f"{text[:30]!r} is not within the last 30 days", next_step="Write 30m, 24h or 7d.")
    return since_s


async def _document(settings: Settings, since_s: float, *, open_only: bool) -> dict[str, Any]:
    """What the service tells, or where none answers what is in its file."""
    if service_runs(settings):
        with contextlib.suppress(ServiceUnavailable):
            async with connect(StateDirectory(settings.state_dir).gateway_socket) as client:
                found = await client.alerts(since_s, open_only=open_only)
            return {"measured_by": "service", **msgspec.to_builtins(found)}
    found_here = local_alerts(settings, since_s, open_only=open_only)
    return {"measured_by": "file", "alerts": found_here, "channels": [], "error": None}


async def _tested(settings: Settings, channel: str | None) -> tuple[list[dict[str, Any]], bool]:
    """What became of each attempt, and whether the service made it."""
    if not service_runs(settings):
        return await try_channels_here(settings, channel), False
    async with connect(StateDirectory(settings.state_dir).gateway_socket) as client:
        return await client.test_alerts(channel), True


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
