"""What becomes of each finding."""

from __future__ import annotations

import pytest

from standfast.jobs.verify.finding import Compared, Finding, Places, Source, VerifyReport, merged
from standfast.jobs.verify.kinds import KINDS
from standfast.jobs.verify.plan import Action, Preferred, Wish, plan


def report(kind: str, *where: Source, newer: str | None = "same") -> VerifyReport:
    places = Places()
    places.add(kind, "session", "79990000001.0")
    found: list[Finding] = [one for source in where for one in places.findings("acme", source)]
    compared = [Compared("acme", newer)] if newer else []  # type: ignore[arg-type]
    return VerifyReport({}, 0, 0.0, merged(found), compared)


@pytest.mark.parametrize(
    ("kind", "where", "newer", "prefer", "action"),
    [
        ("session-damaged", ("postgresql", "replica"), "same", None, "remove"),
        ("session-damaged", ("postgresql",), None, None, "remove"),  # there is no replica
        ("session-damaged", ("postgresql",), "postgresql", None, "remove"),  # an old one
        ("session-damaged", ("postgresql",), "same", None, "none"),
        ("session-damaged", ("postgresql",), "same", "replica", "push"),
        ("session-damaged", ("postgresql",), "same", "postgresql", "none"),
        ("creds-damaged", ("postgresql",), "same", "replica", "push"),
        ("creds-damaged", ("postgresql",), "replica", "replica", "push"),
        ("creds-damaged", ("postgresql", "replica"), "same", "replica", "none"),
        ("session-damaged", ("replica",), "same", "postgresql", "renew"),
        ("session-damaged", ("replica",), "same", "replica", "none"),
        ("session-damaged", ("replica",), "replica", "postgresql", "none"),  # it has what PostgreSQL lacks
        ("session-damaged", ("replica",), "postgresql", "postgresql", "none"),
        ("session-damaged", ("files",), None, None, "none"),
        ("differs", ("replica",), "same", None, "none"),
        ("differs", ("replica",), "same", "replica", "push"),
        ("differs", ("replica",), "same", "postgresql", "renew"),
        ("behind", ("replica",), "postgresql", "postgresql", "none"),
        ("lid-mapping-half", ("postgresql", "replica"), "same", None, "complete"),
    ],
)
def test_what_may_be_done(
    kind: str, where: tuple[Source, ...], newer: str | None, prefer: Preferred | None, action: Action
) -> None:
    """Removed is what both have; where one side is whole, whose state stands is for a person to say; what nothing is
    done about has a next step."""
    (planned,) = plan(report(kind, *where, newer=newer), Wish(prefer=prefer))
    assert planned.action == action
    assert planned.why


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].level != "info"])
def test_what_must_not_be_touched_is_not(kind: str) -> None:
    """Creds, identities, app-state keys and device lists stay, whatever is wished."""
    (planned,) = plan(report(kind, "postgresql", "replica"), Wish())
    if kind.startswith(("creds", "identity-key", "app-state-sync-key", "device-list")):
        assert planned.action == "none"


def test_only_what_was_asked_for_is_planned() -> None:
    """Infos never; with ids, these alone."""
    found = report("session-damaged", "postgresql", "replica")
    assert plan(report("old-form", "postgresql"), Wish()) == []
    assert plan(found, Wish(findings=["00000000"])) == []
    assert len(plan(found, Wish(findings=[found.findings[0].id]))) == 1
