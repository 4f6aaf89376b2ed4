"""The runbook's pages, which lie beside this module, and how they are filled in.

Invariant: docs/runbook.md is made of them and of nothing else, so that an installed wheel has every word of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib.resources import files
from typing import NamedTuple

from standfast.errors import UsageError

_START = "start"
_MARK = re.compile(
    r"<!-- (contacts|measured (?P<disaster>[a-z-]+)) -->(?P<plain>.*?)<!-- /\w+ -->", re.DOTALL
)
_DOCUMENT = re.compile(r"<!-- document -->.*?<!-- /document -->\n", re.DOTALL)
_EXAMPLE = re.compile(r"<!-- example -->(.*?\n?)<!-- /example -->\n?", re.DOTALL)
_SETUP = re.compile(r"^ *<!-- setup: .* -->\n", re.MULTILINE)
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


EXAMPLE_COMPANY = "acme"


class Scenario(NamedTuple):
    """What may have happened: its name at the command line and its title."""

    name: str
    title: str


SCENARIOS = (
    Scenario("unreachable", "PostgreSQL unreachable"),
    Scenario("corruption", "Corrupted session data"),
    Scenario("deletion", "Accidental deletion"),
    Scenario("loss", "Complete loss of the database"),
)


@dataclass(frozen=True)
class Filling:
    """What stands in the pages' places. `names`: what the pages call `acme`, `/var/lib/standfast` … is called here;
    `measured`: how long it took, by disaster."""

    names: dict[str, str] = field(default_factory=dict)
    contacts: str | None = None
    measured: dict[str, str] = field(default_factory=dict)


def document() -> str:
    """docs/runbook.md."""
    return "\n".join(_source(name) for name in (_START, *(one.name for one in SCENARIOS)))


def start_page(filling: Filling) -> str:
    """The first screen, filled in."""
    return _filled(_source(_START), filling)


def page(name: str, filling: Filling) -> str:
    """A scenario, filled in. `UsageError` where there is none of that name."""
    if name not in [one.name for one in SCENARIOS]:
        known = ", ".join(one.name for one in SCENARIOS)
        raise UsageError(f"there is no scenario {name!r}", next_step=f"Name one of: {known}.")
    return _filled(_source(name), filling)


def commands_of(name: str) -> list[str]:
    """Every command of a scenario that is run by a test, as it stands on the page."""
    blocks = _BLOCK.findall(_source(name))
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def named(text: str, filling: Filling) -> str:
    """`text` with this installation's names."""
    if not filling.names:
        return text
    any_of = "|".join(re.escape(shown) for shown in filling.names)
    return re.sub(rf"(?<![\w/.-])({any_of})(?![\w-])", lambda found: filling.names[found[0]], text)


def _source(name: str) -> str:
    return (files(__package__) / f"{name}.md").read_text(encoding="utf-8")


def _filled(text: str, filling: Filling) -> str:
    def fill(mark: re.Match[str]) -> str:
        disaster = mark["disaster"]
        found = filling.contacts if disaster is None else filling.measured.get(disaster)
        return mark["plain"] if found is None else found

    text = _DOCUMENT.sub("", _SETUP.sub("", text))
    text = _EXAMPLE.sub("" if EXAMPLE_COMPANY in filling.names else r"\1\n", text)
    # Names first: a contact's address is nobody's example.
    return _MARK.sub(fill, named(text, filling))
