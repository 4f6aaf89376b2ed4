"""The desk: what is told, when, and to whom."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standfast.alert import Alert
from standfast.alerts import kinds
from standfast.alerts.desk import AlertDesk
from tests.alerting import DAY_S, Desk
from tests.support import until


def test_a_trouble_is_told_once_and_counted() -> None:
    """Repeated reports of what goes on ring nobody's phone, and are counted."""
    one = Desk()
    for _ in range(30):
        one.report()
        one.seconds(10)
    assert one.kinds() == ["raised"]
    assert len(one.heard) == len(one.logged) == 1
    (trouble,) = one.desk.troubles()
    assert trouble.incident.count == 30


def test_each_channel_is_told_from_its_level_on() -> None:
    """A warning goes to Sentry only; what gets worse goes to Telegram too, at once, within any cooldown."""
    one = Desk()
    one.report(level="warning")
    assert (one.kinds("sentry"), one.kinds("telegram")) == (["raised"], [])
    one.seconds(2)
    one.report(level="critical")
    assert (one.kinds("sentry"), one.kinds("telegram")) == (["raised", "escalated"], ["escalated"])
    assert (one.notes()[0].former_level, one.notes()[0].level) == ("warning", "critical")


def test_what_is_dismissed_is_over_without_a_word() -> None:
    """Nobody is told of it; where its trouble goes on it is told again, once its cooldown is over."""
    one = Desk()
    one.report(company="acme")
    one.report(company="beta")
    assert [incident.company for incident in one.desk.dismiss("pool_usage_high", "acme")] == ["acme"]
    assert one.kinds() == ["raised", "raised"]
    assert [trouble.incident.company for trouble in one.desk.troubles()] == ["beta"]
    assert one.desk.dismiss("pool_usage_high", "acme") == []
    one.report(company="acme")
    assert one.kinds() == ["raised", "raised"]
    one.seconds(kinds.cooldown_s("pool_usage_high") + 2)
    assert one.kinds() == ["raised", "raised", "raised"]


def test_what_gets_better_and_worse_again_is_no_escalation() -> None:
    """Only what is worse than was ever told of this trouble is news."""
    one = Desk()
    for level in ("error", "warning", "error", "warning", "error"):
        one.report(level=level)
    assert one.kinds() == ["raised"]


def test_the_end_is_told_to_those_who_were_told() -> None:
    """One resolved note with its duration; a channel that heard nothing of it hears nothing of its end."""
    one = Desk()
    one.report(level="warning")
    one.seconds(90)
    one.end()
    one.end()
    assert (one.kinds("sentry"), one.kinds("telegram")) == (["raised", "resolved"], [])
    resolved = one.notes("sentry")[1]
    assert (resolved.duration_s, resolved.level, resolved.former_level) == (90.0, "info", "warning")
    assert resolved.ends == ("pool_usage_high",)
    assert not one.desk.troubles()


def test_what_ended_others_has_one_note() -> None:
    """An outage raises several alerts, and its end is one."""
    one = Desk()
    one.report("outage_began")
    one.seconds(60)
    one.report("grace_expired", "critical")
    one.seconds(60)
    one.desk.take(Alert("restored", "info", "it is back", ends=("outage_began", "grace_expired")))
    assert one.kinds() == ["raised", "raised", "resolved"]
    assert (one.notes()[2].name, one.notes()[2].duration_s) == ("restored", 120.0)
    assert one.notes()[2].former_level == "critical"


def test_only_the_same_subject_is_ended() -> None:
    """acme's end is not bolt's."""
    one = Desk()
    one.report(company="acme")
    one.report(company="bolt")
    one.end(company="bolt")
    assert [trouble.incident.company for trouble in one.desk.troubles()] == ["acme"]


def test_an_end_of_nothing_is_told_only_where_it_is_not_quiet() -> None:
    """What may have nothing to end says so; other ends are told as what they are."""
    one = Desk()
    one.end()
    assert not one.heard
    assert not one.logged
    one.desk.take(Alert("restored", "info", "it is back", ends=("outage_began",)))
    assert [(note.kind, note.name) for note in one.heard] == [("raised", "restored")]


def test_occurrences_are_counted_within_their_cooldown() -> None:
    """The next one after it is told with how many there were since."""
    one = Desk()
    for _ in range(7):
        one.report("session_deaf", lasts=False, company="acme")
        one.seconds(60)
    assert one.kinds() == ["raised"]
    one.seconds(kinds.cooldown_s("session_deaf"))
    one.report("session_deaf", lasts=False, company="acme")
    assert one.kinds() == ["raised", "raised"]
    assert one.notes()[1].count == 7


