"""How notes read."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standfast.alerts.channels.answers import MAX_WAIT_S, seconds_of
from standfast.alerts.channels.services import addresses, secrets_of
from standfast.alerts.channels.shown import clean, facts_of, shorten, tags_of
from standfast.alerts.channels.wording import Markup, body, duration, length, title, whole
from tests.outlet import NASTY, PHONE, SECRETS, note

MARKUPS: tuple[Markup, ...] = get_args(Markup)


class Strict(HTMLParser):
    """Fails at a tag that is not opened, closed, or known to Telegram."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=False)
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag in ("b", "code")
        assert not attrs
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        assert "<" not in data
        assert "&" not in data
        self.text += data

    def handle_entityref(self, name: str) -> None:
        self.text += {"amp": "&", "lt": "<", "gt": ">"}[name]


@pytest.mark.parametrize("markup", MARKUPS)
def test_it_says_what_since_when_how_bad_whom_and_what_to_do(markup: Markup) -> None:
    """A note tells what happened, since when, how bad it is, who is concerned and which command helps."""
    text = whole(note(company="acme"), markup, 4_096)
    for part in (
        "Error: PostgreSQL is away",
        "2026-01-01 00:00:00 UTC",
        "3 min 12 s",
        "acme",
        "n1",
        "What to do",
    ):
        assert part in text
    assert "standfast config" in text


def test_whom_it_concerns_may_be_no_company() -> None:
    """A webhook, or a disk, is named; what only groups alerts is not."""
    text = whole(note(tags={"component": "webhooks", "webhook": "bot"}), "text", 4_096)
    assert "Concerns: webhook bot\n" in text
    assert "Concerns" not in whole(note(), "text", 4_096)


def test_figures_have_their_units() -> None:
    """A fact's unit, which its name has, stands behind its figure."""
    facts = {
        "age_s": 301.4,
        "limit_s": 1.5,
        "longest_ms": 1200,
        "free_bytes": 3_000_000,
        "batches": 3,
        "late": True,
    }
    text = whole(note(facts=facts), "text", 4_096)
    said = "Age: 5 min 1 s\nLimit: 1.5 s\nLongest: 1,200 ms\nFree: 3,000,000 bytes\nBatches: 3\nLate: yes\n"
    assert said in text


def test_telegram_gets_the_command_as_code() -> None:
    """A command in quotes becomes code, which a touch copies."""
    assert "<code>standfast config</code>" in whole(note(), "telegram", 4_096)
    step = "Raise the server's limit: 'ulimit -n 65536', and it's done."
    shown = whole(note(next_step=step), "telegram", 4_096)
    assert "the server's limit: <code>ulimit -n 65536</code>, and it's" in shown


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"kind": "resolved", "level": "info", "duration_s": 192.0}, "🟢 Resolved after 3 min 12 s: "),
        ({"kind": "resolved", "level": "info"}, "🟢 Resolved: "),
        ({"kind": "escalated", "level": "critical", "former_level": "error"}, "🔴 Critical, was error: "),
        ({"kind": "reminder"}, "🟠 Error, still going on: "),
        ({"kind": "digest", "level": "warning"}, "🟡 Warning, several at once: "),
        ({"kind": "test", "level": "info"}, "🔵 Test: "),
        ({}, "🟠 Error: "),
    ],
)
def test_the_title_says_the_kind_of_note(changes: dict[str, Any], expected: str) -> None:
    """New, worse, still there, over, several and test are told apart by the title alone."""
    assert title(note(**changes)).startswith(expected)


def test_what_is_over_needs_nothing_done() -> None:
    """A resolved note says from when to when, and asks for nothing."""
    text = whole(note(kind="resolved", level="info", next_step=None, duration_s=192.0), "text", 4_096)
    assert "From: 2026-01-01 00:00:00 UTC to 2026-01-01 00:03:12 UTC" in text
    assert "What to do" not in text


def test_trouble_without_a_next_step_names_where_to_look() -> None:
    """Nobody is told of trouble without being told what to do."""
    assert "'standfast health'" in whole(note(next_step=None), "text", 4_096)


@pytest.mark.parametrize("markup", MARKUPS)
def test_no_secret_leaves(markup: Markup) -> None:
    """Passwords, tokens and phone numbers are masked wherever they stand in a note."""
    told = note(
        message=NASTY,
        next_step=NASTY,
        name="x",
        facts={"error": NASTY, "password": "T0PSECRET", "nested": {"list": [NASTY]}, "phone": PHONE},
        tags={"holder": NASTY},
    )
    for text in (whole(told, markup, 20_000), body(told, markup, 500), title(told)):
        assert not [secret for secret in SECRETS if secret in text]
    assert not [secret for secret in SECRETS if secret in str((facts_of(told), tags_of(told)))]
    assert "postgresql://bot:********@" in whole(told, "text", 20_000)


def test_a_split_number_is_masked_too() -> None:
    """Characters without width do not hide a phone number from redaction."""
    assert clean(f"{PHONE[:5]}\u200b\u2066{PHONE[5:]}") == "…"


