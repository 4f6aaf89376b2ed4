"""Messages, health and the ways of old bots over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from standfast.errors import SendFailed
from tests.messaging import ANNA, BORIS
from tests.serving import Served, serving

MESSAGES = "/sessions/acme/messages"
WRONG: list[tuple[str, Any, int]] = [
    (MESSAGES, {"to": "+" + ANNA}, 422),
    (MESSAGES, {"to": "nobody", "text": "x"}, 422),
    (MESSAGES, {"to": "+" + ANNA, "text": "x", "tetx": "y"}, 422),
    (MESSAGES, {"to": "+" + ANNA, "text": ""}, 422),
    (MESSAGES, {"to": "+" + ANNA, "content": {"type": "image", "file": "/etc/passwd"}}, 422),
    (MESSAGES, {"to": "+" + ANNA, "content": {"type": "nothing"}}, 422),
    (MESSAGES + "?wait_s=nan", {"to": "+" + ANNA, "text": "x"}, 422),
    (MESSAGES + "?wait_s=61", {"to": "+" + ANNA, "text": "x"}, 422),
    ("/sessions/bolt/messages", {"to": "+" + ANNA, "text": "x"}, 404),
    ("/sessions/..%2Facme/messages", {"to": "+" + ANNA, "text": "x"}, 404),
    ("/sessions/%00/messages", {"to": "+" + ANNA, "text": "x"}, 422),
    ("/sessions/acme%0A/messages", {"to": "+" + ANNA, "text": "x"}, 422),
    (MESSAGES, [1], 422),
    ("/sessions/acme/reactions", {"chat": "+" + ANNA, "message_id": "UNKNOWN1", "emoji": "x"}, 422),
    ("/sessions/acme/typing", {"chat": "+" + ANNA, "ttl_s": 26}, 422),
]
OF_OLD: list[dict[str, Any]] = [
    {"json": {"phone": "+" + ANNA, "message": "hello"}},
    {"json": {"number": ANNA, "text": "hello", "company": "acme"}},
    {"json": {"jid": ANNA + "@s.whatsapp.net", "message": {"text": "hello"}, "company_id": "acme"}},
    {"data": {"to": ANNA, "msg": "hello", "sessionId": "acme"}},
]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


def _text(text: str, to: str = ANNA) -> dict[str, Any]:
    return {"to": "+" + to, "text": text}


async def test_a_message_is_accepted_then_sent(api: Served) -> None:
    """202 while it is on its way, 201 once WhatsApp has it; its address says how it stands."""
    sent = await api.client.post(MESSAGES, params={"wait_s": 5}, json=_text("one"))
    assert sent.status_code == 201
    assert sent.json()["state"] == "sent"
    kept = (await api.client.get(sent.headers["location"])).json()
    assert (kept["message_id"], kept["state"]) == (sent.json()["message_id"], "sent")
    api.post.close_session()
    queued = await api.client.post(MESSAGES, json=_text("two"))
    assert (queued.status_code, queued.json()["state"]) == (202, "queued")
    assert api.post.host.texts(ANNA) == ["one"]


async def test_a_repeated_request_sends_once(api: Served) -> None:
    """The same key is answered with the same message; for another message it is a conflict."""
    key = {"Idempotency-Key": "order-17"}
    first = await api.client.post(MESSAGES, params={"wait_s": 5}, json=_text("one"), headers=key)
    again = await api.client.post(MESSAGES, json=_text("one"), headers=key)
    other = await api.client.post(MESSAGES, json=_text("other"), headers=key)
    assert again.json()["message_id"] == first.json()["message_id"]
    assert again.status_code == 201
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    assert api.post.host.texts() == ["one"]


async def test_a_refused_message_is_no_success(api: Served) -> None:
    """What WhatsApp refuses is a problem that names the message, not a 2xx."""
    api.post.host.trouble = lambda _jid, _text: SendFailed("the number is not on WhatsApp")
    refused = await api.client.post(MESSAGES, params={"wait_s": 5}, json=_text("one"))
    assert (refused.status_code, refused.json()["code"]) == (422, "send_failed")
    kept = await api.client.get(f"{MESSAGES}/{refused.json()['facts']['message_id']}")
    assert (kept.status_code, kept.json()["state"]) == (200, "failed")


async def test_only_a_queued_message_can_be_cancelled(api: Served) -> None:
    """Cancelled it is failed and never leaves; a second time, or once sent, it is a 409; an unknown one a 404."""
    sent = (await api.client.post(MESSAGES, params={"wait_s": 5}, json=_text("one"))).json()
    api.post.close_session()
    queued = (await api.client.post(MESSAGES, json=_text("two"))).headers["location"]
    cancelled = await api.client.delete(queued)
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "failed")
    for path, status in (
        (queued, 409),
        (f"{MESSAGES}/{sent['message_id']}", 409),
        (MESSAGES + "/ABCDEF", 404),
    ):
        assert (await api.client.delete(path)).status_code == status


async def test_the_list_pages_through_both_directions(api: Served) -> None:
    """Newest first; who follows `next` sees each message once; filters hold."""
    for number in range(3):
        await api.client.post(MESSAGES, params={"wait_s": 5}, json=_text(f"to {number}"))
        await api.post.receive(f"RECEIVED{number}", f"from {number}")
    seen: list[str] = []
    before: str | None = None
    while True:
        query = {"limit": "2"} | ({"before": before} if before else {})
        page = (await api.client.get(MESSAGES, params=query)).json()
        seen += [(one.get("content") or one["message"])["text"] for one in page["messages"]]
        before = page["next"]
        if before is None:
            break
    assert seen == ["from 2", "to 2", "from 1", "to 1", "from 0", "to 0"]
    for query, count in (
        ({"direction": "sent"}, 3),
        ({"direction": "received"}, 3),
        ({"chat": "+" + ANNA}, 3),
        ({"chat": "+" + BORIS}, 0),
        ({"state": "failed"}, 0),
    ):
        assert len((await api.client.get(MESSAGES, params=query)).json()["messages"]) == count, query


async def test_bad_input_is_a_problem_and_changes_nothing(api: Served) -> None:
    """It is told what is wrong, in one form, and nothing was accepted."""
    for path, body, status in WRONG:
        answer = await api.client.post(path, json=body)
        problem = answer.json()
        assert (answer.status_code, problem["status"]) == (status, status), (path, body, problem)
        assert answer.headers["content-type"] == "application/problem+json"
        assert {"type", "title", "detail", "code", "next_step", "retryable"} <= set(problem)
    assert api.post.messenger.sent("acme") == []


async def test_paths_and_methods_that_are_not_there(api: Served) -> None:
    """They are problems too, and a 405 says what the path takes."""
    nothing, wrong = await api.client.get("/nothing"), await api.client.put(MESSAGES, json={})
    assert (nothing.status_code, nothing.json()["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET, POST"


async def test_read_marks_and_typing_reach_the_host(api: Served) -> None:
    """All that came is marked once; typing is passed on."""
    await api.post.receive("RECEIVED1", "hi", chat=ANNA + "@s.whatsapp.net")
    body = {"chat": "+" + ANNA}
    first = await api.client.post("/sessions/acme/read", json=body)
    second = await api.client.post("/sessions/acme/read", json=body)
    typing = await api.client.post("/sessions/acme/typing", json=body)
    assert (first.json(), second.json()) == ({"message_ids": ["RECEIVED1"]}, {"message_ids": []})
    assert typing.json() == {"on": True}


async def test_health_says_what_stands(api: Served) -> None:
    """Live always; ready where nothing is missing; a session that is down makes its own health a 503."""
    assert (await api.client.get("/health")).json()["status"] == "ok"
    assert (await api.client.get("/health/ready")).status_code == 200
    assert (await api.client.get("/health/sessions/acme")).status_code == 200
    api.missing.append("host")
    api.post.close_session()
    ready = await api.client.get("/health/ready")
    assert (ready.status_code, ready.json()) == (503, {"status": "not_ready", "missing": ["host"]})
    down = await api.client.get("/health/sessions/acme")
    assert (down.status_code, down.json()["verdict"]) == (503, "down")
    assert (await api.client.get("/health/live")).status_code == 200


async def test_old_callers_send_as_they_always_did(api: Served) -> None:
    """Their names and forms are understood, and the answer has `success`."""
    for given in OF_OLD:
        answer = await api.client.post("/send", **given)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["success"], answer.json()["status"]) == (True, "sent")
    assert api.post.host.texts(ANNA) == ["hello"] * len(OF_OLD)


async def test_old_callers_are_told_what_is_wrong(api: Served) -> None:
    """A problem that has `success` and `error` as well."""
    for body in ({}, {"phone": "+" + ANNA}, {"phone": "+" + ANNA, "message": "x", "company": "nobody"}):
        answer = await api.client.post("/send", json=body)
        assert answer.status_code in (404, 422)
        assert answer.json()["success"] is False
        assert answer.json()["error"]
