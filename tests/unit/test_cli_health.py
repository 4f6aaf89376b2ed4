"""The picture of `standfast health`: what it says, and that it fits."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]  # comes with schemathesis
import pytest
from rich.cells import cell_len
from rich.console import Console
from scripts import health_schema

from standfast.cli.health_figures import ASCII, Levels, ago, milliseconds, percent, spark
from standfast.cli.health_view import HealthView
from standfast.health.document import Finding, Health, as_wire
from tests.health_pictures import NOW, empty, full

FINDING = Finding(
    code="service_down", section="sessions", level="critical", message="no service", recommendation="start it"
)


def drawn(
    health: Health,
    columns: int,
    *,
    encoding: str = "utf-8",
    colour: bool = False,
    verbose: bool = False,
    brief: bool = False,
) -> list[str]:
    """The lines, as they go to a terminal or, without colour, to a pipe."""
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding=encoding, errors="replace", newline="") as out:
        console = Console(
            file=out,
            width=columns,
            highlight=False,
            markup=False,
            force_terminal=colour,
            color_system="standard" if colour else None,
        )
        console.print(HealthView(health, NOW, verbose=verbose, brief=brief))
        out.flush()
        return raw.getvalue().decode(encoding).splitlines()


@pytest.mark.parametrize("columns", [20, 40, 80, 109, 110, 120, 200])
@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("health", [full(), empty(), empty(FINDING)], ids=["full", "empty", "finding"])
def test_no_line_is_wider_than_the_terminal(health: Health, verbose: bool, columns: int) -> None:
    """Whatever its width, whatever there is to show."""
    lines = drawn(health, columns, verbose=verbose)
    assert max(cell_len(line) for line in lines) <= columns


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_verdict_and_what_to_do_come_first(columns: int) -> None:
    """The badge in the first line, then each finding with its step, the worst first, then the sections."""
    text = " ".join(" ".join(drawn(full(), columns)).split())
    assert drawn(full(), columns)[0].startswith(" ✗ CRITICAL ")
    assert "2 things to act on now, 1 warning." in text
    places = [
        text.index(part)
        for part in (
            "PostgreSQL has been away for 3 m 20 s",
            "→ Start PostgreSQL",
            "8 calls wait",
            "→ Raise POSTGRES_MAX_CONNECTIONS",
            "139 keys were not",
            "→ standfast cleanup",
            "Connection pool",
        )
    ]
    assert places == sorted(places)


def test_every_section_shows_its_figures() -> None:
    """In units that people read, at 80 columns."""
    text = "\n".join(line.rstrip() for line in drawn(full(), 80))
    for figure in (
        "node alpha · standfast 0.1.0 · up 2 h 05 m",
        "████████████████████ 100 % ✗ · 10 of 10, limit 80 %",
        "average 31 % · peak 100 % (10 active, 9 waiting)",
        "P50 0.80 ms · P95 9.1 ms · P99 48 ms · max 1.2 s",
        "99.9 %",
        "2 above 500 ms in 5 minutes",
        "about 1,650,000 keys of 1,000 companies",
        "139 to clean up, older than 30 days !",
        "+1,240 keys a day · -3.4 MB a day",
        "11 of 12 open",
        "10 ok, 1 quiet, 1 down, 2 stopped",
        "120 batches (34.0 kB) wait here · the oldest for 3 m 19 s",
        "1 m 35 s of 5 m 00 s left to reconnect in",
        "2 h 46 m ago · 123 MB · 7 kept",
        "disk 120 GB free of 200 GB",
        "1 alert open: outage began (3 m 20 s)",
        "sentry fails, 3 waiting !",
    ):
        assert figure in text, figure


def test_what_was_not_measured_is_not_well() -> None:
    """A section without figures says so, and is no green one."""
    lines = drawn(empty(FINDING), 80)
    assert "? Keys not measured" in lines
    assert "i Connection pool only a service knows" in lines
    assert "✗ Session health only a service knows" in lines


def test_wide_terminals_get_two_columns_and_small_ones_the_main_rows() -> None:
    """At 120 columns two sections stand beside each other; brief leaves rows out, and no section."""
    assert any("Connection pool" in line and "Session health" in line for line in drawn(full(), 120))
    whole, brief = drawn(full(), 80), drawn(full(), 80, brief=True)
    assert len(brief) < len(whole) - 15
    for title in ("Connection pool", "Query performance", "Keys", "Session health", "Vault", "Backups"):
        assert any(title in line for line in brief)


def test_verbose_adds_what_is_behind_the_figures() -> None:
    """Snapshots, statements, sessions: newest first, and no empty table."""
    text = "\n".join(drawn(full(), 120, verbose=True))
    for part in (
        "Pool snapshots",
        "replication.apply",
        "timeout",
        "pre-key",
        "bolt",
        "connection lost. wait",
    ):
        assert part in text, part
    assert "Slow statements" not in "\n".join(drawn(empty(), 120, verbose=True))


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_a_pipe_gets_plain_text(columns: int) -> None:
    """No escape codes; a terminal has them."""
    assert "\x1b" not in "".join(drawn(full(), columns))
    assert "\x1b[" in "".join(drawn(full(), columns, colour=True))


def test_without_utf8_every_mark_is_ascii() -> None:
    """Bars, rules, arrows and symbols; the words of findings may hold more, and are replaced."""
    text = "\n".join(drawn(full(), 80, encoding="ascii", verbose=True))
    assert " x CRITICAL " in text
    assert "-> standfast cleanup" in text
    assert "#" * 20 in text
    assert "?" not in text.replace("? unknown", "")


def test_a_colour_is_never_alone() -> None:
    """Whoever sees no colours sees the same in symbols: each level has one of its own, or shares its word."""
    text = "\n".join(drawn(full(), 80))
    assert re.search(r"✗ critical .*✗ error .*! warning .*i info", text, re.DOTALL)
    assert "8 waiting ✗" in text


def test_levels_come_from_findings() -> None:
    """The worst counts; what nobody found is well."""
    levels = Levels(full().findings)
    assert levels.section("vault") == "critical"
    assert levels.of("expired_keys", "pool_exhausted") == "error"
    assert levels.of("slow_queries") == "ok"


def test_figures_do_not_lie_by_rounding() -> None:
    """Nearly all is not all, hardly any is not none."""
    assert [percent(share) for share in (1.0, 0.99999, 0.5, 0.00001, 0.0, None)] == [
        "100 %",
        "99.9 %",
        "50 %",
        "0.1 %",
        "0 %",
        "-",
    ]
    assert [milliseconds(value) for value in (0.421, 9.12, 48, 1_230, 61_000, None)] == [
        "0.42 ms",
        "9.1 ms",
        "48 ms",
        "1.2 s",
        "1 m 01 s",
        "-",
    ]
    assert spark([0, 1, 1_000], ASCII)[0] != spark([0, 1, 1_000], ASCII)[1]
    assert (ago(NOW - 61, NOW), ago(NOW + 5, NOW), ago(None)) == ("1 m 01 s ago", "now", "never")


def test_the_schema_is_that_of_the_document() -> None:
    """docs/health.schema.json is what scripts/health_schema.py writes: run it after a change of the document."""
    assert Path(health_schema.FILE).read_text() == health_schema.text(), (
        "run: python scripts/health_schema.py"
    )


@pytest.mark.parametrize("health", [full(), empty(FINDING)], ids=["full", "empty"])
def test_documents_are_as_the_schema_says(health: Health) -> None:
    """What --json prints passes; what lacks a verdict does not."""
    schema = json.loads(health_schema.text())
    document = json.loads(json.dumps(as_wire(health)))
    jsonschema.validate(document, schema)
    del document["verdict"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)