def test_a_company_is_shown_as_it_is_called() -> None:
    """A company's id is its operator's word for it, and is shown whatever it looks like."""
    told = note(company=PHONE, tags={"company_id": PHONE})
    assert f"Company: {PHONE}" in whole(told, "text", 4_096)
    assert tags_of(told)["company_id"] == PHONE


def test_an_error_code_is_no_pairing_code() -> None:
    """The code of an error is shown, one that may be a pairing code is not."""
    assert facts_of(note())["code"] == "database_unavailable"
    assert facts_of(note(facts={"code": "ABCD-1234"}))["code"] != "ABCD-1234"


def test_no_text_turns_the_direction_of_what_follows() -> None:
    """Overrides of direction and control characters go; text from right to left, emoji and joiners stay."""
    assert clean("a\u202eb\x00c\x1b[31m\u200f") == "ab c [31m"
    assert clean("שלום 👩\u200d👩\u200d👧 مرحبا") == "שלום 👩\u200d👩\u200d👧 مرحبا"


ANY_TEXT = st.text(max_size=300) | st.sampled_from(
    [NASTY, "<&>" * 3_000, "👩\u200d👧e\u0301" * 2_000, "\ud800", "`*_"]
)


@settings(max_examples=40)
@given(ANY_TEXT, ANY_TEXT, st.integers(20, 4_096))
def test_html_is_whole_and_within_the_limit(message: str, fact: str, limit: int) -> None:
    """Whatever a note says, what goes to Telegram is well-formed HTML and not longer than allowed."""
    text = whole(note(message=message, next_step=fact, facts={"x": fact}), "telegram", limit)
    assert length(text) <= limit
    Strict(text)
    assert text.encode()


@settings(max_examples=40)
@given(ANY_TEXT, st.integers(20, 2_000), st.sampled_from(MARKUPS))
def test_every_markup_keeps_its_limit(message: str, limit: int, markup: Markup) -> None:
    """A service that takes little gets little, in every markup."""
    assert length(body(note(message=message), markup, limit)) <= limit


def test_what_to_do_is_the_last_to_go() -> None:
    """In the 160 characters of a short message there is still what to do."""
    text = whole(note(message="PostgreSQL is away " * 500), "text", 160)
    assert "What to do: Check that PostgreSQL runs: 'standfast config'." in text
    assert text.startswith("🟠 Error: PostgreSQL is away")


def test_a_cut_does_not_split_what_is_read_as_one() -> None:
    """An emoji of several characters and a letter with its accent are kept or left out as one."""
    assert shorten("ab 👩\u200d👩\u200d👧", 6) == "ab…"
    assert shorten("cafe\u0301s", 5) == "caf…"


def test_a_huge_text_is_worded_at_once() -> None:
    """10 kB that look like secrets all over take no time that a loop would feel."""
    huge = "https://a:b" * 900 + "+7 999 " * 200 + "@" * 500
    started = time.perf_counter()
    assert length(whole(note(message=huge, facts={"a": huge, "b": huge}), "telegram", 4_096)) <= 4_096
    assert time.perf_counter() - started < 1.0


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-5, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (192, "3 min 12 s"),
        (7_500, "2 h 5 min"),
        (356_400, "4 d 3 h"),
    ],
)
def test_durations_are_read_at_a_glance(seconds: float, expected: str) -> None:
    """Two units at most."""
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("urls", "expected"),
    [
        ("ntfy://a/b slack://c/d\n json://e", ["ntfy://a/b", "slack://c/d", "json://e"]),
        ("ntfy://a/b,slack://c, json://e,", ["ntfy://a/b", "slack://c", "json://e"]),
        ("mailto://u:p@h?to=a@x.example,b@x.example", ["mailto://u:p@h?to=a@x.example,b@x.example"]),
        ("", []),
        (" , \n", []),
    ],
)
def test_urls_may_hold_commas(urls: str, expected: list[str]) -> None:
    """White space separates URLs, and a comma before the next one; a comma within one is its own."""
    assert addresses(urls) == expected


def test_pieces_of_an_address_are_its_secrets() -> None:
    """Tokens and passwords are known as such, also where they are percent-encoded."""
    assert {"MADEUPKEY", "top%2Fsecret1", "secret1"} <= secrets_of("slack://MADEUPKEY/top%2Fsecret1")


@pytest.mark.parametrize(
    ("header", "expected"),
    [("17", 17.0), ("-3", 0.0), ("1e12", MAX_WAIT_S), ("soon", None), ("nan", None), (None, None)],
)
def test_a_wait_is_bounded(header: str | None, expected: float | None) -> None:
    """Nobody keeps a channel silent for more than an hour, and nonsense is no wait."""
    assert seconds_of(header) == expected


def test_a_wait_may_be_a_date() -> None:
    """HTTP knows dates for it too; one that has passed is no wait."""
    assert seconds_of("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    soon = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    assert 25 < (seconds_of(soon) or 0) <= 31


def test_titles_are_one_line() -> None:
    """A message of several lines has a title of one."""
    assert not re.search(r"[\r\n]", title(note(message="a\nb\r\nc")))
