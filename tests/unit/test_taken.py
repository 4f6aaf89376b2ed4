"""What a node that takes a company over knows of the messages that the former one took."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from standfast.authstate.company import Company
from standfast.authstate.store import KeyBatch
from standfast.errors import CompanyInUse
from standfast.messaging.taken import ID, LIMIT, TYPE, Taken
from tests.messaging import ACME


class Keys:
    """A company's keys; `fails` is raised by every call."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}
        self.writes = 0
        self.fails: CompanyInUse | None = None

    async def get_keys(self, company: Company, key_type: str, ids: Sequence[str]) -> dict[str, bytes]:
        if self.fails:
            raise self.fails
        return dict(self.stored)

    async def set_keys(self, company: Company, batch: KeyBatch) -> None:
        await asyncio.sleep(0)
        if self.fails:
            raise self.fails
        value = batch[TYPE][ID]
        assert value is not None
        self.stored = {ID: value}
        self.writes += 1


async def test_the_next_node_knows_what_the_former_one_took() -> None:
    """The latest messages, by digests: no address stands in the key; many at once share a write."""
    keys = Keys()
    first = Taken(keys)
    for number in range(LIMIT + 1):
        first.add(ACME, "79990000001@s.whatsapp.net", f"A{number}")
    await first.close()
    second = Taken(keys)
    known = [await second.has(ACME, "79990000001@s.whatsapp.net", f"A{number}") for number in (0, 1, LIMIT)]
    assert known == [False, True, True]
    assert not await second.has(ACME, "other@lid", "A1")
    assert keys.writes == 1
    assert b"7999" not in keys.stored[ID]


async def test_what_another_node_took_meanwhile_is_read_when_the_session_is_open_again() -> None:
    """The company may have been away."""
    keys = Keys()
    here, there = Taken(keys), Taken(keys)
    assert not await here.has(ACME, "x@lid", "A1")
    assert not await there.has(ACME, "x@lid", "A1")
    there.add(ACME, "x@lid", "A1")
    await there.close()
    assert not await here.has(ACME, "x@lid", "A1")
    here.reopened(ACME)
    assert await here.has(ACME, "x@lid", "A1")


async def test_an_error_is_not_an_absence() -> None:
    """Where the company's keys cannot be read the message is not taken; where they cannot be written it was."""
    keys = Keys()
    keys.fails = CompanyInUse("another node has it")
    taken = Taken(keys)
    with pytest.raises(CompanyInUse):
        await taken.has(ACME, "x@lid", "A1")
    taken.add(ACME, "x@lid", "A1")
    await taken.close()
    assert await taken.has(ACME, "x@lid", "A1")
