"""`Registry`: the webhooks there are, and which events each of them is owed.

Invariant: what a webhook is owed is written down in the transaction of the event itself, so that no crash can come
between; names are unique, secrets and URLs lie sealed.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable
from typing import Any

import msgspec

from standfast.authstate.company import company_id
from standfast.errors import Conflict, UsageError
from standfast.messaging.events import LoggedEvent
from standfast.messaging.file import MessageFile
from standfast.messaging.webhooks_signature import Secret

KINDS = ("message", "receipt", "state", "alert")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,49}")
_OWE = (
    "insert into deliveries (webhook, number, company, lane, queued_at)"
    " values (?, ?, ?, ?, ?) on conflict do nothing"
)


class Webhook(msgspec.Struct, frozen=True, omit_defaults=True):
    """Times in seconds since 1970. No `companies` are all of them, and events of the whole node."""

    name: str
    url: str
    secrets: tuple[Secret, ...]
    companies: tuple[str, ...]
    kinds: tuple[str, ...]
    created_at: float
    resumed_at: float = 0.0
    paused: bool = False
    paused_why: str | None = None

    def wants(self, event: LoggedEvent) -> bool:
        return event.kind in self.kinds and (not self.companies or event.company in self.companies)


class Registry:
    """`load()` once the file is open; `owe` is for `EventLog.on_added`."""

    def __init__(self, file: MessageFile, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock
        # Replaced as a whole: `owe` may be reading it in the thread that commits.
        self._webhooks: dict[str, Webhook] = {}

    def load(self) -> dict[str, float]:
        """Read them; since when each of those fails that does."""
        rows = self._file.read("select name, spec, failing_since from webhooks order by name")
        seals = self._file.seals
        self._webhooks = {name: seals.open(spec, _place(name), Webhook) for name, spec, _ in rows}
        return {name: since for name, _, since in rows if since is not None}

    def all(self) -> list[Webhook]:
        return list(self._webhooks.values())

    def get(self, name: str) -> Webhook:
        """Raises `UsageError` where there is none."""
        found = self._webhooks.get(name)
        if found is None:
            known = ", ".join(sorted(self._webhooks)[:10])
            raise UsageError(
                f"there is no webhook {name[:50]!r}",
                next_step=f"There are: {known}." if known else "Add one: standfast webhooks add NAME URL",
            )
        return found

    def owe(
        self, connection: sqlite3.Connection, number: int, event: LoggedEvent, chat: bytes | None
    ) -> None:
        """Write down, in the event's transaction, who is to be told of it."""
        for webhook in self._webhooks.values():
            if webhook.wants(event):
                connection.execute(_OWE, (webhook.name, number, event.company, chat or b"", event.at))

    async def add(self, webhook: Webhook) -> None:
        """Raises `Conflict` where the name is taken."""
        sealed = self._file.seals.seal(webhook, _place(webhook.name))

        def step(connection: sqlite3.Connection) -> bool:
            values = (webhook.name, sealed, webhook.created_at)
            statement = (
                "insert into webhooks (name, spec, changed_at) values (?, ?, ?) on conflict do nothing"
            )
            return connection.execute(statement, values).rowcount > 0

        if not await self._file.write(step):
            raise Conflict(f"there is a webhook {webhook.name!r} already")
        self._webhooks = {**self._webhooks, webhook.name: webhook}

    async def change(self, name: str, **changes: Any) -> Webhook:
        """The webhook as it is from now on."""
        changed = msgspec.structs.replace(self.get(name), **changes)
        values = (self._file.seals.seal(changed, _place(name)), self._clock(), name)
        await self._file.write(
            lambda connection: connection.execute(
                "update webhooks set spec = ?, changed_at = ? where name = ?", values
            )
        )
        if name in self._webhooks:
            self._webhooks = {**self._webhooks, name: changed}
        return changed

    async def remove(self, name: str) -> None:
        """From now on it is owed nothing; what it was owed is the deliveries' concern."""
        self.get(name)
        self._webhooks = {other: webhook for other, webhook in self._webhooks.items() if other != name}
        await self._file.write(
            lambda connection: connection.execute("delete from webhooks where name = ?", (name,))
        )

    def note_failing(self, name: str, since: float | None) -> None:
        """Since when nothing has been delivered to it, over restarts."""
        self._file.write_later(
            lambda connection: connection.execute(
                "update webhooks set failing_since = ? where name = ?", (since, name)
            )
        )


def checked_name(name: str) -> str:
    """A webhook's or a consumer's name. Raises `UsageError`."""
    if not _NAME.fullmatch(name):
        raise UsageError("a name has 1 to 50 letters, digits, '-' or '_', and begins with a letter or digit")
    return name


def checked_filter(companies: list[str], kinds: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Companies and kinds of events as they are kept. Raises `UsageError`."""
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(
                f"there is no kind {kind[:20]!r} of event", next_step=f"Kinds: {', '.join(KINDS)}."
            )
    return tuple(dict.fromkeys(company_id(one) for one in companies)), tuple(
        dict.fromkeys(kinds or ["message"])
    )


def _place(name: str) -> str:
    return f"webhook {name}"
