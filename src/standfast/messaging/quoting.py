"""`Targets`: the messages that replies, reactions, edits and deletions point at, found by their id.

Invariant: a message of another chat than the one that is written to is never pointed at.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from standfast.errors import UsageError
from standfast.messaging.addresses import chat_name
from standfast.messaging.mailbox import Mailbox
from standfast.messaging.outgoing import Outgoing

# WhatsApp's own limits: receivers ignore what comes later.
EDIT_S = 15 * 60.0
REVOKE_S = 60 * 3600.0
_GROUP = "@g.us"
# How receivers draw a quoted message that is no text: by the kind of its content.
_QUOTED_AS = {
    "image": "imageMessage",
    "video": "videoMessage",
    "document": "documentMessage",
    "audio": "audioMessage",
    "voice": "audioMessage",
    "sticker": "stickerMessage",
}
_CAPTIONED = frozenset({"image", "video", "document"})


@dataclass(frozen=True, slots=True)
class Target:
    """A message of a chat; `chat` as WhatsApp addresses it, `sender` only in groups and of others."""

    message_id: str
    chat: str
    from_me: bool
    sender: str | None
    type: str
    text: str
    at: float

    @property
    def key(self) -> dict[str, Any]:
        """Baileys' key of the message."""
        key: dict[str, Any] = {"remoteJid": self.chat, "id": self.message_id, "fromMe": self.from_me}
        return key if self.sender is None else {**key, "participant": self.sender}

    def quoted(self, jid: str) -> dict[str, Any]:
        """The message as Baileys quotes it in a message to `jid`."""
        if self.type in _QUOTED_AS:
            content: dict[str, Any] = {
                _QUOTED_AS[self.type]: {"caption": self.text} if self.type in _CAPTIONED else {}
            }
        else:
            content = {"conversation": self.text}
        # Another address of the same chat would be read as a message of another chat.
        return {"key": {**self.key, "remoteJid": jid}, "message": content}


class Targets:
    """Looks in what came in and in what was sent."""

    def __init__(self, mailbox: Mailbox, clock: Callable[[], float] = time.time) -> None:
        self._mailbox = mailbox
        self._clock = clock

    def find(self, company: str, jid: str, message_id: str) -> Target:
        """The message of this chat. `UsageError` where there is none, or it is not kept any more."""
        sent = self._mailbox.outgoing.get(company, message_id)
        if sent is not None and _may_be_of(jid, sent.jid):
            return _of_sent(sent)
        received = self._mailbox.log.found(company, jid, message_id)
        if received is not None:
            return _of_received(received.data)
        raise UsageError(
            "there is no message with this id in this chat, or it is not kept any more",
            next_step="Name a message of the same chat; STANDFAST_MESSAGES_KEPT_DAYS says how long they are kept.",
        )

    def check(self, company: str, jid: str, content: dict[str, Any]) -> None:
        """Raise `UsageError` where what `content` points at is not there, or cannot be changed so."""
        wanted = content.get("reply_to") or content.get("to")
        if wanted is None:
            return
        target, age_s = self.find(company, jid, wanted), 0.0
        if content["type"] in ("edit", "revoke"):
            age_s = self._clock() - target.at
        if content["type"] == "edit":
            _check_editable(target, age_s)
        elif content["type"] == "revoke":
            _check_revocable(target, age_s)


def _check_editable(target: Target, age_s: float) -> None:
    if not target.from_me or target.type != "text":
        raise UsageError(
            "only a text that the company sent can be edited", next_step="Send a new message instead."
        )
    if age_s > EDIT_S:
        raise UsageError(
            "a message can be edited for 15 minutes, and this one is older", next_step="Send a new message."
        )


def _check_revocable(target: Target, age_s: float) -> None:
    if not target.from_me and not target.chat.endswith(_GROUP):
        raise UsageError(
            "only the sender can delete a message for everyone",
            next_step="Name a message that the company sent.",
        )
    if age_s > REVOKE_S:
        raise UsageError(
            "a message can be deleted for everyone for 60 hours, and this one is older",
            next_step="Delete it on the phone.",
        )


def _may_be_of(jid: str, sent_to: str) -> bool:
    """Whether both may be the same chat: which LID a phone number has is not known here."""
    if chat_name(jid) == chat_name(sent_to):
        return True
    return {"lid", "s.whatsapp.net"} == {jid.partition("@")[2], sent_to.partition("@")[2]}


def _of_sent(sent: Outgoing) -> Target:
    content = sent.content
    text = str(content.get("text") or content.get("caption") or "")
    return Target(sent.message_id, sent.jid, True, None, str(content["type"]), text, sent.at)


def _of_received(message: dict[str, Any]) -> Target:
    from_me, chat = bool(message.get("from_me")), str(message["chat"])
    sender = str(message["sender"]) if chat.endswith(_GROUP) and not from_me else None
    at = float(message.get("timestamp_s") or 0)
    return Target(
        str(message["id"]),
        chat,
        from_me,
        sender,
        str(message.get("type")),
        str(message.get("text") or ""),
        at,
    )


def key_of(message: dict[str, Any]) -> dict[str, Any]:
    """Baileys' key of a received message."""
    return _of_received(message).key
