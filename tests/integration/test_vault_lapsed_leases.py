"""After an outage every lease has run out: who had the company last goes on with it, whoever comes back first."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from standfast.errors import CompanyInUse
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database, Statement
from tests.integration.vaults import ACME, QUICK, Node, in_postgres, node, pair
from tests.support import Proxy, until

# As if both nodes had been silent for the lease's time.
_LAPSE = Statement("lapse", "update standfast_nodes set alive_until = now() - interval '1 second'")


@contextlib.asynccontextmanager
async def _apart(directory: Path, options: DatabaseOptions, name: str) -> AsyncIterator[tuple[Node, Proxy]]:
    """A node with a way to PostgreSQL of its own."""
    assert options.host is not None
    assert options.port is not None
    async with Proxy.before(options.host, options.port) as proxy:
        far, quick = replace(options, port=proxy.port), replace(QUICK, node_name=name, lease_ttl_s=60.0)
        async with node(directory / name, far, quick) as made:
            yield made, proxy


async def test_a_former_owner_that_comes_back_first_takes_nothing(
    tmp_path: Path, tcp_options: DatabaseOptions, database: Database
) -> None:
    """It puts its journal aside and leaves the company; the last owner's journal arrives whole."""
    await pair(tcp_options)
    async with _apart(tmp_path, tcp_options, "old") as (old, old_way):
        await old.vault.open(ACME)
        await old.in_state("online")
        await old_way.close()
        await old.vault.set_keys(ACME, {"session": {"old": b"1"}})
        await database.fetch(_LAPSE)
        async with _apart(tmp_path, tcp_options, "new") as (new, new_way):
            await new.vault.open(ACME)
            await new.in_state("online")
            await new_way.close()
            await new.vault.set_keys(ACME, {"session": {"new": b"2"}})
            await database.fetch(_LAPSE)
            await old_way.listen()
            await until(lambda: bool(old.alerts.named("fenced")))
            with pytest.raises(CompanyInUse):
                await old.vault.set_keys(ACME, {"session": {"old": b"3"}})
            await new_way.listen()
            await new.in_state("online")
            await new.vault.set_keys(ACME, {"session": {"more": b"4"}})
            expected = {"first": b"0", "new": b"2", "more": b"4"}

            async def has_arrived() -> bool:
                return await in_postgres(tcp_options) == expected

            await until(has_arrived)
            assert not new.alerts.named("fenced")
            (kept,) = old.vault.replica.quarantined()
            assert old.vault.replica.quarantined_change(kept.id).keys == {"session": {"old": b"1"}}
