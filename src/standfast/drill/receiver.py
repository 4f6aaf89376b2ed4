"""`Receiver`: who is told of alerts in a drill: a Sentry and a Telegram of its own, on loopback.

Invariant: what it has heard is what the service's real channels delivered over HTTP, and when.
"""

from __future__ import annotations

import gzip
import re
import time
from dataclasses import dataclass
from typing import Any, Self

import msgspec
from aiohttp import web

_TOKEN = "123456:ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghi"  # noqa: S105 - of no bot: the receiver takes any
_CHAT = "-1001234567890"
CHANNELS = ("sentry", "telegram")
_BODY_BYTES = 1024 * 1024
_GZIP = b"\x1f\x8b"
_TAG = re.compile(r"<[^>]*>")
_ALERT = re.compile(r"Alert: ([\w, ]+)")


class _SentryEvent(msgspec.Struct):
    tags: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Heard:
    """`names`: of the alerts that it is about; `is_end`: it tells that they are over."""

    channel: str
    at: float
    names: frozenset[str]
    is_end: bool


class Receiver:
    """`async with Receiver() as receiver:` serves on a free port."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def settings(self) -> dict[str, str]:
        """What makes a service tell everything here."""
        return {
            "SENTRY_DSN": f"http://drill@127.0.0.1:{self._port}/1",
            "STANDFAST_SENTRY_LEVEL": "info",
            "TELEGRAM_BOT_TOKEN": _TOKEN,
            "TELEGRAM_CHAT_ID": _CHAT,
            "TELEGRAM_API_URL": f"http://127.0.0.1:{self._port}",
            "STANDFAST_NOTIFY_LEVEL": "info",
        }

    def about(self, name: str, channel: str, *, end: bool = False) -> list[Heard]:
        """What one channel was told of an alert, oldest first."""
        return [
            one for one in self.heard if one.channel == channel and name in one.names and one.is_end is end
        ]

    async def _take(self, request: web.Request) -> web.Response:
        content = await request.read()
        channel = "telegram" if "/bot" in request.path else "sentry"
        names, is_end = (_of_telegram if channel == "telegram" else _of_sentry)(content)
        self.heard.append(Heard(channel, time.monotonic(), names, is_end))
        return web.json_response({"ok": True, "result": {"message_id": len(self.heard)}})


def _of_telegram(content: bytes) -> tuple[frozenset[str], bool]:
    """Out of the text that a person reads."""
    try:
        text = str(msgspec.json.decode(content, type=dict[str, Any]).get("text", ""))
    except msgspec.MsgspecError:
        return frozenset(), False
    found = _ALERT.search(_TAG.sub("", text))
    return _names(found[1] if found else ""), "Resolved" in text.partition("\n")[0]


def _of_sentry(content: bytes) -> tuple[frozenset[str], bool]:
    """Out of the tags of the event in an envelope."""
    try:
        text = gzip.decompress(content) if content[:2] == _GZIP else content
        tags = msgspec.json.decode(text.strip().split(b"\n")[-1], type=_SentryEvent).tags
    except (msgspec.MsgspecError, OSError):
        return frozenset(), False
    return _names(tags.get("alert", "")), tags.get("state") == "resolved"


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(",") if name.strip())
