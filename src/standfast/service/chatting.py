"""What operators do in chats beside sending: translation between wire and messenger.

Decides nothing. Invariant: every method checks its params before anything happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from standfast.errors import UsageError
from standfast.messaging.messenger import TYPING_LIMIT_S, Messenger
from standfast.service.params import checked
from standfast.sessions.gateway import OperatorMethod
from standfast.sessions.wire import Connection


class Cancel(msgspec.Struct):
    """Params of `messages.cancel`."""

    company: str
    message_id: str


class Read(msgspec.Struct):
    """Params of `messages.read`."""

    company: str
    chat: str
    message_ids: Annotated[list[str], msgspec.Meta(min_length=1, max_length=500)] | None = None


class Fetch(msgspec.Struct):
    """Params of `messages.download`. The service writes the file: its bytes do not cross the socket."""

    company: str
    chat: str
    message_id: str
    file: str


class Typing(msgspec.Struct):
    """Params of `chats.typing`."""

    company: str
    chat: str
    typing: bool = True
    ttl_s: float = TYPING_LIMIT_S


class OfCompany(msgspec.Struct):
    """Params of `groups.list`."""

    company: str


class OfGroup(msgspec.Struct):
    """Params of `groups.info`."""

    company: str
    group: str


class Chatting:
    """The methods that act in chats, beside those of `Operators`."""

    def __init__(self, messenger: Messenger) -> None:
        self._messenger = messenger

    def methods(self) -> Mapping[str, OperatorMethod]:
        """By name, for `Gateway.serve_operators`."""
        return {
            "messages.cancel": self._cancel,
            "messages.read": self._read,
            "messages.download": self._download,
            "chats.typing": self._typing,
            "groups.list": self._groups,
            "groups.info": self._group,
        }

    async def _cancel(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        asked = checked(Cancel, params)
        return self._messenger.cancel(asked.company, asked.message_id).as_wire()

    async def _read(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        asked = checked(Read, params)
        return {"message_ids": await self._messenger.read(asked.company, asked.chat, asked.message_ids)}

    async def _download(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        asked = checked(Fetch, params)
        path = Path(asked.file)
        if not path.is_absolute():
            raise UsageError("the service needs an absolute path: it does not know where its caller stands")
        async with self._messenger.download(asked.company, asked.chat, asked.message_id) as download:
            await asyncio.to_thread(download.save, path)
        return {
            "file": asked.file,
            "mime_type": download.mime_type,
            "file_name": download.file_name,
            "size_bytes": download.size_bytes,
            "sha256": download.sha256,
        }

    async def _typing(self, connection: Connection, params: msgspec.Raw) -> None:
        asked = checked(Typing, params)
        await self._messenger.typing(asked.company, asked.chat, asked.typing, asked.ttl_s)

    async def _groups(self, connection: Connection, params: msgspec.Raw) -> list[dict[str, Any]]:
        return await self._messenger.groups(checked(OfCompany, params).company)

    async def _group(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        asked = checked(OfGroup, params)
        return await self._messenger.group(asked.company, asked.group)
