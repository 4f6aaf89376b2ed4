"""Where alerts go: whether each place that is configured can be reached, without telling it anything.

Invariant: no token, key or URL of a channel is told; no message or event is sent.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx

from standfast.service.doctor.patient import Patient
from standfast.service.doctor.results import Result, ok, skipped, warning, wrong

TIMEOUT_S = 3.0
_BOTFATHER = "Ask @BotFather for the bot's token and set TELEGRAM_BOT_TOKEN."


def any_channel(patient: Patient) -> Iterator[Result]:
    settings = patient.settings
    if not (settings.sentry_dsn or settings.telegram_bot_token or settings.notify_urls):
        yield warning(
            "alerts.channels",
            "channels",
            "none: what goes wrong stands in the log and nobody is told",
            "Set TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_ID, SENTRY_DSN or STANDFAST_NOTIFY_URLS.",
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
    try:
        with httpx.Client(timeout=TIMEOUT_S) as client:
            bot = client.get(f"{base}/getMe")
            chat = client.get(f"{base}/getChat", params={"chat_id": settings.telegram_chat_id})
    except httpx.HTTPError as error:
        yield wrong(
            "alerts.telegram",
            "Telegram",
            f"{_host(settings.telegram_api_url)} cannot be reached: {_reason(error)}",
            f"Let this machine out to {_host(settings.telegram_api_url)}, or name a mirror in TELEGRAM_API_URL.",
        )
        return
    yield _told_by_telegram(bot, chat)


def notify_urls(patient: Patient) -> Iterator[Result]:
    """Each URL is one that apprise knows; the service behind it is told nothing."""
    named = patient.settings.notify_urls
    if named is None:
        return
    import apprise

    logging.getLogger("apprise").disabled = True  # it repeats the URLs that it does not understand
    urls = [
        one for one in re.split(r"[\s,]+(?=[a-z][a-z0-9+.-]*://)", named.get_secret_value().strip()) if one
    ]
    bad = []
    for number, url in enumerate(urls, 1):
        if apprise.Apprise.instantiate(url) is None:
            bad.append(f"no. {number} ({url.partition('://')[0][:20] if '://' in url else 'no scheme'}://…)")
    if bad:
        yield wrong(
            "alerts.notify_urls",
            "notification URLs",
            f"not understood: {', '.join(bad)}",
            "Correct STANDFAST_NOTIFY_URLS; each service's form is in apprise's documentation ('apprise --details').",
        )
    else:
        yield ok("alerts.notify_urls", "notification URLs", f"{len(urls)} understood; no message was sent")


def _told_by_telegram(bot: httpx.Response, chat: httpx.Response) -> Result:
    subject, check = "Telegram", "alerts.telegram"
    if bot.status_code in {401, 404}:
        return wrong(check, subject, "TELEGRAM_BOT_TOKEN is no bot's token (getMe refused it)", _BOTFATHER)
    if bot.status_code != 200:
        return warning(
            check,
            subject,
            f"getMe is answered with {bot.status_code}",
            "Try again in a minute: standfast doctor",
        )
    name = f"@{_result(bot).get('username', '?')}"
    if chat.status_code != 200:
        return wrong(
            check,
            subject,
            f"the bot {name} does not know the chat of TELEGRAM_CHAT_ID",
            f"Write /start to {name}, or add it to the group; a group's id begins with '-', a channel's with '-100'.",
        )
    return ok(check, subject, f"bot {name}, {_result(chat).get('type', 'chat')} known; no message was sent")


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
