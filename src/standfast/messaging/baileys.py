"""What Baileys is asked to send for a public content.

Invariant: nothing that Baileys would do by itself over the network (link previews) is left to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from standfast.messaging.outbox import Prepared
from standfast.messaging.outgoing import Outgoing
from standfast.messaging.quoting import Targets

Content = dict[str, Any]


def prepared(message: Outgoing, targets: Targets) -> Prepared:
    """The message as it is handed over. `UsageError` where what it points at is not kept any more."""
    content = message.content
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
