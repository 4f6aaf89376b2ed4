"""What operators do with webhooks: translation between wire and `Webhooks`.

Decides nothing. Invariant: every method checks its params before anything happens.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from standfast.messaging.webhooks import Webhooks
from standfast.service.params import checked
from standfast.service.readers import Limit, Number
from standfast.sessions.gateway import OperatorMethod
from standfast.sessions.wire import Connection


class NamedWebhook(msgspec.Struct):
    """Params that name a webhook."""

    name: str


class Add(msgspec.Struct):
    """Params of `webhooks.add`."""

    name: str
    url: str
    secret: str | None = None
    companies: list[str] = []
    kinds: list[str] = []


class Rotate(msgspec.Struct):
    """Params of `webhooks.rotate`; `keep_h`: for how long the former secret signs as well."""

    name: str
    secret: str | None = None
    keep_h: Annotated[float, Meta(ge=0, le=8_760)] = 24.0


class Dead(msgspec.Struct):
    """Params of `webhooks.dead`."""

    name: str
    after: Number = 0
    limit: Limit = 100


class Replay(msgspec.Struct):
    """Params of `webhooks.replay`: one of the three; `since` in seconds since 1970."""

    name: str
    dead: bool = False
    since: float | None = None
    numbers: list[Number] | None = None


class Hooking:
    """The methods of webhooks, beside those of `Operators`."""

    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks

    def methods(self) -> Mapping[str, OperatorMethod]:
        """By name, for `Gateway.serve_operators`."""
        return {
            "webhooks.list": self._list,
            "webhooks.show": self._show,
            "webhooks.add": self._add,
            "webhooks.remove": self._named(self._webhooks.remove),
            "webhooks.pause": self._named(self._webhooks.pause),
            "webhooks.resume": self._named(self._webhooks.resume),
            "webhooks.test": self._named(self._webhooks.test),
            "webhooks.rotate": self._rotate,
            "webhooks.dead": self._dead,
            "webhooks.replay": self._replay,
        }

    async def _list(self, connection: Connection, params: msgspec.Raw) -> list[dict[str, Any]]:
        return self._webhooks.all()

    async def _show(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        return self._webhooks.show(checked(NamedWebhook, params).name)

    async def _add(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        asked = checked(Add, params)
        return await self._webhooks.add(
            asked.name, asked.url, secret=asked.secret, companies=asked.companies, kinds=asked.kinds
        )

    def _named(self, act: Callable[[str], Awaitable[Any]]) -> OperatorMethod:
        async def serve(connection: Connection, params: msgspec.Raw) -> Any:
            return await act(checked(NamedWebhook, params).name)

        return serve

    async def _rotate(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        asked = checked(Rotate, params)
        return await self._webhooks.rotate(asked.name, asked.secret, asked.keep_h)

    async def _dead(self, connection: Connection, params: msgspec.Raw) -> list[dict[str, Any]]:
        asked = checked(Dead, params)
        return self._webhooks.dead(asked.name, asked.after, asked.limit)

    async def _replay(self, connection: Connection, params: msgspec.Raw) -> dict[str, int]:
        asked = checked(Replay, params)
        count = await self._webhooks.replay(
            asked.name, dead=asked.dead, since=asked.since, numbers=asked.numbers
        )
        return {"replayed": count}
