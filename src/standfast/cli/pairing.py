"""`standfast pair`: shows QRs and codes as they come, and waits until the company is connected.

Invariant: whatever ends the command before that (a refusal, its deadline, Ctrl-C), a pairing that it began is ended
too; one that somebody else began goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer
from rich.console import Console

from standfast.cli.asking import CompanyArgument, YesOption, can_ask, confirmed
from standfast.cli.context import current_settings, run_async
from standfast.cli.output import JsonOption
from standfast.cli.prompts import Documents, Lines, Pictures, Presenter, Window
from standfast.errors import Conflict, PairingFailed, StandfastError, UsageError
from standfast.service.client import Client, connect
from standfast.service.records import BegunPairing
from standfast.sessions.events import Event
from standfast.settings import Settings

# Two codes, then a QR until WhatsApp ends it, and the connections between.
PAIRING_TIMEOUT_S = 400.0
CANCEL_TIMEOUT_S = 8.0
_ENDED = frozenset({"closed", "logged_out", "replaced", "forbidden"})


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for on the command line."""

    company: str
    by: Literal["qr", "code"]
    phone: str | None
    fallback: bool | None
    confirm: bool


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("pair")(pair)


def pair(
    company: CompanyArgument,
    phone: Annotated[str | None, typer.Option(help="Pair by code with this phone number.")] = None,
    qr: Annotated[bool, typer.Option("--qr", help="Pair by QR, also where USE_PAIRING_CODE is set.")] = False,
    png: Annotated[Path | None, typer.Option(help="Keep the QR in this PNG file meanwhile.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Keep the QR in this SVG file meanwhile.")] = None,
    fallback: Annotated[
        bool | None,
        typer.Option("--fallback/--no-fallback", help="Go on by QR where WhatsApp gives no code."),
    ] = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Pair a company: shows the QR (or, with --phone, the pairing code) and waits until it is connected.

    With --json, each event is a document on a line of its own.
    """
    if qr and phone:
        raise UsageError("--qr and --phone exclude each other", next_step="Give one of them.")
    number = None if qr else phone or _usual_number(current_settings())
    wish = Wish(company, "code" if number else "qr", number, fallback, yes)
    console = Console()
    presenter: Presenter
    if as_json:
        presenter = Documents()
    elif console.is_terminal and not console.is_dumb_terminal:
        presenter = Window(console, company)
    else:
        presenter = Lines(console)
    with Pictures(png, svg) as pictures:
        try:
            run_async(_pair(wish, presenter, pictures))
        except Conflict as conflict:
            # Asked outside the loop: there Ctrl-C would not end the question.
            if not (can_ask(as_json=as_json) and confirmed(_question(conflict))):
                raise
            run_async(_pair(replace(wish, confirm=True), presenter, pictures))


def _question(conflict: Conflict) -> str:
    return f"{conflict.message[0].upper()}{conflict.message[1:]}. Replace it? The old auth state is archived first."


def _usual_number(settings: Settings) -> str | None:
    number = settings.whatsapp_phone_number
    return number.get_secret_value() if settings.use_pairing_code and number else None


async def _pair(wish: Wish, presenter: Presenter, pictures: Pictures) -> None:
    async with connect() as client, client.events(wish.company) as events, _begun(client, wish) as begun:
        with presenter:
            if begun.prompt is not None:
                _show(presenter, pictures, msgspec.to_builtins(begun.prompt))
            deadline = time.monotonic() + PAIRING_TIMEOUT_S
            is_done = False
            while not is_done:
                event = await _before(deadline, events, wish.company)
                # What it replaces may have been logged out just now, and is no business of this pairing.
                if event.data.get("generation", begun.generation) >= begun.generation:
                    is_done = _take(presenter, pictures, event)
        presenter.done(event)


@contextlib.asynccontextmanager
async def _begun(client: Client, wish: Wish) -> AsyncIterator[BegunPairing]:
    """Begin the pairing; one that is left before it is done is ended, unless somebody else began it."""
    request = client.pair(wish.company, wish.by, wish.phone, confirm=wish.confirm, fallback=wish.fallback)
    asking = asyncio.ensure_future(request)
    try:
        begun = await asyncio.shield(asking)
        yield begun
    except BaseException:
        with contextlib.suppress(StandfastError, TimeoutError):
            async with asyncio.timeout(CANCEL_TIMEOUT_S):
                if not (await asking).follows:
                    await client.cancel_pairing(wish.company)
        raise


async def _before(deadline: float, events: AsyncIterator[Event], company: str) -> Event:
    try:
        return await asyncio.wait_for(anext(events), deadline - time.monotonic())
    except TimeoutError:
        raise PairingFailed(f"{company} was not paired within {PAIRING_TIMEOUT_S:g} s") from None


def _take(presenter: Presenter, pictures: Pictures, event: Event) -> bool:
    """Show one event of a pairing; whether it is done. `PairingFailed` where it has ended otherwise."""
    data = event.data
    if event.kind in ("qr", "pairing_code"):
        _show(presenter, pictures, data)
    elif event.kind == "pairing_fallback":
        presenter.remark(event, f"{data['reason']}; pair by QR instead.")
    elif event.kind == "paired":
        other = data.get("another_number")
        presenter.remark(
            event,
            f"Paired with another number ({other['now']}) than before ({other['before']})."
            if other
            else "Paired; WhatsApp asks for a new connection.",
        )
    elif event.kind == "state":
        return _took_state(presenter, event)
    return False


def _took_state(presenter: Presenter, event: Event) -> bool:
    data = event.data
    if data["state"] in _ENDED:
        goes_on = data["state"] == "closed" and (data["pairing"] or data["wanted"])
        if not goes_on:
            raise PairingFailed(f"{event.company}: {data['reason']}", next_step=data["next_step"])
        presenter.remark(event, f"{data['reason']}; it goes on by itself.")
    return bool(data["state"] == "open")


def _show(presenter: Presenter, pictures: Pictures, prompt: dict[str, Any]) -> None:
    if prompt["kind"] == "qr":
        pictures.show(str(prompt["qr"]))
        presenter.qr(str(prompt["qr"]), float(prompt.get("ttl_s", 20)))
    else:
        presenter.code(str(prompt["code"]), float(prompt.get("ttl_s", 50)))
