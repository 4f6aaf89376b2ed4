"""The alerts that webhooks raise, each with its stable name and its words.

Invariant: one function for one kind; names and tags never change, because operators' rules match them.
"""

from __future__ import annotations

from typing import Any

from standfast.alert import Alert, Level

LASTING = ("webhook_failing", "webhook_gone")


def failing(name: str, minutes: float, why: str | None) -> Alert:
    return _alert(
        "webhook_failing",
        "warning",
        name,
        f"the webhook {name} has taken nothing for {minutes:g} minutes: {why}",
        {"next_step": f"Try it: standfast webhooks test {name}"},
        lasts=True,
    )


def back(name: str, *, quiet: bool = False) -> Alert:
    """`quiet`: this process did not tell that it failed."""
    message = f"the webhook {name} takes events again"
    return _alert("webhook_back", "info", name, message, ends=("webhook_failing",), quiet=quiet)


def dead_letters(name: str, count: int, hours: float) -> Alert:
    return _alert(
        "webhook_dead_letters",
        "error",
        name,
        f"{count} events were given up for the webhook {name}: it did not take them within {hours:g} h",
        {"count": count, "next_step": f"Mend it, then: standfast webhooks replay {name} --dead"},
    )


def gone(name: str, why: str) -> Alert:
    return _alert(
        "webhook_gone",
        "error",
        name,
        f"the webhook {name} is paused: {why}. What it is owed is kept",
        {"next_step": f"standfast webhooks resume {name}, or remove {name}"},
        lasts=True,
    )


def resumed(name: str) -> Alert:
    message = f"the webhook {name} is delivered to again"
    return _alert("webhook_resumed", "info", name, message, ends=("webhook_gone",), quiet=True)


def settled(name: str, why: str) -> Alert:
    """There is nothing to wake anybody for: it works, or an operator has paused or removed it."""
    return _alert("webhook_settled", "info", name, f"the webhook {name} {why}", ends=LASTING, quiet=True)


def _alert(
    kind: str, level: Level, name: str, message: str, facts: dict[str, Any] | None = None, **how: Any
) -> Alert:
    return Alert(kind, level, message, {"component": "webhooks", "webhook": name}, facts or {}, **how)
