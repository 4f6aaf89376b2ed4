"""Who goes on as which consumer of the log: translation between wire and `Consumers`.

Invariant: a name belongs to one connection at a time, so that two programs cannot skip each other's events.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from standfast.errors import Conflict
from standfast.messaging.consumers import Consumers
from standfast.service.params import checked
from standfast.service.readers import Number
from standfast.sessions.gateway import OperatorMethod
from standfast.sessions.wire import Connection


class NamedConsumer(msgspec.Struct):
    """Params of `consumers.open` and `consumers.remove`."""

    name: str


class Acknowledge(msgspec.Struct):
    """Params of `events.ack`."""

    consumer: str
    number: Number


class Consuming:
    """The methods of consumers, beside those of `Operators`."""

    def __init__(self, consumers: Consumers) -> None:
        self._consumers = consumers
        self._holders: dict[str, Connection] = {}

    def methods(self) -> Mapping[str, OperatorMethod]:
        """By name, for `Gateway.serve_operators`."""
        return {
            "consumers.open": self._open,
            "consumers.list": self._list,
            "consumers.remove": self._remove,
            "events.ack": self._acknowledge,
        }

    def gone(self, connection: Connection) -> None:
        """The connection's names are free."""
        self._holders = {name: holder for name, holder in self._holders.items() if holder is not connection}

    async def _open(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        name = checked(NamedConsumer, params).name
        self._hold(connection, name)
        return {"after": await self._consumers.open(name)}

    async def _acknowledge(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        asked = checked(Acknowledge, params)
        self._hold(connection, asked.consumer)  # after a restart of the service nobody has the name yet
        return {"after": await self._consumers.acknowledge(asked.consumer, asked.number)}

    async def _list(self, connection: Connection, params: msgspec.Raw) -> list[dict[str, Any]]:
        return [{**one, "connected": one["name"] in self._holders} for one in self._consumers.all()]

    async def _remove(self, connection: Connection, params: msgspec.Raw) -> None:
        name = checked(NamedConsumer, params).name
        if name in self._holders:
            raise Conflict(f"a program goes on as consumer {name!r} now", next_step="End it first.")
        await self._consumers.remove(name)

    def _hold(self, connection: Connection, name: str) -> None:
        holder = self._holders.get(name)
        if holder is not None and holder is not connection and holder.is_open:
            raise Conflict(
                f"another program goes on as consumer {name[:50]!r}",
                next_step="End it, or choose another name; each consumer gets every message.",
            )
        if connection.is_open:
            self._holders[name] = connection