def test_a_worse_occurrence_waits_for_no_cooldown() -> None:
    """`fenced` as a warning, then with writes in quarantine."""
    one = Desk()
    one.report("fenced", "warning", lasts=False)
    one.report("fenced", "critical", lasts=False)
    assert one.kinds("sentry") == ["raised", "escalated"]


def test_flapping_is_held_back_and_not_hidden() -> None:
    """10 s on, 10 s off, for an hour: told and resolved once per cooldown, not 180 times."""
    one = Desk()
    cooldown_s = kinds.cooldown_s("pool_usage_high")
    for _ in range(180):
        one.report()
        one.seconds(10)
        one.end()
        one.seconds(10)
    raised = one.kinds().count("raised")
    assert 3_600 / (cooldown_s + 20) - 1 <= raised <= 3_600 / cooldown_s + 1
    assert one.kinds() == ["raised", "resolved"] * raised


def test_what_came_back_and_stays_is_told_after_the_cooldown() -> None:
    """Held back, but not for ever."""
    one = Desk()
    one.report()
    one.end()
    one.seconds(20)
    one.report()
    assert one.kinds() == ["raised", "resolved"]
    one.seconds(kinds.cooldown_s("pool_usage_high") - 21)
    assert one.kinds() == ["raised", "resolved"]
    one.seconds(2)
    assert one.kinds() == ["raised", "resolved", "raised"]
    assert one.notes()[2].facts["returns"] == 1


def test_what_came_back_worse_is_told_at_once() -> None:
    """The cooldown holds back repetitions, not news."""
    one = Desk()
    one.report(level="error")
    one.end()
    one.report(level="critical")
    assert one.kinds() == ["raised", "resolved", "raised"]


def test_what_is_critical_and_goes_on_is_reminded_of_once_a_day() -> None:
    """Three days: three reminders; what is only an error has none."""
    one = Desk()
    one.report("foreign_database", "critical")
    one.report("pool_usage_high", "error")
    for _ in range(73):
        one.clock.later(3_600)
        one.desk.tick()
    assert one.kinds() == ["raised", "raised", "reminder", "reminder", "reminder"]


def test_a_storm_is_five_notes_and_a_digest() -> None:
    """A thousand companies at once; subscribers of events hear of each."""
    one = Desk()
    for number in range(1_000):
        one.report("session_breaker_open", company=f"c{number}")
    assert one.kinds() == ["raised"] * 5
    one.seconds(61)
    assert one.kinds() == ["raised"] * 5 + ["digest"]
    digest = one.notes()[-1]
    assert (digest.count, digest.of, digest.tags) == (995, "raised", {"component": "health"})
    assert "c5, c6, c7, c8, c9 and 990 others" in digest.message
    assert len(one.heard) == 1_000
    for number in range(1_000):
        one.end("session_breaker_open", company=f"c{number}")
    one.seconds(61)
    assert one.kinds()[6:] == ["resolved"] * 5 + ["digest"]
    assert one.notes()[-1].of == "resolved"


def test_a_storm_that_goes_on_is_one_digest_a_minute() -> None:
    """The first five are told one by one once, not every minute."""
    one = Desk()
    for number in range(180):
        one.report("session_breaker_open", company=f"c{number}")
        one.seconds(1)
    one.seconds(61)
    assert one.kinds() == ["raised"] * 5 + ["digest"] * 3
    assert sum(note.count for note in one.notes()) == 180
    one.seconds(61)
    one.report("session_breaker_open", company="later")
    assert one.kinds()[-1] == "raised"


def test_an_end_in_a_digest_is_told_though_it_flaps_meanwhile() -> None:
    """Who was told of a beginning is told of its end, whatever follows."""
    one = Desk()
    for number in range(6):
        one.report("session_breaker_open", company=f"c{number}")
        one.seconds(61)
    for number in range(6):
        one.end("session_breaker_open", company=f"c{number}")
    one.report("session_breaker_open", company="c5")
    one.end("session_breaker_open", company="c5")
    one.seconds(61)
    assert [note.company for note in one.notes() if note.kind == "resolved"] == [f"c{n}" for n in range(6)]


def test_what_is_over_before_its_digest_is_only_counted() -> None:
    """Nobody is told of an end whose beginning nobody was told of."""
    one = Desk()
    for number in range(20):
        one.report("session_breaker_open", company=f"c{number}")
    for number in range(5, 18):
        one.end("session_breaker_open", company=f"c{number}")
    one.seconds(61)
    assert one.kinds() == ["raised"] * 5 + ["digest"]
    assert (one.notes()[-1].count, one.notes()[-1].facts["over_already"]) == (2, 13)


