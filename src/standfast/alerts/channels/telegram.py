"""What Telegram's Bot API means by its refusals, and the mend of each.

Invariant: what says that bot or chat are wrong is permanent; what says "later" hands its wait on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from standfast.alerts.channel import Undelivered
from standfast.alerts.channels.answers import MAX_WAIT_S, refused, wait_s

_TEST = "then 'standfast alerts test'."
_TOKEN = f"Check the bot's token (TELEGRAM_BOT_TOKEN): @BotFather shows it with /mybots; {_TEST}"
_START = f"Write /start to the bot, or add it to the group or channel, and check the chat (TELEGRAM_CHAT_ID); {_TEST}"
_CHAT = f"Check the chat (TELEGRAM_CHAT_ID; docs/alerts.md says how to find it) and write /start to the bot; {_TEST}"
_MENDS = {400: _CHAT, 401: _TOKEN, 403: _START, 404: _TOKEN}


class _Parameters(msgspec.Struct):
    retry_after: float | None = None
    migrate_to_chat_id: int | None = None


class _Refusal(msgspec.Struct):
    description: str = ""
    parameters: _Parameters = msgspec.field(default_factory=_Parameters)


def is_telegram(service: Any) -> bool:
    return bool(service.secure_protocol == "tgram")


def refusal(answer: Any, where: str, shown: Callable[[str], str]) -> Undelivered:
    """The error for an answer of `requests` that is no success."""
    said, status = _said(answer.content), int(answer.status_code)
    retry_after_s = said.parameters.retry_after
    if retry_after_s is None:
        retry_after_s = wait_s(status, answer.headers)
    moved_to = said.parameters.migrate_to_chat_id
    mend = _MENDS.get(status, f"Check {where}; {_TEST}")
    if moved_to is not None:
        mend = f"The group became a supergroup: set TELEGRAM_CHAT_ID={moved_to} and restart the service."
    return refused(
        "Telegram",
        status,
        shown(said.description),
        mend,
        where,
        None if retry_after_s is None else min(max(0.0, retry_after_s), MAX_WAIT_S),
    )


def _said(content: bytes) -> _Refusal:
    """Another server than Telegram's may sit in between, and say what it likes."""
    try:
        return msgspec.json.decode(content, type=_Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Refusal()
