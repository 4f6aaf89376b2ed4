"""The channels that settings name: Sentry, Telegram, and every service that apprise knows.

Invariant: settings that cannot be used never keep the service from starting; they become a channel that says what is
wrong with it. Nothing here imports a channel's library before the first delivery.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from standfast.alert import Level
from standfast.alerts.channel import Channel, Note, Undelivered
from standfast.alerts.channels.notify import NotifyChannel
from standfast.alerts.channels.sentry import SentryChannel
from standfast.alerts.channels.services import (
    addresses,
    digest,
    schema_of,
    secrets_of,
    service_of,
    telegram_of,
    unusable,
)
from standfast.settings import Settings

__all__ = ["NotifyChannel", "SentryChannel", "Unusable", "channels_of", "unusable_channels"]


class Unusable:
    """In place of a channel whose setting is malformed: it refuses everything, and says why."""

    def __init__(self, name: str, level: Level, error: Undelivered) -> None:
        self.name = name
        self.level = level
        self.error = error

    async def deliver(self, _note: Note) -> None:
        """Raises `Undelivered`."""
        raise self.error

    async def check(self) -> None:
        """Raises `Undelivered`."""
        raise self.error


def channels_of(settings: Settings) -> list[Channel]:
    """One for Sentry, one for Telegram, one for each URL of STANDFAST_NOTIFY_URLS; none for what is not set."""
    found = [*_sentry(settings), *_telegram(settings), *_addressed(settings)]
    return list({channel.name: channel for channel in reversed(found)}.values())[::-1]


async def unusable_channels(channels: Iterable[Channel]) -> dict[str, Undelivered]:
    """What is wrong with those that can never deliver as they are set, by name; nothing is told to anybody. It loads
    their libraries, which takes a moment."""
    problems = {}
    for channel in channels:
        if isinstance(channel, NotifyChannel | SentryChannel | Unusable):
            try:
                await channel.check()
            except Undelivered as error:
                if error.permanent:  # a machine too busy to load a library says nothing of the setting
                    problems[channel.name] = error
    return problems


def _sentry(settings: Settings) -> Iterator[Channel]:
    if settings.sentry_dsn is not None:
        yield SentryChannel(
            settings.sentry_dsn.get_secret_value(), settings.sentry_level, settings.sentry_environment
        )


def _telegram(settings: Settings) -> Iterator[Channel]:
    token, chats = settings.telegram_bot_token, settings.telegram_chat_id
    if token is not None and chats is not None:
        where = "TELEGRAM_BOT_TOKEN with TELEGRAM_CHAT_ID"
        make = partial(telegram_of, token.get_secret_value(), chats, settings.telegram_api_url, where)
        secrets = secrets_of(token.get_secret_value())
        yield NotifyChannel("telegram", settings.notify_level, make, where=where, secrets=secrets)


def _addressed(settings: Settings) -> Iterator[Channel]:
    urls = settings.notify_urls.get_secret_value() if settings.notify_urls is not None else ""
    for position, url in enumerate(addresses(urls), 1):
        where = f"URL {position} of STANDFAST_NOTIFY_URLS"
        schema = schema_of(url)
        if schema is None:
            why = "it is no URL (SCHEMA://…; a space within one is written %20)"
            yield Unusable(f"url-{position}", settings.notify_level, unusable(where, why))
            continue
        where = f"{where} ({schema}://…)"
        yield NotifyChannel(
            f"{schema}-{digest(url)}",
            settings.notify_level,
            partial(service_of, url, where),
            where=where,
            secrets=secrets_of(url.partition("://")[2]),
        )
