"""The embedded server: it starts whole, belongs to one owner, and never outlives it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from standfast.errors import PortInUse, StateDirectoryError
from standfast.postgres.embedded import EmbeddedServer, running_options
from standfast.postgres.pool import Database, Statement
from standfast.postgres.processes import working_in
from standfast.postgres.server_files import bound_log, socket_directory
from tests.support import until

OWNER = """
import asyncio, sys
from pathlib import Path
from standfast.postgres.embedded import EmbeddedServer

async def main():
    server = EmbeddedServer(Path(sys.argv[1]), durable=False)
    await server.start()
    print(server.pid, flush=True)
    await asyncio.sleep(120)

asyncio.run(main())
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@contextlib.contextmanager
def owner_process(state: Path, *, wait: bool = True) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another process that runs the server in `state`, and the server's pid once it is ready."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(state)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with owner:
        try:
            assert owner.stdout is not None
            yield owner, int(owner.stdout.readline()) if wait else 0
        finally:
            owner.kill()


def stranger_process() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"])


def entries(directory: Path) -> list[Path]:
    return list(directory.iterdir())


def half_done(state: Path) -> list[Path]:
    return list(state.glob("postgres.new-*/PG_VERSION"))


async def test_first_start_makes_the_database_and_later_ones_keep_it(state: Path) -> None:
    """Data and private modes survive a restart; what is listened on is a socket only."""
    async with EmbeddedServer(state) as server:
        async with Database(server.options) as database:
            await database.fetch(Statement("make", "create table kept (id int)"))
            assert await database.fetch(
                Statement("which", "select current_database()::text, version() ~ ' 18'")
            ) == [("standfast", True)]
            assert await database.fetch(Statement("listen", "show listen_addresses")) == [("",)]
            assert await database.fetch(Statement("fsync", "show fsync")) == [("on",)]
        for directory in (state, server.data_dir, server.socket_dir):
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE(server.log_file.stat().st_mode) == 0o600
        assert running_options(state) == server.options
        first_pid = server.pid
    assert running_options(state) is None
    async with EmbeddedServer(state) as server, Database(server.options) as database:
        assert server.pid != first_pid
        assert await database.fetch(Statement("kept", "select count(*) from kept")) == [(0,)]


async def test_the_server_never_runs_as_root_and_its_files_stay_ours(state: Path) -> None:
    async with EmbeddedServer(state) as server:
        assert server.data_dir.stat().st_uid == os.geteuid()
        assert (server.data_dir / "PG_VERSION").stat().st_uid == os.geteuid()


async def test_stopping_is_quick_and_leaves_no_process(state: Path) -> None:
    """Also with clients connected and a statement running."""
    server = EmbeddedServer(state, durable=False)
    await server.start()
    async with Database(server.options) as database:
        busy = asyncio.create_task(database.fetch(Statement("sleep", "select pg_sleep(60)")))
        await until(lambda: len(psutil.Process(server.pid).children()) > 4)
        start = time.monotonic()
        await server.stop()
        assert time.monotonic() - start < 3
        await asyncio.wait([busy])
        assert busy.exception() is not None
    assert working_in(server.data_dir) == []
    assert not server.running


async def test_a_stopped_postmaster_is_ended_all_the_same(state: Path) -> None:
    """A server that answers no signal is killed with all its backends, in time; the next start recovers the data."""
    async with EmbeddedServer(state) as server, Database(server.options) as database:
        await database.fetch(Statement("make", "create table kept (id int)"))
        for process in working_in(server.data_dir):
            process.suspend()
        start = time.monotonic()
        await server.stop()
        assert time.monotonic() - start < 7
    await until(lambda: working_in(server.data_dir) == [])
    async with EmbeddedServer(state, durable=False) as server, Database(server.options) as database:
        assert await database.fetch(Statement("kept", "select count(*) from kept")) == [(0,)]


async def test_it_ends_when_its_owner_is_killed(state: Path) -> None:
    """SIGKILL of the owner ends PostgreSQL within seconds, and the next owner starts."""
    with owner_process(state) as (owner, pid):
        assert psutil.pid_exists(pid)
        owner.kill()
        await until(lambda: not psutil.pid_exists(pid))
    async with EmbeddedServer(state, durable=False) as server, Database(server.options) as database:
        await database.ping()


async def test_a_server_that_was_left_behind_is_stopped_first(state: Path) -> None:
    """The owner was killed and the server hangs: the next start ends it and serves the same data."""
    with owner_process(state) as (owner, pid):
        os.kill(pid, signal.SIGSTOP)
        owner.kill()
        owner.wait()
        assert psutil.pid_exists(pid)
        server = EmbeddedServer(state, durable=False)
        starting = asyncio.create_task(server.start())
        await asyncio.sleep(0.3)
        assert psutil.pid_exists(pid), "it was ended by force although it only had not run"
        os.kill(pid, signal.SIGCONT)
        await starting
        await until(lambda: not psutil.pid_exists(pid))
        async with Database(server.options) as database:
            await database.ping()
        await server.stop()


