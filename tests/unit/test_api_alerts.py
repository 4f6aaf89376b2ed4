"""`/alerts`: who may see which."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from standfast.alert import Alert
from tests.serving import Served, serving


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        served.alerting.take(Alert("outage_began", "error", "it is away", lasts=True))
        for company in ("acme", "bolt"):
            served.alerting.take(Alert("session_deaf", "warning", "deaf", {"company_id": company}))
        yield served


async def seen(api: Served, query: str = "", token: str | None = None) -> set[tuple[str, str | None]]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    answer = await api.client.get(f"/alerts{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    return {(one["name"], one["company"]) for one in answer.json()["alerts"]}


async def test_all_that_was_told_is_listed(api: Served) -> None:
    """With what goes on, and only that where it is asked for."""
    acme, bolt, node = ("session_deaf", "acme"), ("session_deaf", "bolt"), ("outage_began", None)
    assert await seen(api) == {acme, bolt, node}
    assert await seen(api, "?open=true") == {node}
    assert await seen(api, "?company=acme") == {acme}
    assert (await api.client.get("/alerts?since_s=-1")).status_code == 422
    assert (await api.client.get("/alerts?limit=0")).status_code == 422


async def test_a_token_for_one_company_sees_its_alerts(api: Served) -> None:
    """Nothing of others, nothing of the node, and no way to ask for it."""
    token, _ = api.tokens.create("one", ("read",), ("acme",))
    assert await seen(api, token=token) == {("session_deaf", "acme")}
    headers = {"Authorization": f"Bearer {token}"}
    assert (await api.client.get("/alerts?company=bolt", headers=headers)).status_code == 403
    assert (await api.client.get("/alerts")).status_code == 401
