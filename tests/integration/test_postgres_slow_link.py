"""A narrow link is no outage: what is large takes its time."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import aclosing
from dataclasses import replace

from standfast.authstate.change import Change
from standfast.authstate.company import company_id
from standfast.postgres.leases import Leases
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.postgres.replication import Delivered, Delivery, Replication
from tests.support import Proxy

ACME = company_id("acme")
LINK_BYTES_S = 350_000
PIECE_BYTES = 16_384


class NarrowProxy(Proxy):
    """Passes `LINK_BYTES_S` in each direction, and keeps next to nothing in between."""

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        flowing: asyncio.Event,
        *,
        answers: bool,
    ) -> None:
        while data := await reader.read(PIECE_BYTES):
            await asyncio.sleep(len(data) / LINK_BYTES_S)
            writer.write(data)
            await writer.drain()
        writer.close()


async def test_a_whole_company_passes_a_narrow_link_both_ways(
    tcp_options: DatabaseOptions, database: Database
) -> None:
    """350 KB at 350 KB a second, where a statement may take 0.5 s: its size gives it more time, and the stream has
    no limit but that it goes on."""
    keys: dict[str, bytes | None] = {str(n): b'"%b"' % (b"x" * 184) for n in range(1650)}
    got = await Leases(database).acquire(ACME, str(uuid.UUID(int=1)), 0, create=True)
    async with (
        NarrowProxy.before("127.0.0.1", tcp_options.port or 0) as proxy,
        Database(replace(tcp_options, port=proxy.port, statement_timeout_s=0.5)) as away,
    ):
        replication = Replication(away)
        change = Change(creds=b"{}", keys={"session": keys})
        done = await replication.deliver([Delivery(ACME, got.epoch, 1, 1, change, whole=True)])
        assert done == [Delivered("applied", 1)]
        async with aclosing(replication.stream(ACME)) as chunks:
            assert sum([len(chunk) async for chunk in chunks]) == 1651
