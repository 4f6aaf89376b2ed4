"""Disks that are full: PostgreSQL's, and this machine's. Each case is a process of its own, which limits itself."""

from __future__ import annotations

import asyncio
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from standfast.errors import JournalUnwritable
from standfast.postgres.options import DatabaseOptions
from standfast.vault.storage import files
from standfast.vault.vault import Vault
from tests.chaos.private_mount import Filler, enter_private_mounts, mount_small, unmount
from tests.integration.own_server import OwnServer
from tests.integration.vaults import ACME, Load, in_postgres, node, pair
from tests.support import until

NOTICED_S = 6.0
WAITING_S = 0.5
DISK_BYTES = 64 * 2**20
FILE_BYTES = 2 * 2**20
NO_MOUNTS = 77
VALUE = b'"' + b"x" * 20_000 + b'"'


async def _postgres_is_full(directory: Path) -> None:
    """Heartbeats go on, for they overwrite; new keys find no room."""
    disk = directory / "disk"
    disk.mkdir()
    if not mount_small(disk, DISK_BYTES):
        sys.exit(NO_MOUNTS)
    server = OwnServer(directory / "server")
    try:
        place = disk / "tablespace"
        place.mkdir(mode=0o700)
        await server.start()
        server.execute(f"create tablespace small location '{place}'")
        await _bridged(directory / "vault", server, Filler(disk))
    finally:
        await server.stop()
        unmount(disk)


async def _bridged(directory: Path, server: OwnServer, filler: Filler) -> None:
    options = server.new_database("tablespace small")
    await pair(options)
    async with node(directory, server.as_node(options)) as one:
        await one.vault.open(ACME)
        await one.in_state("online")
        filler.fill()
        async with Load(one.vault) as load:
            many = {f"{n}": VALUE for n in range(400)}
            await one.vault.set_keys(ACME, {"pre-key": many})
            await one.in_state("outage", NOTICED_S)
            assert one.cause() == "disk_full", one.cause()
            await load.goes_on()
            filler.empty()
            await one.in_state("online")
            await load.goes_on()
        await until(lambda: not one.vault.holdings()[0].pending)
        assert one.alerts.names() == ["outage_began", "restored"], one.alerts.names()
        assert load.slowest_s < WAITING_S
    assert await in_postgres(options) == {"first": b"0"} | load.written
    assert len(await in_postgres(options, "pre-key")) == len(many)


async def _machine_is_full(directory: Path, conninfo: str) -> None:
    """Files may not grow beyond some size, as on a disk without room."""
    files.LOG_BYTES = files.CHECKPOINT_BYTES = 512 * 1024
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    options = DatabaseOptions(conninfo)
    async with node(directory, options) as one:
        vault = one.vault
        await vault.open(ACME)
        await one.in_state("online")
        limit(FILE_BYTES)
        written = await _write_until_refused(vault)
        assert not is_writable(vault)
        for key_id in written:
            assert await vault.get_keys(ACME, "pre-key", [key_id]) == {key_id: VALUE}
        assert one.vault.outage.state == "online"
        await until(lambda: not vault.holdings()[0].pending)
        assert set(await in_postgres(options, "pre-key")) == set(written)
        limit(resource.RLIM_INFINITY)
        await until(lambda: is_writable(vault))
        await vault.set_keys(ACME, {"session": {"after": b"1"}})
        await until(lambda: "journal_writable_again" in one.alerts.names())
        assert one.alerts.names() == ["journal_unwritable", "journal_writable_again"], one.alerts.names()
    assert (await in_postgres(options))["after"] == b"1"


def limit(size_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))


def is_writable(vault: Vault) -> bool:
    try:
        vault.check_writable()
    except JournalUnwritable:
        return False
    return True


async def _write_until_refused(vault: Vault) -> list[str]:
    written: list[str] = []
    for number in range(1000):
        try:
            await vault.set_keys(ACME, {"pre-key": {f"{number}": VALUE}})
        except JournalUnwritable:
            assert await vault.get_keys(ACME, "pre-key", [f"{number}"]) == {}
            return written
        written.append(f"{number}")
    raise AssertionError("the disk never was full")


async def ran(*arguments: str) -> int:
    """The exit code of a process of this module."""
    command = [sys.executable, "-m", "tests.integration.test_vault_full_disks", *arguments]
    root = Path(__file__).parents[2]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=root, capture_output=True, timeout=45, check=False
    )
    assert done.returncode in (0, NO_MOUNTS), done.stdout.decode()[-3000:] + done.stderr.decode()[-6000:]
    return done.returncode


async def test_a_full_disk_of_postgres_is_bridged() -> None:
    """An outage within seconds, though heartbeats succeed; once there is room again everything arrives."""
    with tempfile.TemporaryDirectory(prefix="sf-") as directory:
        if await ran("postgres", directory) == NO_MOUNTS:
            pytest.skip("this kernel lets an ordinary user mount nothing")


async def test_a_full_disk_of_this_machine_refuses_writes_and_nothing_else(
    tmp_path: Path, tcp_options: DatabaseOptions
) -> None:
    """Reads go on, what was acknowledged reaches PostgreSQL, and with room again writes are taken by themselves."""
    await pair(tcp_options)
    assert await ran("machine", str(tmp_path), tcp_options.to_conninfo()) == 0


def main(kind: str, directory: str, *more: str) -> None:
    works: dict[str, Callable[..., Awaitable[None]]] = {
        "postgres": _postgres_is_full,
        "machine": _machine_is_full,
    }
    # While there is one thread only.
    if kind == "postgres" and not enter_private_mounts():
        sys.exit(NO_MOUNTS)
    asyncio.run(works[kind](Path(directory), *more))  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
