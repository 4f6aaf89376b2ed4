"""Where alerts go: whether each place that is configured can be reached, without telling it anything.

Invariant: no token, key or URL of a channel is told; no message or event is sent.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx

from standfast.service.doctor.patient import Patient
from standfast.service.doctor.results import Result, ok, skipped, warning, wrong

TIMEOUT_S = 3.0


def formed(patient: Patient) -> Iterator[Result]:
    """Whether there is any, and whether what is set for each can be used at all."""
    from standfast.alerts.channels import channels_of, unusable_channels

    channels = channels_of(patient.settings)
    if not channels:
        yield warning(
            "alerts.channels",
            "channels",
            "none: what goes wrong stands in the log and nobody is told",
            "Set TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_ID, SENTRY_DSN or STANDFAST_NOTIFY_URLS.",
        )
        return
    problems = asyncio.run(unusable_channels(channels))
    for name, error in problems.items():
        yield wrong("alerts.channels", name, error.message, error.next_step)
    good = [channel.name for channel in channels if channel.name not in problems]
    if good:
        yield ok(
            "alerts.channels", "channels", f"{', '.join(good)}: set as they should be; no message was sent"
        )


def sentry(patient: Patient) -> Iterator[Result]:
    """The DSN names a host that speaks HTTP; whether it takes the key only an event would tell."""
    dsn = patient.settings.sentry_dsn
    if dsn is None:
        return
    from sentry_sdk.utils import BadDsn, Dsn

    try:
        parsed = Dsn(dsn.get_secret_value())
    except BadDsn:
        yield wrong(
            "alerts.sentry",
            "Sentry",
            "SENTRY_DSN is not a DSN",
            "Copy it from Sentry: Settings, Client Keys.",
        )
        return
    where = f"{parsed.host}:{parsed.port}"
    if patient.offline:
        yield skipped("alerts.sentry", "Sentry", "--offline")
        return
    try:
        answer = httpx.get(f"{parsed.scheme}://{where}{parsed.path}api/0/", timeout=TIMEOUT_S)
    except httpx.HTTPError as error:
        yield wrong(
            "alerts.sentry",
            "Sentry",
            f"{where} cannot be reached: {_reason(error)}",
            f"Correct SENTRY_DSN, or let this machine out to {where} (alerts wait on disk meanwhile).",
        )
        return
    if answer.status_code >= 500:
        yield warning(
            "alerts.sentry",
            "Sentry",
            f"{where} answers with {answer.status_code}",
            "Look at that Sentry server.",
        )
    else:
        yield ok(
            "alerts.sentry", "Sentry", f"{where} answers; no event was sent (standfast alerts test sends one)"
        )


def telegram(patient: Patient) -> Iterator[Result]:
    """The bot exists and the chat knows it."""
    settings = patient.settings
    if settings.telegram_bot_token is None or settings.telegram_chat_id is None:
        return
    if patient.offline:
        yield skipped("alerts.telegram", "Telegram", "--offline")
        return
    base = f"{settings.telegram_api_url.rstrip('/')}/bot{settings.telegram_bot_token.get_secret_value()}"
    chats = [one for one in re.split(r"[,\s]+", settings.telegram_chat_id) if one]
    try:
        with httpx.Client(timeout=TIMEOUT_S) as client:
            bot = client.get(f"{base}/getMe")
            fault = _bot(bot)
            if fault is not None:
                yield fault
                return
            for chat in chats:
                yield _chat(bot, chat, client.get(f"{base}/getChat", params={"chat_id": chat}))
    except httpx.HTTPError as error:
        yield wrong(
            "alerts.telegram",
            "Telegram",
            f"{_host(settings.telegram_api_url)} cannot be reached: {_reason(error)}",
            f"Let this machine out to {_host(settings.telegram_api_url)}, or name a mirror in TELEGRAM_API_URL.",
        )


def _bot(bot: httpx.Response) -> Result | None:
    """What is wrong with the bot; None where it is there."""
    if bot.is_success:
        return None
    if bot.status_code in {401, 404}:
        said = "TELEGRAM_BOT_TOKEN is no bot's token (getMe refused it)"
        return wrong(
            "alerts.telegram", "Telegram", said, "@BotFather shows it with /mybots; set TELEGRAM_BOT_TOKEN."
        )
    said = f"getMe is answered with {bot.status_code}"
    return warning("alerts.telegram", "Telegram", said, "Try again in a minute.")


def _chat(bot: httpx.Response, chat: str, answer: httpx.Response) -> Result:
    name = f"@{_result(bot).get('username', '?')}"
    if answer.is_success:
        kind = _result(answer).get("type", "chat")
        return ok("alerts.telegram", "Telegram", f"bot {name} knows {kind} {chat}; no message was sent")
    return wrong(
        "alerts.telegram",
        "Telegram",
        f"the bot {name} does not know the chat {chat} of TELEGRAM_CHAT_ID",
        f"Write /start to {name}, or add it to the group; a group's id begins with '-', a channel's with '-100'.",
    )


def _result(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json().get("result")
    except (ValueError, AttributeError):
        return {}
    return found if isinstance(found, dict) else {}


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _reason(error: httpx.HTTPError) -> str:
    """Its own text can quote the URL, token and all."""
    if isinstance(error, httpx.TimeoutException):
        return f"no answer within {TIMEOUT_S:g} s"
    return "no connection" if isinstance(error, httpx.ConnectError) else type(error).__name__
