"""What Baileys is asked to send for a public content.

Invariant: nothing that Baileys would do by itself over the network (link previews) is left to it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from standfast.messaging.content import FETCHED, MEDIA
from standfast.messaging.outbox import Prepared
from standfast.messaging.outgoing import Outgoing
from standfast.messaging.quoting import Targets

Content = dict[str, Any]
# The host gives an upload three minutes.
MEDIA_TIMEOUT_S = 190.0


def prepared(message: Outgoing, targets: Targets, spool: Path, left_as: bytes | None = None) -> Prepared:
    """The message as it is handed over; `left_as` is what it left as before, over a connection that fell. `UsageError`
    where what it points at is not kept any more."""
    content = message.content
    if content["type"] in MEDIA and left_as is not None:
        return Prepared({"uploaded": left_as})
    if content["type"] in MEDIA:
        return _media(message, content, targets, spool)
    return _FORMS[content["type"]](message, content, targets)


def _text(message: Outgoing, content: Content, targets: Targets) -> Prepared:
    made = {"text": content["text"], "linkPreview": None}
    if content.get("mentions"):
        made["mentions"] = content["mentions"]
    return Prepared(made, _quoted(message, content, targets))


def _reaction(message: Outgoing, content: Content, targets: Targets) -> Prepared:
    return Prepared({"react": {"text": content["emoji"], "key": _key(message, content, targets)}})


def _edit(message: Outgoing, content: Content, targets: Targets) -> Prepared:
    key = _key(message, content, targets)
    return Prepared({"text": content["text"], "linkPreview": None, "edit": key})


def _revoke(message: Outgoing, content: Content, targets: Targets) -> Prepared:
    return Prepared({"delete": _key(message, content, targets)})


def _media(message: Outgoing, content: Content, targets: Targets, spool: Path) -> Prepared:
    """The host reads the file itself, sealed as it is: bytes of that size have no place in a frame."""
    fetched, kind = content[FETCHED], content["type"]
    sealed = {"path": str(spool / fetched["spool"]), "key": fetched["key"]}
    made: dict[str, Any] = {"mimetype": fetched["mime_type"]}
    made["audio" if kind == "voice" else kind] = {"sealed": sealed}
    if kind == "voice":
        made["ptt"] = True
    if kind == "document":
        made["fileName"] = fetched["file_name"]
    for name in ("caption", "mentions"):
        if content.get(name):
            made[name] = content[name]
    return Prepared(made, _quoted(message, content, targets), MEDIA_TIMEOUT_S)


def _key(message: Outgoing, content: Content, targets: Targets) -> dict[str, Any]:
    return targets.find(message.company, message.jid, content["to"]).key


def _quoted(message: Outgoing, content: Content, targets: Targets) -> dict[str, Any] | None:
    wanted = content.get("reply_to")
    if wanted is None:
        return None
    return targets.find(message.company, message.jid, wanted).quoted(message.jid)


_FORMS: dict[str, Callable[[Outgoing, Content, Targets], Prepared]] = {
    "text": _text,
    "reaction": _reaction,
    "edit": _edit,
    "revoke": _revoke,
}
