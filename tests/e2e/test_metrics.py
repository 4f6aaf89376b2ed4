"""What Prometheus reads of a real service with two sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import Line, shares_loop, until
from tests.promtool import check

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]
MESSAGE = "in no help text"


@pytest_asyncio.fixture(loop_scope="module")
async def api(http_pair: Line) -> AsyncIterator[httpx.AsyncClient]:
    assert http_pair.service.http is not None
    async with httpx.AsyncClient(base_url=http_pair.service.http.url, timeout=20) as client:
        yield client


async def scraped(api: httpx.AsyncClient) -> Values:
    answer = await api.get("/metrics")
    assert answer.status_code == 200
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def messages(values: Values, company: str, direction: str) -> float:
    labels = frozenset({("company", company), ("direction", direction)})
    return values["standfast_session_messages_total", labels]


@shares_loop
async def test_metrics_follow_what_happens(http_pair: Line, api: httpx.AsyncClient) -> None:
    """promtool takes them; two sessions are open, and a message more is counted at both ends; no number is in them."""
    before = await scraped(api)
    assert before["standfast_sessions", frozenset({("state", "open")})] == 2
    assert before["standfast_session_open", frozenset({("company", "acme")})] == 1
    assert before["standfast_health_verdict", frozenset({("verdict", "critical")})] == 0
    await http_pair.send("acme", "bolt", MESSAGE)
    await http_pair.received("bolt", [MESSAGE])

    async def counted() -> bool:
        now = await scraped(api)
        return all(
            messages(now, company, direction) == messages(before, company, direction) + 1
            for company, direction in (("acme", "sent"), ("bolt", "received"))
        )

    await until(counted, "the message is counted")
    text = (await api.get("/metrics")).content
    for secret in (*http_pair.phones.values(), MESSAGE):
        assert secret.encode() not in text
    check("check", "metrics", stdin=text)


@shares_loop
async def test_statements_are_counted(api: httpx.AsyncClient) -> None:
    """Each under its name, with as many calls in its buckets as there were."""
    values = await scraped(api)
    counts = {
        dict(labels)["statement"]: value
        for (name, labels), value in values.items()
        if name == "standfast_query_duration_seconds_count"
    }
    assert len(counts) > 3
    for statement, count in counts.items():
        last = frozenset({("statement", statement), ("le", "+Inf")})
        assert values["standfast_query_duration_seconds_bucket", last] == count > 0
    assert values["standfast_queries_total", frozenset()] == sum(counts.values())
