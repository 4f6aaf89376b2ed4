"""Who a node is outlives the file that says so, for as long as its process runs."""

from __future__ import annotations

from pathlib import Path

from standfast.errors import StandfastError
from standfast.postgres.options import DatabaseOptions
from tests.integration.vaults import ACME, in_postgres, node, pair
from tests.support import until


def _spoil(directory: Path) -> None:
    """Nothing of the vault's file can be read any more."""
    for name in ("vault.db", "vault.db-wal"):
        with (directory / name).open("r+b") as file:
            size = file.seek(0, 2)
            file.seek(0)
            file.write(b"\xaa" * size)


async def test_a_file_that_is_lost_under_a_session_does_not_fence_the_session(
    tmp_path: Path, tcp_options: DatabaseOptions
) -> None:
    """The new file is the same node's: no lease of its own stands in its way."""
    await pair(tcp_options)
    async with node(tmp_path, tcp_options) as one:
        await one.vault.open(ACME)
        await one.in_state("online")
        name, database = one.vault.replica.node, one.vault.replica.database
        _spoil(tmp_path)
        await one.vault.replica.verify()
        assert one.alerts.named("replica_corrupt")

        async def writes() -> bool:
            try:
                await one.vault.set_keys(ACME, {"session": {"x": b"1"}})
                return await one.vault.get_keys(ACME, "session", ["first", "x"]) == {"first": b"0", "x": b"1"}
            except StandfastError:
                return False

        await until(writes)
        assert (one.vault.replica.node, one.vault.replica.database) == (name, database)
        assert not one.alerts.named("fenced")

        async def has_arrived() -> bool:
            return await in_postgres(tcp_options) == {"first": b"0", "x": b"1"}

        await until(has_arrived)
