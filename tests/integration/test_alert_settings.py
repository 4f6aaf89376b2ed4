"""The channels that settings make, and what becomes of settings that cannot be used."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from standfast.alerts.channel import Undelivered
from standfast.alerts.channels import NotifyChannel, channels_of, unusable_channels
from tests.outlet import (
    BOT_TOKEN,
    SECRETS,
    Outlet,
    named,
    settings_for,
)

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


MALFORMED = "apprise does not take this slack:// URL: a part is missing or malformed"


async def test_what_is_wrong_with_a_setting_is_said_by_its_position() -> None:
    """A URL that cannot be used makes a channel that says so, without what the URL holds; the others do not care."""
    urls = "json://127.0.0.1/ok nosuch://geheim/T0PSECRET, slack://geheim hunter2"
    channels = channels_of(named(STANDFAST_NOTIFY_URLS=urls))
    problems = await unusable_channels(channels)
    for name, error in problems.items():
        assert error.permanent
        assert not [secret for secret in SECRETS if secret in f"{error.message} {error.next_step} {name}"]
    found = [problems[one.name].message if one.name in problems else None for one in channels]
    assert found == [
        None,
        "URL 2 of STANDFAST_NOTIFY_URLS (nosuch://…) cannot be used: apprise knows no service nosuch://",
        f"URL 3 of STANDFAST_NOTIFY_URLS (slack://…) cannot be used: {MALFORMED}",
        "URL 4 of STANDFAST_NOTIFY_URLS cannot be used: it is no URL (SCHEMA://…; a space within one is written %20)",
    ]


async def test_a_chat_that_is_none_is_said() -> None:
    """A chat id that Telegram could never know is found before the first alert."""
    chats = named(TELEGRAM_BOT_TOKEN=BOT_TOKEN, TELEGRAM_CHAT_ID="!!")
    (channel,) = channels_of(chats)
    assert isinstance(channel, NotifyChannel)
    with pytest.raises(Undelivered, match="TELEGRAM_CHAT_ID is no chat"):
        await channel.check()


def test_channels_are_named_for_good_and_without_secrets() -> None:
    """A name does not change with the order of URLs, tells two of a kind apart, and one address is told once."""
    one, two = "json://geheim@127.0.0.1/a", "json://geheim@127.0.0.1/b"
    names = [channel.name for channel in channels_of(named(STANDFAST_NOTIFY_URLS=f"{one} {two} {one}"))]
    turned = [channel.name for channel in channels_of(named(STANDFAST_NOTIFY_URLS=f"{two} {one}"))]
    assert len(names) == 2
    assert sorted(names) == sorted(turned)
    assert all(re.fullmatch(r"json-[0-9a-f]{4}", name) for name in names)
    assert channels_of(named()) == []


async def test_levels_are_those_of_the_settings() -> None:
    """Sentry is told warnings, the others errors, unless the settings say otherwise."""
    async with Outlet() as outlet:
        usual = channels_of(settings_for(outlet))
        other = channels_of(
            settings_for(outlet, STANDFAST_SENTRY_LEVEL="critical", STANDFAST_NOTIFY_LEVEL="info")
        )
    assert [(one.name, one.level) for one in usual] == [("sentry", "warning"), ("telegram", "error")]
    assert [one.level for one in other] == ["critical", "info"]


def test_nothing_is_imported_before_it_is_needed() -> None:
    """Naming the channels imports neither apprise nor sentry-sdk: the service's start does not pay for them."""
    code = (
        "import sys; from standfast.settings import Settings; from standfast.alerts.channels import channels_of; "
        f"s = Settings(SENTRY_DSN='http://k@127.0.0.1/1', TELEGRAM_BOT_TOKEN='{BOT_TOKEN}', TELEGRAM_CHAT_ID='1'); "
        "assert len(channels_of(s)) == 2; "
        "print([name for name in ('apprise', 'requests', 'sentry_sdk') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[]"
