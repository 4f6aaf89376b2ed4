"""Spans, brought by the real exporter to a receiver on this machine."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from standfast.errors import SessionNotOpen
from standfast.health import tracing
from standfast.health.queries import QueryMetrics
from standfast.health.tracing import Tracing, is_wanted
from standfast.postgres.observing import Execution
from tests.collector import Collected, attributes, collecting
from tests.messaging import ANNA
from tests.serving import serving
from tests.support import until

OTLP = "OTEL_EXPORTER_OTLP_ENDPOINT"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collected]:
    with collecting() as found:
        monkeypatch.setenv(OTLP, found.url)
        yield found


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({OTLP: "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({OTLP: "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({OTLP: "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
    ],
)
def test_the_usual_variables_decide(environment: dict[str, str], wanted: bool) -> None:
    """As OpenTelemetry's own programs take them; without any there are no traces."""
    assert is_wanted(environment) is wanted


def test_off_imports_nothing() -> None:
    """The service with all its rooms leaves OpenTelemetry alone, and a span is nothing."""
    code = (
        "import sys, standfast.service.service, standfast.api.app\n"
        "from standfast.health import tracing\n"
        "with tracing.span('x', 'client', {}) as span: assert span is None\n"
        "assert tracing.here() is None and tracing.observed(None) is None\n"
        "sys.exit(any(name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0


async def test_calls_to_postgresql(collected: Collected) -> None:
    """Each is a span by its statement's name, with how long it took and why it failed; no SQL, no values."""
    run = Tracing("first")
    assert run.start()
    metrics = QueryMetrics()
    observer = tracing.observed(metrics)
    assert observer is not None
    began_ns = time.time_ns()
    observer.on_query(Execution("auth.load", duration_s=0.25, rows=3, retries=1))
    observer.on_query(Execution("journal.push", duration_s=0.5, outcome="deadlock"))
    await run.stop()
    (load,), (push,) = collected.named("auth.load"), collected.named("journal.push")
    assert attributes(load) == {
        "db.system.name": "postgresql",
        "db.operation.name": "auth.load",
        "db.response.returned_rows": 3,
        "standfast.retries": 1,
    }
    assert load.end_time_unix_nano - load.start_time_unix_nano == 250_000_000
    assert 0 <= load.end_time_unix_nano - began_ns < 5e9
    assert (push.status.code, attributes(push)["error.type"]) == (2, "deadlock")
    assert collected.resources[0]["service.name"] == "standfast"
    assert collected.resources[0]["service.instance.id"] == "first"
    assert set(metrics.tallies()) == {"auth.load", "journal.push"}


async def test_a_request_and_what_follows_are_one_trace(tmp_path: Path, collected: Collected) -> None:
    """From the caller's span over the request to the message's way out; with the company, without number and text."""
    run = Tracing("first")
    assert run.start()
    async with serving(tmp_path) as api:
        path = "/sessions/acme/messages"
        body = {"to": "+" + ANNA, "text": "a secret text"}
        answer = await api.client.post(path, json=body, headers={"traceparent": CALLER}, params={"wait_s": 5})
        assert answer.status_code == 201
        assert (await api.client.get("/sessions/nobody")).status_code == 404
    await run.stop()
    (request,) = collected.named("POST /sessions/{company}/messages")
    (send,) = collected.named("message.send")
    assert request.trace_id.hex() == send.trace_id.hex() == CALLER.split("-")[1]
    assert request.parent_span_id.hex() == CALLER.split("-")[2]
    assert send.parent_span_id == request.span_id
    assert attributes(send) == {"standfast.company": "acme"}
    assert attributes(request)["http.response.status_code"] == 201
    (other,) = collected.named("GET /sessions/{company}")
    assert other.trace_id != request.trace_id
    for secret in (ANNA, "a secret text"):
        assert not any(secret.encode() in one for one in collected.bodies)


async def test_messages_of_a_chat_belong_each_to_its_request(tmp_path: Path, collected: Collected) -> None:
    """Also where the first one's turn brings the others along: the session was closed when they came."""
    run = Tracing("first")
    assert run.start()
    async with serving(tmp_path) as api:
        api.post.close_session()
        for text in ("one", "two"):
            body = {"to": "+" + ANNA, "text": text}
            assert (await api.client.post("/sessions/acme/messages", json=body)).status_code == 202
        await api.post.open()
        await until(lambda: api.post.host.texts() == ["one", "two"], 5)
    await run.stop()
    requests = collected.named("POST /sessions/{company}/messages")
    assert len(requests) == 2
    assert {one.parent_span_id for one in collected.named("message.send")} == {
        one.span_id for one in requests
    }


async def test_a_failure_is_told_by_its_code(collected: Collected) -> None:
    """And not by its text."""
    run = Tracing("first")
    assert run.start()
    with pytest.raises(SessionNotOpen), tracing.span("message.send", "producer", {}):
        raise SessionNotOpen("the text of it")
    await run.stop()
    (send,) = collected.named("message.send")
    assert (send.status.code, attributes(send)) == (2, {"error.type": "session_not_open"})
    assert b"the text of it" not in b"".join(collected.bodies)


async def test_a_receiver_that_answers_nothing_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end comes within its limit; so does that of one that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(tracing, "STOP_TIMEOUT_S", 0.3)
        monkeypatch.setenv(OTLP, f"http://127.0.0.1:{silent.getsockname()[1]}")
        run = Tracing("first")
        assert run.start()
        began = time.monotonic()
        tracing.QuerySpans(None).on_query(Execution("auth.load"))
        assert time.monotonic() - began < 1
        await run.stop()
        assert time.monotonic() - began < 3
    assert not tracing.is_on()


def test_what_cannot_be_done_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another protocol, and packages that are not installed: one line with the mend, and no traces."""
    with capture_logs() as lines:
        monkeypatch.setenv(OTLP, "http://127.0.0.1:1")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        assert not Tracing("first").start()
        monkeypatch.delenv("OTEL_EXPORTER_OTLP_PROTOCOL")
        monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
        assert not Tracing("first").start()
    assert [line["log_level"] for line in lines] == ["warning", "warning"]
    assert "pip install 'standfast[tracing]'" in lines[1]["next_step"]
    assert not tracing.is_on()
