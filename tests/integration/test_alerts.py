"""Alerts of a real service: PostgreSQL goes, the service is started anew, PostgreSQL comes back."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from standfast.alert import Alert
from standfast.errors import NotFound, SettingsError, TargetFailed
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.store import PostgresAuthStore
from standfast.service.client import connect
from tests.alerting import HttpChannel
from tests.integration.services import ACME, running
from tests.receiver import Receiver
from tests.support import Proxy, made_up_creds, until


def told(receiver: Receiver, name: str) -> list[str]:
    """The kinds of the notes about an alert, in order."""
    return [note["kind"] for note in receiver.taken if note["name"] == name or name in note.get("ends", ())]


async def command(state: Path, *arguments: str) -> tuple[int, str, str]:
    """`standfast alerts …` as a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "standfast", "--state-dir", str(state), "alerts", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_an_outage_is_one_alert_and_one_end(
    state: Path, proxied: DatabaseOptions, proxy: Proxy, store: PostgresAuthStore
) -> None:
    """The one is told while PostgreSQL is away, the other with the outage's duration."""
    await store.install(ACME, made_up_creds(), {})
    async with Receiver() as receiver, running(state, proxied, channels=[HttpChannel(receiver.url)]) as now:
        assert await now.service.vault.open(ACME)
        await proxy.close()
        await until(lambda: told(receiver, "outage_began") == ["raised"])
        await proxy.listen()
        await until(lambda: told(receiver, "outage_began") == ["raised", "resolved"])
        assert [alert["state"] for alert in now.alerts("outage_began")] == ["raised"]
        (restored,) = now.alerts("restored")
    assert restored["state"] == "resolved"
    assert 0 < restored["duration_s"] < 30
    (note,) = [note for note in receiver.taken if note["kind"] == "resolved"]
    assert (note["name"], note["former_level"]) == ("restored", "error")


async def test_a_restart_in_an_outage_repeats_and_forgets_nothing(
    state: Path, proxied: DatabaseOptions, proxy: Proxy, store: PostgresAuthStore
) -> None:
    """The second service takes the same outage up, and tells its end with its whole duration."""
    await store.install(ACME, made_up_creds(), {})
    async with Receiver() as receiver:
        channels = [HttpChannel(receiver.url)]
        async with running(state, proxied, channels=channels) as first:
            assert await first.service.vault.open(ACME)
            await proxy.close()
            await until(lambda: told(receiver, "outage_began") == ["raised"])
        async with running(state, proxied, channels=channels) as second:
            await second.in_state("outage")
            async with connect(second.service.gateway.path) as client:
                found = await client.alerts(open_only=True)
                assert "outage_began" in {alert.name for alert in found.alerts if alert.open}
            await proxy.listen()
            await until(lambda: told(receiver, "outage_began") == ["raised", "resolved"])
        async with running(state, proxied, channels=channels) as third:
            await third.in_state("online")
            assert not third.service.alerts.open_alerts()
    assert told(receiver, "outage_began") == ["raised", "resolved"]


async def test_the_command_asks_the_service(state: Path, database_options: DatabaseOptions) -> None:
    """What it shows is what the service knows; each channel is tried, and one that refuses is named with its mend."""
    async with Receiver() as well, Receiver() as ill:
        ill.answers = lambda _note: 401
        channels = [HttpChannel(well.url, "well"), HttpChannel(ill.url, "ill")]
        async with running(state, database_options, channels=channels) as now:
            now.service.alerts.take(Alert("host_hung", "error", "it hangs", {"company_id": "acme"}))
            shown, tested, one, unknown = await asyncio.gather(
                command(state, "--json"),
                command(state, "test"),
                command(state, "test", "well", "--json"),
                command(state, "test", "pager"),
            )
    document: dict[str, Any] = json.loads(shown[1])
    assert document["measured_by"] == "service"
    assert ("host_hung", "acme") in {(one["name"], one["company"]) for one in document["alerts"]}
    assert tested[0] == TargetFailed.exit_code
    assert "well  ok, taken in" in tested[1]
    assert "ill   failed: ill answered 401" in tested[1]
    assert "next: Give it another token." in tested[1]
    assert (one[0], [outcome["ok"] for outcome in json.loads(one[1])]) == (0, [True])
    assert unknown[0] == NotFound.exit_code
    assert "well, ill" in unknown[2]


async def test_an_alert_that_nothing_ends_is_dismissed(
    state: Path, database_options: DatabaseOptions
) -> None:
    """It stands open no more, also after a restart; what does not go on cannot be dismissed."""
    logged_out = Alert("session_logged_out", "error", "it was", {"company_id": "acme"}, lasts=True)
    async with running(state, database_options, channels=[]) as now:
        now.service.alerts.take(logged_out)
        wrong = await command(state, "dismiss", "session_logged_out", "--company", "beta")
        assert wrong[0] == NotFound.exit_code
        assert "standfast alerts --open" in wrong[2]
        code, out, _ = await command(state, "dismiss", "session_logged_out", "--company", "acme")
        assert code == 0
        assert out.startswith("session_logged_out (acme) is dismissed, after ")
        assert not now.service.alerts.open_alerts()
    async with running(state, database_options, channels=[]) as again:
        assert not again.service.alerts.open_alerts()


async def test_without_channels_a_test_says_how_to_set_one_up(
    state: Path, database_options: DatabaseOptions
) -> None:
    """It is an error, not a success without anything in it."""
    async with running(state, database_options, channels=[]):
        code, _, err = await command(state, "test")
    assert code == SettingsError.exit_code
    assert "TELEGRAM_BOT_TOKEN" in err
