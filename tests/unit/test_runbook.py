"""`standfast runbook`: its pages, what is filled in, and which scenario it says fits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from scripts import runbook as made

from standfast.health.document import Health
from standfast.service.runbook.pages import SCENARIOS, Filling, commands_of, document, page, start_page
from standfast.service.runbook.situation import situation
from tests import health_pictures
from tests.cli_support import CommandLine, own_surroundings
from tests.documents import blocks_of

NAMES = [one.name for one in SCENARIOS]
MOST_COLUMNS = 76


@pytest.fixture
def standfast(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[CommandLine]:
    with own_surroundings(monkeypatch, tmp_path):
        yield CommandLine(capsys)


def stands(**sections: dict[str, Any]) -> Health:
    """A picture without findings, in which everything stands but for what is said of its sections."""
    whole = msgspec.structs.replace(health_pictures.full(), findings=[])
    assert whole.vault is not None
    assert whole.sessions is not None
    vault = msgspec.structs.replace(whole.vault, state="online", outage_s=None)
    sessions = msgspec.structs.replace(whole.sessions, troubled=[])
    keys = msgspec.structs.replace(whole.keys, auth_records=12) if whole.keys else None
    whole = msgspec.structs.replace(whole, vault=vault, sessions=sessions, keys=keys, alerts=None)
    changed = {
        name: msgspec.structs.replace(getattr(whole, name), **fields) for name, fields in sections.items()
    }
    return msgspec.structs.replace(whole, **changed)


def troubled(reason: str) -> dict[str, Any]:
    sessions = health_pictures.full().sessions
    assert sessions is not None
    return {"troubled": [msgspec.structs.replace(sessions.troubled[0], reason=reason)]}


def found(code: str, message: str, health: Health) -> Health:
    """The same with a finding."""
    finding = msgspec.structs.replace(health_pictures.full().findings[0], code=code, message=message)
    return msgspec.structs.replace(health, findings=[finding])


def away(message: str) -> Health:
    return found("outage", message, stands(vault={"state": "outage", "outage_s": 9.0}))


def test_the_document_is_made_of_the_pages() -> None:
    """What is read in docs/ and what the command shows are the same words: `python -m scripts.runbook`."""
    assert made.FILE.read_text(encoding="utf-8") == document()


def test_blocks_fit_a_narrow_terminal() -> None:
    """No line of a command or of its output is wider than a terminal of 80 columns shows in a frame."""
    bodies = re.findall(r"^```\w+\n(.*?)^```$", document(), re.MULTILINE | re.DOTALL)
    assert len(bodies) == len(blocks_of(document())) + document().count("# not run: ")
    assert [line for body in bodies for line in body.splitlines() if len(line) > MOST_COLUMNS] == []


@pytest.mark.parametrize("name", NAMES)
def test_each_scenario_says_what_an_operator_needs(name: str) -> None:
    """Symptoms, decision, verification and what comes after; whom to call and how long it takes."""
    text = page(name, Filling())
    for part in ("### Symptoms", "### Decide", "### Verify", "### Afterwards", "Whom to call", "Expected"):
        assert part in text


@pytest.mark.parametrize(
    ("health", "scenario"),
    [
        (away("PostgreSQL has been away for 9 s: nothing accepts connections"), "unreachable"),
        (away("PostgreSQL has been away for 9 s: the database lacks a table, column or function"), "loss"),
        (away("PostgreSQL answers at this address, but it is another database than the one"), "loss"),
        (stands(sessions=troubled("the creds have no public identity key")), "corruption"),
        (
            stands(sessions=troubled("company 'bolt' has no auth state and pairing was not asked for")),
            "deletion",
        ),
        (stands(keys={"auth_records": 11}), "deletion"),
        (found("undecryptable_rising", "12 messages could not be decrypted", stands()), "corruption"),
        (stands(vault={"state": "outage", "detached": True}), "unreachable"),
        (found("service_down", "no service runs", stands()), None),
        (stands(sessions=troubled("connection lost")), None),
        (stands(), None),
        (health_pictures.empty(), None),
    ],
)
def test_what_health_shows_leads_to_its_scenario(health: Health, scenario: str | None) -> None:
    """And to none where none fits: nobody is sent to restore what is not lost."""
    assert situation(health).scenario == scenario


def test_what_is_said_to_be_run_first_changes_nothing_and_is_on_its_page() -> None:
    """A command that is shown before anything was read is one that a test runs, and harmless."""
    for health in (
        away("nothing accepts connections"),
        away("the database lacks a table"),
        stands(sessions=troubled("company 'acme' has no auth state")),
        stands(sessions=troubled("the creds are not valid JSON")),
    ):
        fits = situation(health)
        assert fits.scenario is not None
        known = [command.replace("acme", "bolt") for command in commands_of(fits.scenario)]
        assert set(fits.commands) <= set(known)


def test_a_page_has_this_installations_names(standfast: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Company, directories, contacts; what nobody has measured is said to be so."""
    monkeypatch.setenv("STANDFAST_RUNBOOK_CONTACTS", "On call: acme's Ann <ann@example.org>")
    monkeypatch.setenv("BACKUP_ROOT", "/srv/copies")
    ran = standfast("runbook", "deletion", "--company", "shop")
    assert ran.code == 0
    assert "--company shop --dry-run" in ran.out
    assert "On call: acme's Ann <ann@example.org>" in ran.out
    assert "never measured" in ran.out
    assert "--company acme" not in ran.out
    assert "<!--" not in ran.out
    assert standfast("runbook", "loss", "--json").document["contacts"].startswith("On call")


def test_without_a_name_it_looks_at_what_there_is(standfast: CommandLine) -> None:
    """No service, no database: it says so, and what is safe and what is not stands below."""
    ran = standfast("runbook")
    assert ran.code == 0
    assert "no service has run in" in ran.out
    assert ran.out.index("First, and without any risk") < ran.out.index("Never pair anew")
    assert standfast("runbook", "--json").document["scenario"] is None


def test_it_works_with_malformed_settings(standfast: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has broken the settings in the night reads on, and is told what is wrong with them."""
    monkeypatch.setenv("POSTGRES_PORT", "nonsense")
    assert standfast("runbook", "loss").code == 0
    ran = standfast("runbook")
    assert ran.code == 0
    assert "POSTGRES_PORT" in ran.out
    assert "Never pair anew" in ran.out


def test_an_unknown_scenario_names_those_there_are(standfast: CommandLine) -> None:
    """And changes nothing."""
    ran = standfast("runbook", "fire")
    assert ran.code == 2
    assert all(name in ran.err for name in NAMES)


def test_the_example_is_told_where_no_company_is_known() -> None:
    """Who is given `acme` is told whom it stands for."""
    assert "`acme` stands for your company.\n" in start_page(Filling({"/var/lib/standfast": "/s"}))
    assert "stands for your company" not in start_page(Filling({"acme": "shop"}))