async def test_a_second_owner_is_refused(state: Path) -> None:
    """The lock is the kernel's: a second start fails clearly and does not touch the first server."""
    with owner_process(state) as (_, pid):
        with pytest.raises(StateDirectoryError, match="another process"):
            await EmbeddedServer(state).start()
        assert psutil.pid_exists(pid)
        options = running_options(state)
        assert options is not None
        async with Database(options) as database:
            await database.ping()


async def test_a_pid_file_that_names_another_program_is_no_obstacle(state: Path) -> None:
    """After a crash the pid may belong to somebody else by now; that program is left alone."""
    async with EmbeddedServer(state, durable=False) as server:
        pass
    with stranger_process() as stranger:
        (server.data_dir / "postmaster.pid").write_text(
            f"{stranger.pid}\n{server.data_dir}\n1\n5432\n\n\n0 0\nready\n"
        )
        async with EmbeddedServer(state, durable=False) as again, Database(again.options) as database:
            await database.ping()
        assert stranger.poll() is None
        stranger.kill()


async def test_a_killed_initdb_leaves_nothing_half_done(state: Path) -> None:
    """The owner dies during the first start; the next one begins from nothing."""
    with owner_process(state, wait=False) as (owner, _):
        await until(lambda: bool(half_done(state)))
        owner.kill()
    assert not (state / "postgres").exists()
    async with EmbeddedServer(state, durable=False) as server, Database(server.options) as database:
        await database.ping()
    assert not half_done(state)


async def test_a_data_directory_of_another_version_is_refused(state: Path) -> None:
    data = state / "postgres"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("16\n")
    with pytest.raises(StateDirectoryError, match="PostgreSQL 16"):
        await EmbeddedServer(state).start()
    (data / "PG_VERSION").unlink()
    with pytest.raises(StateDirectoryError, match="not a PostgreSQL data directory"):
        await EmbeddedServer(state).start()


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs util-linux's unshare")
async def test_root_without_user_namespaces_is_told_what_to_do(state: Path) -> None:
    """A kernel that forbids them, made for this one process: a clear error, and nothing half done."""
    forbid = f'echo 0 > /proc/sys/user/max_user_namespaces && exec "{sys.executable}" -c "$0" "$1"'
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--user", "--map-root-user", "sh", "-c", forbid, OWNER, str(state)),
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(20):
        _, err = await process.communicate()
    assert "SettingsError: PostgreSQL does not run as root" in err.decode()
    assert [entry.name for entry in entries(state)] == ["postgres.lock"]


async def test_a_taken_port_is_named(state: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortInUse, match=str(taken.getsockname()[1])):
            await EmbeddedServer(state, listen_port=taken.getsockname()[1], durable=False).start()
    assert working_in(state / "postgres") == []


async def test_a_failed_start_can_be_repeated(state: Path) -> None:
    """A configuration that PostgreSQL refuses is an error with its words; mended, it starts."""
    async with EmbeddedServer(state, durable=False) as server:
        pass
    override = server.data_dir / "postgresql.auto.conf"
    override.write_text("shared_buffers = 'nonsense'\n")
    with pytest.raises(Exception, match="did not start") as caught:
        await server.start()
    assert "postgres.log" in str(getattr(caught.value, "next_step", ""))
    override.write_text("")
    await server.start()
    await server.stop()


async def test_a_long_path_gets_a_short_socket_directory(tmp_path: Path) -> None:
    """Sockets have addresses of about 100 bytes: a private short directory serves, and goes with the server."""
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    async with EmbeddedServer(deep, durable=False) as server:
        assert server.socket_dir == socket_directory(deep)
        assert not server.socket_dir.is_relative_to(deep)
        assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
        async with Database(server.options) as database:
            await database.ping()
        assert running_options(deep) == server.options
    assert not server.socket_dir.exists()


@pytest.mark.parametrize("name", ["a, b", "it's", "umlaut-ä", "per%cent"])
async def test_odd_characters_in_the_state_directory(tmp_path: Path, name: str) -> None:
    async with EmbeddedServer(tmp_path / name, durable=False) as server, Database(server.options) as database:
        await database.ping()


def test_the_log_is_bounded(tmp_path: Path) -> None:
    """A log past its limit is moved to .1, its end kept; the file itself stays the one that is written to."""
    log = tmp_path / "postgres.log"
    with log.open("a") as writer:
        writer.write("x" * 500 + "the end")
        writer.flush()
        bound_log(log, limit_bytes=100)
        assert (tmp_path / "postgres.log.1").read_text().endswith("xthe end")
        assert (tmp_path / "postgres.log.1").stat().st_size <= 507
        writer.write("after")
        writer.flush()
        assert log.read_text() == "after"


async def test_nothing_that_is_stored_reaches_the_log(state: Path) -> None:
    """Neither statements nor rows: a refused value is key material."""
    async with EmbeddedServer(state, durable=False) as server:
        async with Database(server.options) as database:
            await database.fetch(
                Statement("make", "create table t (v jsonb check (v::text <> '\"made-up-secret-1\"'))")
            )
            for value in ('"made-up-secret-1"', '{"made-up-secret-2'):
                with contextlib.suppress(Exception):
                    await database.fetch(Statement("insert", "insert into t values ($1::jsonb)"), [value])
        assert "made-up-secret" not in server.log_file.read_text()
        assert "ERROR" in server.log_file.read_text()
