"""The services of apprise: made from settings, without ever showing what their addresses hold.

Invariant: apprise is imported by the first delivery, not by the service's start (a third of a second and its plugins);
what is wrong with an address is said by its position and kind.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import unquote

from standfast.alerts.channel import Undelivered
from standfast.redaction import MASK

LOGGER = "apprise"
# The slash in a URL's path may not follow a comma, its beginning may: "a://x,b://y" are two, "a://x/1,2" is one.
_BETWEEN = re.compile(r"\s+|,+\s*(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_URL = re.compile(r"(?P<schema>[A-Za-z][A-Za-z0-9+.-]*)://\S+")
_PIECE = re.compile(r"[:/@?&=,;\s]+")
_SECRET_CHARS = 6  # shorter pieces of an address would mask half of the language
_MAX_WAIT_S = 1.0


def addresses(urls: str) -> list[str]:
    """The single URLs: white space separates them, or a comma before the next "schema://". A comma within one stays."""
    return [url.strip(",") for url in _BETWEEN.split(urls) if url.strip(", \t\r\n")]


def schema_of(url: str) -> str | None:
    """None where it is no URL."""
    found = _URL.fullmatch(url)
    return found["schema"].lower() if found else None


def digest(url: str) -> str:
    """Tells two of a kind apart, and nothing else."""
    return hashlib.sha256(url.encode()).hexdigest()[:4]


def secrets_of(*texts: str) -> frozenset[str]:
    """The pieces that are not to be shown, wherever they turn up."""
    pieces = (piece for text in texts for way in (text, unquote(text)) for piece in _PIECE.split(way))
    return frozenset(piece for piece in pieces if len(piece) >= _SECRET_CHARS)


def masked(text: str, secrets: frozenset[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def service_of(url: str, where: str) -> Any:
    """The service behind an apprise URL. Raises `Undelivered` where apprise does not take it."""
    apprise, schema = _apprise(), schema_of(url)
    with quiet():
        service = apprise.Apprise.instantiate(url, asset=_asset())
    if service is None:
        raise unusable(where, _why(schema))
    return _tamed(service)


def telegram_of(token: str, chats: str, api_url: str, where: str) -> Any:
    """Telegram's service for a bot and the chats it tells."""
    _apprise()
    from apprise.plugins import telegram

    plugin: Any = telegram.NotifyTelegram
    with quiet():
        try:
            service = plugin(bot_token=token, targets=chats, detect_owner=False, asset=_asset())
        except TypeError:
            raise unusable(
                where, "TELEGRAM_BOT_TOKEN is no bot token (123456:ABC…, as @BotFather shows it)"
            ) from None
    if not service.targets:
        raise unusable(where, "TELEGRAM_CHAT_ID is no chat (a number such as -1001234567890, or @channel)")
    service.notify_url = f"{api_url.rstrip('/')}/bot"
    return _tamed(service)


def unusable(where: str, why: str) -> Undelivered:
    return Undelivered(
        f"{where} cannot be used: {why}",
        next_step="Correct it and restart the service; docs/alerts.md shows how it is written. Then 'standfast alerts "
        "test'.",
        permanent=True,
    )


@contextmanager
def quiet() -> Iterator[None]:
    """What apprise says here is said in our words; it may show an address."""
    handler = logging.NullHandler()
    logger = logging.getLogger(LOGGER)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _why(schema: str | None) -> str:
    from apprise import manager_plugins

    manager: Any = manager_plugins.NotificationManager
    known = manager()
    if schema not in known:
        return f"apprise knows no service {schema}://" if schema else "it is no URL (SCHEMA://…)"
    if not known[schema].enabled:
        return f"{schema}:// needs a Python package that is not installed"
    return f"apprise does not take this {schema}:// URL: a part is missing or malformed"


def _tamed(service: Any) -> Any:
    """The pause between two requests to a service is 5.5 s with many plugins: longer than a delivery may take. A server
    that wants one says so, with a 429."""
    service.request_rate_per_sec = min(service.request_rate_per_sec, _MAX_WAIT_S)
    return service


@cache
def _apprise() -> Any:
    # Their lines below a warning hold addresses, and addresses hold tokens; their warnings become our errors. To be set
    # before the import, which writes lines of its own.
    logging.getLogger(LOGGER).propagate = False
    logging.getLogger(LOGGER).setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    import apprise

    return apprise


@cache
def _asset() -> Any:
    """Who we are; no files are written, no redirect is followed (a POST would become a mere look, and count)."""
    return _apprise().AppriseAsset(
        app_id="Standfast",
        app_desc="Standfast",
        app_url="",
        image_url_mask="",
        image_url_logo="",
        async_mode=False,
        secure_logging=True,
        http_redirects=False,
        interpret_emojis=False,
        interpret_escapes=False,
        pgp_autogen=False,
        pem_autogen=False,
        allow_templates=False,
        storage_mode=_apprise().PersistentStoreMode.MEMORY,
    )
