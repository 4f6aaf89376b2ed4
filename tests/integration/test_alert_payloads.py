"""What real sentry-sdk and apprise send to a server on this machine, field by field."""

from __future__ import annotations

import re

import pytest

from standfast.alerts.channels import SentryChannel, channels_of
from tests.outlet import (
    BOT_TOKEN,
    CHANNELS,
    CHAT,
    NASTY,
    PHONE,
    SECRETS,
    Outlet,
    channel_to,
    named,
    note,
    settings_for,
)

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


async def test_an_event_of_sentry_field_by_field() -> None:
    """Sentry gets the alert as an event with the legacy tags, its facts, and nothing of this machine or process."""
    async with Outlet() as outlet:
        tags = {"component": "baileys_auth", "operation": "load_credentials_from_cache", "fallback": "cache"}
        told = note(
            company="acme",
            fingerprint="outage_began|company_id=acme",
            tags={**tags, "company_id": "acme"},
            level="critical",
            count=3,
        )
        channel = SentryChannel(f"http://pubkey@{outlet.host}/42", "warning", "staging")
        await channel.deliver(told)
        (request,) = outlet.requests
    assert request.path == "/api/42/envelope/"
    assert re.fullmatch(
        r"Sentry sentry_key=pubkey, sentry_version=7, sentry_client=standfast/\S+",
        request.headers["x-sentry-auth"],
    )
    event = request.event
    sdk, release = event.pop("sdk"), event.pop("release")
    assert sdk["name"] == "sentry.python"
    assert release.startswith("standfast@")
    assert event == {
        "event_id": told.id,
        "timestamp": told.at,
        "level": "fatal",
        "logger": "standfast.alerts",
        "platform": "python",
        "environment": "staging",
        "server_name": "n1",
        "message": "PostgreSQL is away; sessions go on from the replica",
        "fingerprint": ["outage_began|company_id=acme"],
        "tags": {
            **tags,
            "company_id": "acme",
            "alert": "outage_began",
            "node": "n1",
            "level": "critical",
            "state": "raised",
        },
        "extra": {
            "since": "2026-01-01 00:00:00 UTC",
            "count": 3,
            "next_step": "Check that PostgreSQL runs: 'standfast config'.",
            "error": "PostgreSQL did not answer within 3 s",
            "code": "database_unavailable",
        },
    }


async def test_a_resolved_one_joins_the_trouble_in_sentry() -> None:
    """That something is over is an event of the same group, to be found under the name of what it ends."""
    async with Outlet() as outlet:
        over = note(
            kind="resolved",
            level="info",
            name="restored",
            ends=("outage_began",),
            duration_s=192.0,
            next_step=None,
        )
        await channel_to(outlet, "sentry").deliver(over)
        event = outlet.requests[0].event
    assert event["level"] == "info"
    assert event["fingerprint"] == ["outage_began|"]
    assert (event["tags"]["alert"], event["tags"]["state"]) == ("outage_began", "resolved")
    assert event["extra"]["duration_s"] == 192.0


async def test_no_fact_is_dropped_on_the_way_to_sentry() -> None:
    """sentry-sdk keeps ten entries of a mapping; what is beyond arrives all the same."""
    facts = {f"fact{number}": number for number in range(30)} | {"list": list(range(30))}
    async with Outlet() as outlet:
        await channel_to(outlet, "sentry").deliver(note(facts=facts))
        extra = outlet.requests[0].event["extra"]
    assert '"fact29":29' in extra["more"]
    assert "29" in extra["more"].partition('"list"')[2]
    assert len(extra) == 10


async def test_a_message_of_telegram_field_by_field() -> None:
    """Telegram gets one HTML message for the chat, without a preview of links, at the API's address that was set."""
    async with Outlet() as outlet:
        channel = next(one for one in channels_of(settings_for(outlet)) if one.name == "telegram")
        await channel.deliver(note(company="acme"))
        (request,) = outlet.requests
    assert request.path == f"/bot{BOT_TOKEN}/sendMessage"
    assert request.headers["user-agent"] == "Standfast"
    assert request.json == {
        "chat_id": int(CHAT),
        "parse_mode": "HTML",
        "disable_notification": False,
        "disable_web_page_preview": True,
        "text": "<b>🟠 Error: PostgreSQL is away; sessions go on from the replica</b>\r\n\r\n"
        "Company: acme\r\nNode: n1\r\nSince: 2026-01-01 00:00:00 UTC (3 min 12 s before this was written)\r\n"
        "Alert: outage_began\r\nError: PostgreSQL did not answer within 3 s\r\nCode: database_unavailable\r\n\r\n"
        "<b>What to do</b>: Check that PostgreSQL runs: <code>standfast config</code>.",
    }


async def test_other_services_are_told_through_apprise() -> None:
    """Any URL of apprise is told title, text and how bad it is, as Standfast."""
    async with Outlet() as outlet:
        urls = f"json://bot:geheim@{outlet.host}/hook"
        channel = channels_of(named(STANDFAST_NOTIFY_URLS=urls))[0]
        await channel.deliver(note())
        await channel.deliver(note(kind="resolved", level="info"))
        told, over = outlet.requests
    assert told.path == "/hook"
    assert told.json["title"] == "🟠 Error: PostgreSQL is away; sessions go on from the replica"
    assert told.json["message"].endswith("What to do: Check that PostgreSQL runs: 'standfast config'.")
    assert [told.json["type"], over.json["type"]] == ["failure", "success"]


@pytest.mark.parametrize("name", CHANNELS)
async def test_no_secret_and_no_number_leaves(name: str) -> None:
    """Whatever an alert says by mistake, no password, token or phone number is in what a service receives; a text of
    10 kB arrives all the same."""
    async with Outlet() as outlet:
        told = note(
            message=NASTY + " x" * 5_000,
            facts={"error": NASTY, "list": [NASTY], "phone": PHONE},
            tags={"holder": NASTY},
            fingerprint=f"x|holder={NASTY}",
            next_step=NASTY,
        )
        await channel_to(outlet, name).deliver(told)
        (request,) = outlet.requests
    assert not [secret for secret in SECRETS if request.holds(secret)]
    assert request.holds("cannot reach postgresql://bot:")
    if name == "telegram":
        assert len(request.json["text"]) <= 4_096
