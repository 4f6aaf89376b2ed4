"""Parts of the HTTP API without HTTP: who is admitted, verdicts, problems, lists of messages, names of old bots."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from standfast.api.bodies import SendBody, decode
from standfast.api.guard import FAILURES_A_WINDOW, Asked, Guard, is_loopback
from standfast.api.legacy_names import read_reaction, read_send
from standfast.api.listing import Cursor
from standfast.api.problems import STATUS, HttpProblem, document, headers, status_of
from standfast.api.token_file import TokenFile
from standfast.api.verdicts import health, session_health
from standfast.errors import (
    BY_CODE,
    Forbidden,
    SessionNotOpen,
    SettingsError,
    TooManyRequests,
    Unauthorized,
    UsageError,
)

SESSION: dict[str, Any] = {"company": "acme", "state": "open", "wanted": True, "last_message_age_s": None}
ASKED = Asked("GET", "/sessions", "127.0.0.1", host="127.0.0.1:3003")


def test_every_error_has_a_status() -> None:
    """A new error class is given its place in the table."""
    assert set(BY_CODE) <= set(STATUS)


def test_a_problem_says_what_an_error_says() -> None:
    """RFC 9457's members, ours, and when to come back."""
    error = SessionNotOpen("the session of company 'acme' is closed", next_step="Wait.", state="closed")
    problem = document(error)
    assert problem["status"] == status_of(error) == 409
    assert (problem["code"], problem["detail"]) == ("session_not_open", error.message)
    assert (problem["next_step"], problem["retryable"]) == ("Wait.", True)
    assert problem["facts"] == {"state": "closed"}
    assert headers(error) == {"Retry-After": "5"}


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
    ],
)
def test_loopback_addresses(host: str, is_it: bool) -> None:
    """Only what cannot be another machine's."""
    assert is_loopback(host) is is_it


class TestGuard:
    @pytest.fixture
    def tokens(self, tmp_path: Path) -> TokenFile:
        return TokenFile(tmp_path)

    def test_without_a_token_loopback_is_open(self, tokens: TokenFile) -> None:
        """Everything is allowed; the address of a page that was made to mean 127.0.0.1 is not."""
        guard = Guard(tokens, "127.0.0.1")
        guard.check_start()
        guard.admit(ASKED).need("admin", "acme")
        for host in ("evil.example", "evil.example:3003", "127.0.0.1@evil.example", "192.168.0.9:3003"):
            with pytest.raises(HttpProblem) as refused:
                guard.admit(replace(ASKED, host=host))
            assert status_of(refused.value) == 421

    def test_another_address_needs_a_token_first(self, tokens: TokenFile) -> None:
        """The service does not even start without one, and says how to make it."""
        with pytest.raises(SettingsError, match="can be reached from other machines"):
            Guard(tokens, "0.0.0.0").check_start()
        with pytest.raises(Unauthorized):
            Guard(tokens, "0.0.0.0").admit(ASKED)
        tokens.create("boss", ["admin"])
        Guard(tokens, "0.0.0.0").check_start()

    def test_once_a_token_exists_it_is_needed(self, tokens: TokenFile) -> None:
        """On loopback too; not where a supervisor asks whether the service lives."""
        guard = Guard(tokens, "127.0.0.1")
        text, _ = tokens.create("reader", ["read"], ["acme"])
        with pytest.raises(Unauthorized) as missing:
            guard.admit(ASKED)
        assert headers(missing.value)["WWW-Authenticate"] == 'Bearer realm="standfast"'
        guard.admit(replace(ASKED, path="/health/live"))
        caller = guard.admit(replace(ASKED, authorization=f"bearer  {text}", host="api.example"))
        caller.need("read", "acme")
        for scope, company in (("send", "acme"), ("read", "bolt")):
            with pytest.raises(Forbidden):
                caller.need(scope, company)  # type: ignore[arg-type]
        with pytest.raises(Forbidden):
            caller.need_all("read")

    def test_wrong_and_expired_tokens(self, tokens: TokenFile) -> None:
        """Refused, telling which of the two; guessing is slowed down, and a right token is let in all the same."""
        guard = Guard(tokens, "127.0.0.1")
        good, _ = tokens.create("good", ["read"])
        old, _ = tokens.create("old", ["read"], lifetime_s=-1)
        with pytest.raises(Unauthorized, match="'old' has expired"):
            guard.admit(replace(ASKED, authorization=f"Bearer {old}"))
        for _ in range(FAILURES_A_WINDOW - 1):
            with pytest.raises(Unauthorized, match="not known") as refused:
                guard.admit(replace(ASKED, authorization="Bearer sf_guess"))
        assert 'error="invalid_token"' in headers(refused.value)["WWW-Authenticate"]
        with pytest.raises(TooManyRequests):
            guard.admit(replace(ASKED, authorization="Bearer sf_guess"))
        guard.admit(replace(ASKED, authorization=f"Bearer {good}"))
        with pytest.raises(Unauthorized):
            guard.admit(replace(ASKED, client="127.0.0.2", authorization="Bearer sf_guess"))

    @pytest.mark.parametrize(
        "more",
        [
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"origin": "http://127.0.0.1:9999"},
            {"fetch_site": "cross-site"},
            {"fetch_site": "same-site"},
        ],
    )
    def test_pages_of_other_sites_change_nothing(self, tokens: TokenFile, more: dict[str, str]) -> None:
        """Whatever a browser can be made to post is refused; the service's own pages are not."""
        guard = Guard(tokens, "127.0.0.1")
        post = replace(ASKED, method="POST")
        with pytest.raises(Forbidden):
            guard.admit(replace(post, **more))
        guard.admit(post)
        guard.admit(replace(post, origin="http://127.0.0.1:3003", fetch_site="same-origin"))


