"""How commands ask a running service about one company, and a person before something is lost.

Invariant: nobody is asked where nobody can answer: without a terminal, or with `--json`, a command that needs a
confirmation ends with an error that names `--yes`.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from standfast.errors import CompanyUnknown, StandfastError
from standfast.service.client import Client, connect

T = TypeVar("T")
CompanyArgument = Annotated[str, typer.Argument(help="Company id: 1 to 50 letters, digits, '-' or '_'.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


async def asked(ask: Callable[[Client], Awaitable[T]], company: str | None = None) -> T:
    """What the service answers; where it does not know `company`, the error names one that is written alike."""
    async with connect() as client:
        try:
            return await ask(client)
        except CompanyUnknown as error:
            if company is not None:
                await _point_at_alike(client, company, error)
            raise


async def _point_at_alike(client: Client, company: str, error: CompanyUnknown) -> None:
    try:
        known = [session.company for session in await client.sessions()]
    except StandfastError:
        return
    by_lower = {one.lower(): one for one in known}
    alike = difflib.get_close_matches(company.lower(), by_lower, n=1)
    if alike:
        error.next_step = (
            f"Did you mean {by_lower[alike[0]]!r}? 'standfast sessions' lists the companies there are."
        )


def can_ask(*, as_json: bool) -> bool:
    """Whether a person is there to answer."""
    return not as_json and sys.stdin.isatty() and sys.stderr.isatty()


def confirmed(question: str) -> bool:
    """A person's yes; the question goes to stderr."""
    return typer.confirm(question, err=True)
