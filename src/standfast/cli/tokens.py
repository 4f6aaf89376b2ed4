"""`standfast tokens`: who may use the HTTP API. Works with and without a running service, which notices at once.

Thin: `standfast.api.token_file` decides.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from standfast.api.token_file import Token, TokenFile
from standfast.cli.context import current_settings
from standfast.cli.output import JsonOption, console, print_json
from standfast.errors import UsageError
from standfast.state_dir import StateDirectory

_UNITS_S = {"m": 60.0, "h": 3_600.0, "d": 86_400.0}
_LIFETIME = re.compile(r"([1-9]\d{0,5})([mhd])")
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What the token is called.")]

app = typer.Typer(
    name="tokens",
    help="Bearer tokens of the HTTP API: create, list, revoke.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(parent: typer.Typer) -> None:
    """Add the group of commands."""
    parent.add_typer(app)


@app.command()
def create(
    name: NameArgument,
    scope: Annotated[list[str], typer.Option(help="read, send or admin (everything); may be given again.")],
    company: Annotated[
        list[str] | None, typer.Option(help="Only this company; may be given again. Default: all of them.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="For how long, such as 12h or 90d. Default: for ever.")
    ] = None,
    given: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FILE", help="The token's text is in this file; replaces one of that name."
        ),
    ] = None,
    *,
    json: JsonOption = False,
) -> None:
    """Make a token and show it, this once."""
    lifetime_s = None if expires is None else _lifetime_s(expires)
    if given is not None:
        _, token = _file().create(name, scope, company or (), lifetime_s, given=_text_of(given))
        shown = token.as_shown(time.time())
        print_json(shown) if json else console().print(f"{name} is the token of {given}.", soft_wrap=True)
        return
    text, token = _file().create(name, scope, company or (), lifetime_s)
    if json:
        print_json({"token": text, **token.as_shown(time.time())})
        return
    out = console()
    out.print(text)
    out.print("It is shown only now. Send it as: Authorization: Bearer TOKEN", style="dim")


@app.command("list")
def list_(*, json: JsonOption = False) -> None:
    """List the tokens: what each may do, and until when."""
    tokens, now = _file().tokens(), time.time()
    if json:
        print_json([token.as_shown(now) for token in tokens])
    elif not tokens:
        console().print("No token yet; make one: standfast tokens create NAME --scope read")
    else:
        console().print(_table(tokens, now))


@app.command()
def revoke(name: NameArgument) -> None:
    """Make a token worthless from now on."""
    token = _file().revoke(name)
    console().print(f"{token.name} is revoked.")


def _table(tokens: list[Token], now: float) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("name", "scopes", "companies", "made", "expires"):
        table.add_column(column)
    for token in tokens:
        ends = "never" if token.expires_at is None else _when(token.expires_at)
        table.add_row(
            token.name,
            ", ".join(token.scopes),
            "all" if token.companies is None else ", ".join(token.companies),
            _when(token.created_at),
            f"{ends} (over)" if token.expired(now) else ends,
        )
    return table


def _file() -> TokenFile:
    state = StateDirectory(current_settings().state_dir)
    state.prepare()
    return TokenFile(state.path)


def _text_of(file: Path) -> str:
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(
            f"{file} cannot be read: {why}", next_step="Name a file that holds the token."
        ) from error


def _lifetime_s(text: str) -> float:
    found = _LIFETIME.fullmatch(text)
    if found is None:
        raise UsageError(
            f"{text[:20]!r} is not a time", next_step="Write a number and a unit: 30m, 12h or 90d."
        )
    return int(found[1]) * _UNITS_S[found[2]]


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
