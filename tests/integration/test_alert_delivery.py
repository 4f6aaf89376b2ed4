"""A real service tells Sentry and Telegram, as its settings name them, of a real outage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from standfast.postgres.options import DatabaseOptions
from standfast.postgres.store import PostgresAuthStore
from tests.integration.services import ACME, Running, running
from tests.outlet import BOT_TOKEN, CHAT, SECRETS, Answer, Outlet
from tests.support import Proxy, made_up_creds, until

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


def delivered(now: Running) -> dict[str, int]:
    """How many each channel has taken."""
    return {one.name: one.delivered for one in now.service.alerts.channels()}


async def test_an_outage_reaches_both_and_a_dead_one_holds_up_nobody(
    state: Path, proxied: DatabaseOptions, proxy: Proxy, store: PostgresAuthStore
) -> None:
    """With PostgreSQL away and one channel failing, the other is told at once, and both of the end; Sentry has two
    events of one issue, Telegram two messages."""
    await store.install(ACME, made_up_creds(), {})
    async with Outlet() as telegram, Outlet(Answer(503, {"Retry-After": "1"})) as sentry:
        named: dict[str, Any] = {
            "sentry_dsn": SecretStr(f"http://T0PSECRET@{sentry.host}/7"),
            "telegram_bot_token": SecretStr(BOT_TOKEN),
            "telegram_chat_id": CHAT,
            "telegram_api_url": f"http://{telegram.host}",
        }
        async with running(state, proxied, **named) as now:
            assert await now.service.vault.open(ACME)
            await proxy.close()
            await until(lambda: len(telegram.requests) == 1)
            assert delivered(now)["sentry"] == 0
            await until(lambda: delivered(now) == {"sentry": 1, "telegram": 1})
            await proxy.listen()
            await until(lambda: delivered(now) == {"sentry": 2, "telegram": 2})
        began, over = (request.json["text"] for request in telegram.requests)
        refused, raised, resolved = (request.event for request in sentry.requests)
    assert began.startswith(
        "<b>🟠 Error: PostgreSQL is away; sessions go on from the replica</b>\r\n\r\nNode: one\r\n"
    )
    assert "<b>What to do</b>: " in began
    assert over.startswith("<b>🟢 Resolved after ")
    assert refused["event_id"] == raised["event_id"] != resolved["event_id"]
    assert raised["fingerprint"] == resolved["fingerprint"]
    assert [(one["level"], one["tags"]["alert"], one["tags"]["state"]) for one in (raised, resolved)] == [
        ("error", "outage_began", "raised"),
        ("info", "outage_began", "resolved"),
    ]
    for request in (*telegram.requests, *sentry.requests):
        assert not [secret for secret in (*SECRETS, "postgres:") if request.holds(secret)]