@pytest.mark.parametrize(
    ("more", "verdict", "judged_by"),
    [
        ({}, "ok", "state"),
        ({"last_frame_age_s": 3.0}, "ok", "traffic"),
        ({"last_frame_age_s": 400.0}, "quiet", "traffic"),
        ({"state": "closed"}, "down", "state"),
        ({"state": "closed", "wanted": False}, "stopped", "state"),
        ({"state": "qr"}, "pairing", "state"),
        ({"state": "replaced"}, "down", "state"),
    ],
)
def test_a_session_is_judged_by_its_traffic(more: dict[str, Any], verdict: str, judged_by: str) -> None:
    """`open` alone is not enough where it is known when something was heard last."""
    found = session_health({**SESSION, **more})
    assert (found.verdict, found.judged_by) == (verdict, judged_by)


@pytest.mark.parametrize(
    ("sessions", "more", "expected"),
    [
        ([{}], {}, "ok"),
        ([], {}, "ok"),
        ([{}, {"state": "closed"}], {}, "degraded"),
        ([{"state": "closed"}], {}, "down"),
        ([{"state": "closed", "wanted": False}], {}, "ok"),
        ([{}], {"database": {"state": "unavailable"}}, "degraded"),
        ([{}], {"vault": {"state": "outage"}}, "degraded"),
        ([{}], {"host": {"ready": False}}, "down"),
    ],
)
def test_the_service_is_judged_by_what_it_can_do(
    sessions: list[dict[str, Any]], more: dict[str, Any], expected: str
) -> None:
    """`down` is where nothing can be sent, `degraded` where something needs somebody."""
    status = {
        "service": "standfast/1",
        "uptime_s": 1.0,
        "database": {"state": "online"},
        "vault": {"state": "online"},
        "host": {"ready": True},
        "sessions": [{**SESSION, **one} for one in sessions],
    }
    assert health({**status, **more}, 0, None).status == expected


@pytest.mark.parametrize("text", ["", "1", "1.", "a.b", "1.2.3", "-1.2", f"{2**63}.1", "1.2\n", "٣.٤"])
def test_odd_cursors_are_refused(text: str) -> None:
    """Only what a page said is taken."""
    with pytest.raises(UsageError):
        Cursor.parse(text)


def test_a_cursor_comes_back_as_it_was() -> None:
    """And none begins at the newest."""
    assert Cursor.parse(str(Cursor(5, 7))) == Cursor(5, 7)
    assert Cursor.parse(None) == Cursor.parse(str(Cursor()))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"{", HttpProblem),
        (b"\xff", HttpProblem),
        (b"", HttpProblem),
        (b"[" * 100_000, UsageError),
        (b'{"to": 1}', UsageError),
        (b'{"to": "+79990000001", "secret": "x"}', UsageError),
        (b'{"to": "+79990000001", "text": ""}', UsageError),
    ],
)
def test_bodies_that_are_wrong(content: bytes, kind: type[Exception]) -> None:
    """Are refused without repeating what was in them."""
    with pytest.raises(kind) as refused:
        decode(content, SendBody)
    assert "7999" not in str(refused.value)


def test_a_body_of_endless_depth_is_refused() -> None:
    """Where anything may stand in it."""
    with pytest.raises(HttpProblem):
        decode(b'{"x":' * 100_000, dict[str, Any])


@pytest.mark.parametrize(
    "body", [b'{"to": "a"}', b'{"to":"a","text":"b","content":{"type":"text","text":"c"}}']
)
def test_a_text_or_a_content(body: bytes) -> None:
    """One of the two is given."""
    with pytest.raises(UsageError, match="either"):
        decode(body, SendBody).sendable()


@pytest.mark.parametrize(
    "fields",
    [
        {"phone": "+79990000001", "message": "hi"},
        {"number": 79990000001, "text": "hi"},
        {"to": "79990000001@c.us", "msg": "hi"},
        {"jid": "79990000001@s.whatsapp.net", "message": {"text": "hi"}},
        {"to": "+79990000001", "phone": "+79990000001", "message": "hi", "delay": 3},
    ],
)
def test_what_small_bots_accept_to_send(fields: dict[str, Any]) -> None:
    """A recipient and a text by any of their usual names; what else is there is passed over."""
    asked = read_send({**fields, "sessionId": "acme"})
    assert asked.to.lstrip("+").startswith("79990000001")
    assert not asked.to.endswith("c.us")
    assert (asked.text, asked.company) == ("hi", "acme")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"phone": "+79990000001"},
        {"message": "hi"},
        {"to": "a", "phone": "b", "text": "hi"},
        {"to": [], "text": "x"},
    ],
)
def test_what_is_missing_or_unclear_is_refused(fields: dict[str, Any]) -> None:
    """Nothing is guessed."""
    with pytest.raises(UsageError):
        read_send(fields)


def test_reactions_of_small_bots() -> None:
    """By a message's id and chat, or by Baileys' key; an empty emoji takes it back."""
    plain = read_reaction({"phone": "+79990000001", "messageId": "ABCD", "emoji": "x"})
    keyed = read_reaction({"key": {"remoteJid": "1@g.us", "id": "ABCD", "fromMe": False}, "reaction": ""})
    assert (plain.chat, plain.message_id, plain.emoji) == ("+79990000001", "ABCD", "x")
    assert (keyed.chat, keyed.message_id, keyed.emoji) == ("1@g.us", "ABCD", "")
    with pytest.raises(UsageError, match="'emoji' is missing"):
        read_reaction({"phone": "+79990000001", "messageId": "ABCD"})
