"""What docs/alerts.md says is so."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from standfast.alerts.channel import LEVELS
from standfast.alerts.channels.services import addresses, service_of
from standfast.health.monitor import CLEAR_S
from tests.sources import SOURCE, parsed

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "alerts.md").read_text()
_RAISERS = {"Alert", "_alert"}


def raisings() -> Iterator[tuple[str, str, str]]:
    """Every name that the sources raise an alert under, with its level and its function as they are written there."""
    for path in SOURCE.rglob("*.py"):
        for function in ast.walk(parsed(path)):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for name, level in raised_in(function):
                    yield name, level, ast.unparse(function)


def raised_in(function: ast.AST) -> Iterator[tuple[str, str]]:
    for call in ast.walk(function):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in _RAISERS:
            constant = [i for i, given in enumerate(call.args) if isinstance(given, ast.Constant)]
            name = ast.literal_eval(call.args[constant[0]]) if constant else ""
            if re.fullmatch(r"[a-z_]+", name) and name not in LEVELS:
                yield name, ast.unparse(call.args[constant[0] + 1]).strip("'")


def rows() -> dict[str, list[str]]:
    """The cells of each row that begins with names, by each of them."""
    found = {}
    for row in re.findall(r"^\| (`[a-z_`, ]+`) \|(.*)\|$", DOCS, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", row[0]):
            found[name] = [cell.strip() for cell in row[1].split(" | ")]
    return found


def test_every_alert_is_explained() -> None:
    """Whoever is told of trouble finds its name in the docs, with its level, its meaning and its mend."""
    names = {name: level for name, level, _ in raisings() if level != "info"}
    assert len(names) > 25
    assert sorted((set(names) | set(CLEAR_S)) - set(rows())) == []
    wrong = [
        name
        for name, level in names.items()
        if level in ("warning", "error", "critical") and level not in rows()[name][0]
    ]
    assert wrong == []


def test_every_alert_says_what_to_do() -> None:
    """Nobody is woken without being told the next step."""
    silent = [name for name, level, text in raisings() if level != "info" and "next_step" not in text]
    assert silent == []


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
def test_the_examples_are_urls_that_apprise_takes() -> None:
    """What is copied from the docs works."""
    examples = re.findall(r'^STANDFAST_NOTIFY_URLS="([^"]+)"$', DOCS, re.MULTILINE)
    urls = [url for example in examples for url in addresses(example)]
    assert len(urls) >= 6
    for url in urls:
        assert len(service_of(url, url)) >= 1
    assert len(service_of(urls[0], "mail").targets) == 2
