"""`standfast webhooks` and `standfast consumers`: who is told of what happens, and how far they are.

Thin: everything is decided in the service.
"""

from __future__ import annotations

import datetime
import time
from typing import Annotated, Any

import typer
from rich.table import Table

from standfast.cli.context import run_async
from standfast.cli.output import JsonOption, console, duration, print_json
from standfast.errors import TargetFailed, UsageError
from standfast.service.client import connect

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What the webhook is called.")]
SecretOption = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Sign with this secret. Default: one is made.")
]
app = typer.Typer(
    name="webhooks",
    help="Programs that are told of events by HTTP: add, list, show, pause, replay …",
    no_args_is_help=True,
    rich_markup_mode=None,
)
consumers_app = typer.Typer(
    name="consumers",
    help="Programs that go on with messages where they were: list, remove.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(parent: typer.Typer) -> None:
    """Add both groups of commands."""
    parent.add_typer(app)
    parent.add_typer(consumers_app)


@app.command()
def add(
    name: NameArgument,
    url: Annotated[str, typer.Argument(help="Where events are posted to: https://…")],
    secret: SecretOption = None,
    company: Annotated[
        list[str] | None, typer.Option(help="Only this company; may be given again. Default: all of them.")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="message (the default), receipt, state or alert; may be given again."),
    ] = None,
    *,
    json: JsonOption = False,
) -> None:
    """Post every such event to a URL from now on; the secret is shown, this once."""
    made = _asked("add", name=name, url=url, secret=secret, companies=company or [], kinds=kind or [])
    _show_secret(made, json=json)


@app.command("list")
def list_(*, json: JsonOption = False) -> None:
    """List the webhooks: what waits for each, since when, and why."""
    rows = _asked("list")
    if json:
        print_json(rows)
    elif not rows:
        console().print("No webhook yet; add one: standfast webhooks add NAME URL")
    else:
        console().print(webhook_table(rows))


@app.command()
def show(name: NameArgument, *, json: JsonOption = False) -> None:
    """Show one webhook."""
    _print_webhook(_asked("show", name=name), json=json)


@app.command()
def remove(name: NameArgument) -> None:
    """Remove a webhook, and what waits for it."""
    _asked("remove", name=name)
    console().print(f"{name} is removed.")


@app.command()
def pause(name: NameArgument, *, json: JsonOption = False) -> None:
    """Deliver nothing until it is resumed; what happens meanwhile is kept."""
    _print_webhook(_asked("pause", name=name), json=json)


@app.command()
def resume(name: NameArgument, *, json: JsonOption = False) -> None:
    """Deliver again, the oldest first."""
    _print_webhook(_asked("resume", name=name), json=json)


@app.command()
def rotate(
    name: NameArgument,
    secret: SecretOption = None,
    keep_h: Annotated[
        float, typer.Option("--keep-hours", min=0, help="For how long the former secret signs as well.")
    ] = 24.0,
    *,
    json: JsonOption = False,
) -> None:
    """Sign with a new secret; it is shown, this once."""
    _show_secret(_asked("rotate", name=name, secret=secret, keep_h=keep_h), json=json)


@app.command("test")
def try_out(name: NameArgument, *, json: JsonOption = False) -> None:
    """Post an event of kind 'test' at once, past what waits, and tell what came of it."""
    done = _asked("test", name=name)
    if not done["delivered"]:
        raise TargetFailed(f"{name}: {done['error']} (after {done['took_ms']} ms)")
    if json:
        print_json(done)
    else:
        console().print(f"{name} took it within {done['took_ms']} ms.")


