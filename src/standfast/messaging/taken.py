"""`Taken`: which messages of a company were taken lately, kept with its auth state for the node that has it next.

A host that is killed between taking a message and its receipt leaves that message with WhatsApp, which delivers it
again. This machine knows it from its own file; another node that takes the company over knows it from here. Invariant:
what is kept are digests, the latest ones; nothing waits for them to be written.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Protocol

import msgspec
import structlog

from standfast.authstate.company import Company
from standfast.authstate.key_types import OWN_PREFIX
from standfast.authstate.store import KeyBatch
from standfast.errors import StandfastError

log = structlog.get_logger(__name__)
TYPE, ID = f"{OWN_PREFIX}taken", "latest"
LIMIT = 40
_DIGEST_CHARS = 16


class Keys(Protocol):
    """The part of the vault that is used here; the company is open."""

    async def get_keys(self, company: Company, key_type: str, ids: Sequence[str]) -> dict[str, bytes]: ...

    async def set_keys(self, company: Company, batch: KeyBatch) -> None: ...


class Taken:
    """`reopened` whenever a company's session is open anew: another node may have had it meanwhile."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._latest: dict[Company, dict[str, None]] = {}
        self._writing: dict[Company, asyncio.Task[None]] = {}

    def reopened(self, company: Company) -> None:
        """Read anew what was taken before the next message is."""
        if company not in self._writing:  # else it was not away: what is being written is the latest
            self._latest.pop(company, None)

    async def has(self, company: Company, chat: str, message_id: str) -> bool:
        """Whether the message was taken, here or by another node. Raises what reading the company's keys raises."""
        latest = self._latest.get(company)
        if latest is None:
            stored = (await self._keys.get_keys(company, TYPE, [ID])).get(ID)
            latest = dict.fromkeys(msgspec.json.decode(stored, type=list[str]) if stored else ())
            self._latest[company] = latest
        return _digest(chat, message_id) in latest

    def add(self, company: Company, chat: str, message_id: str) -> None:
        """The message was taken."""
        latest = self._latest.setdefault(company, {})
        latest[_digest(chat, message_id)] = None
        while len(latest) > LIMIT:
            del latest[next(iter(latest))]
        if company not in self._writing:
            self._writing[company] = asyncio.get_running_loop().create_task(self._write(company))

    async def close(self) -> None:
        """Wait for what is being written."""
        await asyncio.gather(*self._writing.values(), return_exceptions=True)

    async def _write(self, company: Company) -> None:
        """Write the latest; what is added meanwhile shares the next write."""
        written: list[str] = []
        try:
            while (latest := list(self._latest.get(company, written))) != written:
                await self._keys.set_keys(company, {TYPE: {ID: msgspec.json.encode(latest)}})
                written = latest
        except StandfastError as error:
            log.warning("which messages were taken was not written down", company=company, error=error.code)
        finally:
            del self._writing[company]


def _digest(chat: str, message_id: str) -> str:
    return hashlib.sha256(f"{chat}\0{message_id}".encode()).hexdigest()[:_DIGEST_CHARS]
