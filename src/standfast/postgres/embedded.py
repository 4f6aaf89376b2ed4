"""The embedded PostgreSQL: one server in the state directory, for those who bring none.

Invariant: it lives exactly as long as its owner. The kernel stops it when the owner is killed, and a server that
an earlier owner left behind is stopped before a new one starts. One owner at a time, by a lock of the kernel's.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

import psutil
from psycopg import sql

from standfast.errors import DatabaseUnavailable, PortInUse, StandfastError, StateDirectoryError
from standfast.postgres import cluster
from standfast.postgres.binaries import EMBEDDED_MAJOR, embedded_binaries
from standfast.postgres.launcher import NAMESPACE_REFUSED
from standfast.postgres.observing import QueryObserver
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database, Statement
from standfast.postgres.processes import end, exited, spawn, working_in
from standfast.postgres.server_binaries import ServerBinaries
from standfast.postgres.server_files import (
    SOCKET_PORT,
    bound_log,
    make_private,
    read_pid_file,
    socket_directory,
    tail,
)

DATABASE = "standfast"
_START_TIMEOUT_S = 60.0
_FIND_DATABASE = Statement("server.find_database", "select 1 from pg_database where datname = $1")
_CREATE_DATABASE = Statement("server.create_database", f"create database {DATABASE}", heavy=True)
# SIGINT asks for a fast shutdown, SIGQUIT for an immediate one, after which the next start recovers.
_STOP_STEPS = ((signal.SIGINT, 3.0), (signal.SIGQUIT, 1.5))
_STALE_STEPS = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 2.0), (signal.SIGKILL, 2.0))
_POLL_S = 0.02
_LOG_CHECK_S = 30.0


class EmbeddedServer:
    """`async with EmbeddedServer(state_dir) as server: server.options …`

    Without `listen_port` it is reached by its Unix socket only, in a directory that only its owner may enter.
    With it, also on 127.0.0.1 by password (`tcp_options`); 0 picks a free port. `durable=False` is for tests and for
    what is thrown away, as are other `binaries` than the embedded ones and `tuning` of PostgreSQL's settings.
    Start it from a thread that lives as long as it shall: the kernel ties it to that thread.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        listen_port: int | None = None,
        password: str | None = None,
        durable: bool = True,
        observer: QueryObserver | None = None,
        binaries: ServerBinaries | None = None,
        tuning: Mapping[str, str] | None = None,
    ) -> None:
        self.state_dir = state_dir.absolute()
        self.data_dir = self.state_dir / "postgres"
        self.log_file = self.state_dir / "postgres.log"
        self._tcp = listen_port is not None
        self._port = (listen_port or _free_port()) if self._tcp else SOCKET_PORT
        self._password = password or secrets.token_urlsafe(24)
        self._durable = durable
        self._observer = observer
        self._binaries = binaries
        self._tuning = tuning
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        self._log_keeper: asyncio.Task[None] | None = None
        self._log_start_bytes = 0
        self.socket_dir = socket_directory(self.state_dir)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How the process ended (negative: the signal); None while it runs, or where there is none."""
        return self._process.poll() if self._process else None

    @property
    def options(self) -> DatabaseOptions:
        """How to reach it; known before it is started."""
        return _socket_options(self.socket_dir, self._port)

    @property
    def tcp_options(self) -> DatabaseOptions:
        assert self._tcp, "the server was not asked to listen"
        return DatabaseOptions(
            host="127.0.0.1",
            port=self._port,
            dbname=DATABASE,
            user=cluster.SUPERUSER,
            password=self._password,
        )

    async def start(self) -> DatabaseOptions:
        """Start the server, making its data directory first where there is none. After a failure nothing runs."""
        self._acquire_lock()
        try:
            await self._end_stale()
            if self.data_dir.exists():
                cluster.check(self.data_dir)
            else:
                await cluster.create(self.data_dir, self._programs(), durable=self._durable)
            self._prepare()
            self._launch()
            await self._wait_until_ready()
            await self._prepare_database()
        except BaseException:
            await self.stop()
            raise
        self._log_keeper = asyncio.create_task(self._keep_log_bounded(), name="postgres-log")
        return self.options

    async def stop(self) -> None:
        """End the server: what it has confirmed is on disk. Fast first, then harder; within about 5 s."""
        if self._log_keeper:
            self._log_keeper.cancel()
            self._log_keeper = None
        try:
            if self._process:
                await self._end_process(self._process)
        finally:
            self._process = None
            self._remove_socket_directory()
            self._release_lock()

    def _prepare(self) -> None:
        make_private(self.socket_dir)
        cluster.configure(
            self.data_dir,
            socket_dir=self.socket_dir,
            port=self._port,
            tcp=self._tcp,
            durable=self._durable,
            major=self._programs().major,
            tuning=self._tuning,
        )
        bound_log(self.log_file)

    def _launch(self) -> None:
        log = os.open(self.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._log_start_bytes = os.fstat(log).st_size
        try:
            program = self._programs().directory / "postgres"
            self._process = spawn(program, "-D", str(self.data_dir), output=log)
        finally:
            os.close(log)

    def _programs(self) -> ServerBinaries:
        return self._binaries or ServerBinaries(embedded_binaries(), EMBEDDED_MAJOR)

    async def _wait_until_ready(self) -> None:
        process = self._process
        assert process is not None
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._is_ready(process.pid):
            if process.poll() is not None:
                raise self._start_failure(process.returncode)
            if time.monotonic() > deadline:
                raise DatabaseUnavailable(
                    f"the embedded PostgreSQL was not ready within {_START_TIMEOUT_S:g} s",
                    next_step=f"It may be recovering: see {self.log_file} and start again.",
                    cause="starting",
                )
            await asyncio.sleep(_POLL_S)

    def _is_ready(self, pid: int) -> bool:
        found = read_pid_file(self.data_dir)
        return found is not None and found.pid == pid and found.is_ready

    def _start_failure(self, code: int) -> StandfastError:
        if code == NAMESPACE_REFUSED:
            return cluster.namespace_refused()
        written = tail(self.log_file, self._log_start_bytes)
        if "Address already in use" in written:
            return PortInUse(f"port {self._port} on 127.0.0.1 is taken")
        fatal = re.findall(r"(?:FATAL|PANIC): *(.{1,200})", written)
        return DatabaseUnavailable(
            f"the embedded PostgreSQL did not start: {fatal[-1] if fatal else f'it ended with code {code}'}",
            next_step=f"See {self.log_file}; free disk space, or restore the state directory from a backup.",
            cause="embedded_start",
        )

    async def _prepare_database(self) -> None:
        options = replace(
            _socket_options(self.socket_dir, self._port, "postgres"),
            connect_timeout_s=_START_TIMEOUT_S,
            checkout_timeout_s=_START_TIMEOUT_S,
            statement_timeout_s=_START_TIMEOUT_S,
        )
        async with Database(options, self._observer) as database:
            if not await database.fetch(_FIND_DATABASE, [DATABASE]):
                await database.fetch(_CREATE_DATABASE)
            if self._tcp:
                role, password = sql.Identifier(cluster.SUPERUSER), sql.Literal(self._password)
                change = sql.SQL("alter role {} password {}").format(role, password)
                await database.fetch(Statement("server.set_password", change.as_string()))

    async def _end_stale(self) -> None:
        """A server whose owner was killed may still be shutting down, or hang."""
        await end(working_in(self.data_dir), _STALE_STEPS)
        # With no server left, a pid that it names is by now another program's; PostgreSQL would refuse to start.
        (self.data_dir / "postmaster.pid").unlink(missing_ok=True)

    async def _end_process(self, process: subprocess.Popen[bytes]) -> None:
        remnants = working_in(self.data_dir) if process.poll() is None else []
        try:
            for number, limit_s in _STOP_STEPS:
                if process.poll() is None:
                    process.send_signal(number)
                    await exited(process, limit_s)
        finally:
            if process.poll() is None:
                process.kill()
                for remnant in remnants:
                    with contextlib.suppress(psutil.Error):
                        remnant.kill()
                process.wait()

    async def _keep_log_bounded(self) -> None:
        while True:
            await asyncio.sleep(_LOG_CHECK_S)
            bound_log(self.log_file)

    def _acquire_lock(self) -> None:
        if self._lock is not None:
            raise StateDirectoryError(f"the embedded PostgreSQL in {self.state_dir} is already started")
        make_private(self.state_dir)
        lock = os.open(self.state_dir / "postgres.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise StateDirectoryError(
                f"another process runs the embedded PostgreSQL in {self.state_dir}"
            ) from None
        self._lock = lock

    def _release_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _remove_socket_directory(self) -> None:
        if self.socket_dir.parent != self.state_dir:
            with contextlib.suppress(OSError):
                self.socket_dir.rmdir()


def running_options(state_dir: Path) -> DatabaseOptions | None:
    """How to reach the server that another process runs in `state_dir`; None where none is ready."""
    found = read_pid_file(state_dir.absolute() / "postgres")
    if found is None or not found.is_ready or not psutil.pid_exists(found.pid):
        return None
    return _socket_options(found.socket_dir, found.port)


def _socket_options(socket_dir: Path, port: int, dbname: str = DATABASE) -> DatabaseOptions:
    return DatabaseOptions(host=str(socket_dir), port=port, dbname=dbname, user=cluster.SUPERUSER)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