@app.command()
def dead(
    name: NameArgument,
    after: Annotated[int, typer.Option(min=0, help="Only events above this number.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=500, help="No more than so many.")] = 100,
    *,
    json: JsonOption = False,
) -> None:
    """List the events that were given up."""
    rows = _asked("dead", name=name, after=after, limit=limit)
    if json:
        print_json(rows)
    elif not rows:
        console().print("Nothing was given up.")
    else:
        table = _table("number", "company", "kind", "attempts", "given up", "why")
        for row in rows:
            given_up = _ago(row["dead_at"])
            table.add_row(
                str(row["number"]),
                row["company"],
                row["kind"] or "",
                str(row["attempts"]),
                given_up,
                row["error"] or "",
            )
        console().print(table)


@app.command()
def replay(
    name: NameArgument,
    dead: Annotated[bool, typer.Option("--dead", help="What was given up.")] = False,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Everything since then: 2h, 3d or 2026-01-31T12:00.")
    ] = None,
    numbers: Annotated[
        str | None, typer.Option(metavar="LIST", help="Events by number: 17,20-25, at most 10,000.")
    ] = None,
    *,
    json: JsonOption = False,
) -> None:
    """Deliver events again, also those that were delivered."""
    params: dict[str, Any] = {"name": name, "dead": dead}
    if since is not None:
        params["since"] = since_time(since, time.time())
    if numbers is not None:
        params["numbers"] = number_list(numbers)
    done = _asked("replay", **params)
    if json:
        print_json(done)
    else:
        console().print(f"{done['replayed']:,} events are delivered again.")


@consumers_app.command("list")
def list_consumers(*, json: JsonOption = False) -> None:
    """List the consumers, and how far behind each is."""
    rows = run_async(_consumers("list"))
    if json:
        print_json(rows)
    elif not rows:
        console().print("No consumer yet; see docs/webhooks.md.")
    else:
        table = _table("consumer", "number", "behind", "connected", "last seen")
        for row in rows:
            connected = "yes" if row["connected"] else "no"
            table.add_row(
                row["name"], str(row["number"]), f"{row['behind']:,}", connected, _ago(row["last_seen"])
            )
        console().print(table)


@consumers_app.command("remove")
def remove_consumer(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the consumer is called.")],
) -> None:
    """Keep nothing for a consumer any more."""
    run_async(_consumers("remove", name=name))
    console().print(f"{name} is removed.")


def webhook_table(rows: list[dict[str, Any]]) -> Table:
    """Webhooks as they stand, also for `standfast status`."""
    table = _table("webhook", "target", "state", "waiting", "oldest", "dead", "last error")
    for row in rows:
        oldest = row["oldest_waiting_s"]
        table.add_row(
            row["name"],
            row["target"],
            "paused" if row["paused"] else "failing" if row["failing_since"] else "ok",
            f"{row['waiting']:,}",
            "" if oldest is None else duration(oldest),
            f"{row['dead']:,}",
            row["paused_why"] or row["last_error"] or "",
        )
    return table


def since_time(text: str, now: float) -> float:
    """A time of day with date (local where it names no zone), or so long before `now`. Raises `UsageError`."""
    units = {"m": 60.0, "h": 3_600.0, "d": 86_400.0}
    if text[:-1].isdecimal() and text[-1:] in units:
        return now - int(text[:-1]) * units[text[-1]]
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise UsageError(
            f"{text[:30]!r} is not a time", next_step="Write 30m, 2h, 3d or 2026-01-31T12:00."
        ) from None


def number_list(text: str) -> list[int]:
    """`17,20-25` → 17, 20, 21 … Raises `UsageError`."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(f"{part[:20]!r} is no number", next_step="Write numbers and ranges: 17,20-25.")
        if dash and not 0 <= int(last) - int(first) < 10_000:
            raise UsageError(
                f"the range {part[:40]} is empty or too long", next_step="At most 10,000 numbers."
            )
        found += range(int(first), int(last or first) + 1)
    return found


def _print_webhook(webhook: dict[str, Any], *, json: bool) -> None:
    if json:
        print_json(webhook)
        return
    out = console()
    out.print(webhook_table([webhook]))
    out.print(f"posts to  {webhook['url']}")
    out.print(f"companies {', '.join(webhook['companies']) or 'all'}")
    out.print(f"kinds     {', '.join(webhook['kinds'])}")


def _show_secret(made: dict[str, Any], *, json: bool) -> None:
    if json:
        print_json(made)
        return
    out = console()
    out.print(made["secret"])
    out.print("It is shown only now. Check signatures with it: docs/webhooks.md", style="dim")


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in names:
        right = name in ("number", "waiting", "oldest", "dead", "behind", "attempts")
        table.add_column(name, justify="right" if right else "left")
    return table


def _ago(at: float) -> str:
    return f"{duration(max(0.0, time.time() - at))} ago"


def _asked(verb: str, **params: Any) -> Any:
    return run_async(_ask(verb, params))


async def _ask(verb: str, params: dict[str, Any]) -> Any:
    async with connect() as client:
        return await client.webhooks(verb, **params)


async def _consumers(verb: Any, **params: str) -> Any:
    async with connect() as client:
        return await client.consumers(verb, **params)