def test_the_wall_clock_counts_for_nothing() -> None:
    """Set back by a day and forward by a week: cooldowns and durations stay what they are."""
    one = Desk()
    one.report()
    one.clock.wall_s -= DAY_S
    one.seconds(30)
    one.end()
    assert one.notes()[1].duration_s == 30.0
    one.clock.wall_s += 8 * DAY_S
    one.report()
    one.seconds(5)
    assert one.kinds() == ["raised", "resolved"]


def test_facts_of_any_kind_raise_nothing() -> None:
    """Whatever a room puts into its facts, the alert is told."""
    one = Desk()
    one.report("odd", facts={"path": object(), "set": {1, 2}, "nan": float("nan"), "bytes": b"\xff"})
    one.report("huge", facts={"text": "x" * 100_000, "next_step": "Look."})
    assert one.kinds() == ["raised", "raised"]
    assert one.notes()[1].next_step == "Look."
    assert "text" not in one.notes()[1].facts


@pytest.mark.parametrize("lasts", [True, False])
def test_memory_is_given_back(lasts: bool) -> None:
    """What is over is forgotten after its cooldown."""
    one = Desk()
    for number in range(50):
        one.report("session_deaf", company=f"c{number}", lasts=lasts)
        if lasts:
            one.end("session_deaf", company=f"c{number}")
    one.seconds(kinds.cooldown_s("session_deaf") + 1)
    assert not one.desk._troubles


async def test_other_threads_report_through_the_loop() -> None:
    """A report from a thread is handled in the loop's thread."""
    one = Desk()
    threads: list[int] = []
    one.desk = AlertDesk(
        "one", one.clock, one.store, one.told, lambda _note: threads.append(threading.get_ident())
    )
    one.desk.bind()
    await asyncio.to_thread(one.report)
    await until(lambda: bool(threads))
    assert threads == [threading.get_ident()]


STEP = st.tuples(
    st.sampled_from(["report", "end", "occur"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["warning", "error", "critical"]),
    st.integers(0, 120),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=60))
def test_never_more_than_it_says(steps: list[tuple[str, str, str, int]]) -> None:
    """Whatever happens: no two ends without a beginning between them, no end that nobody knows the beginning of, and
    within one cooldown no level of one trouble is told twice."""
    one = Desk()
    for act, company, level, pause_s in steps:
        if act == "report":
            one.report("x", level, company=company)  # type: ignore[arg-type]
        elif act == "occur":
            one.report("y", level, company=company, lasts=False)  # type: ignore[arg-type]
        else:
            one.end("x", company=company)
        one.seconds(pause_s)
    one.seconds(400)
    for company in ("a", "b"):
        mine = [
            (at, note) for at, name, note in one.told.notes if name == "sentry" and note.company == company
        ]
        _check_ends([note.kind for _, note in mine if note.name != "y"])
        for name in ("x", "y"):
            told: dict[str, float] = {}
            for at, note in mine:
                if note.name == name and note.kind in ("raised", "escalated"):
                    assert at - told.get(note.level, -1e9) >= kinds.DEFAULT_COOLDOWN_S
                    told[note.level] = at
    assert {one.incident.company for one in one.desk.troubles()} == _still_open(steps)


def _check_ends(kinds_told: list[str]) -> None:
    is_told = False
    for kind in kinds_told:
        if kind == "resolved":
            assert is_told
        is_told = kind != "resolved"


def _still_open(steps: list[tuple[str, str, str, int]]) -> set[str]:
    still: set[str] = set()
    for act, company, _, _ in steps:
        if act == "report":
            still.add(company)
        elif act == "end":
            still.discard(company)
    return still


CROWD = st.tuples(st.booleans(), st.integers(0, 11), st.sampled_from([0, 0, 0, 1, 61]))


@settings(max_examples=150, deadline=None)
@given(st.lists(CROWD, max_size=80))
def test_never_less_than_it_says(steps: list[tuple[bool, int, int]]) -> None:
    """In a storm too, whoever is to be told knows of everything that goes on, once the cooldowns are over, and of the
    end of everything that he was told of."""
    one = Desk()
    for number in range(12):
        one.report("x", company=f"c{number}")
    for begins, number, pause_s in steps:
        if begins:
            one.report("x", company=f"c{number}")
        else:
            one.end("x", company=f"c{number}")
        one.seconds(pause_s)
    one.seconds(400)
    known: set[str] = set()
    for note in one.notes():
        whom = set(note.facts["subjects"]) if note.kind == "digest" else {str(note.company)}
        known = known - whom if "resolved" in (note.kind, note.of) else known | whom
    assert known == {trouble.incident.company for trouble in one.desk.troubles()}
