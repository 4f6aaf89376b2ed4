"""`Server`: the PostgreSQL of the chaos runs, and what befalls it.

Invariant: what it has confirmed survives the death of its processes (which write through to the kernel at each
commit, though they sync nothing); every fault here can be ended, and `mend` ends all.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import AsyncConnection, sql

from standfast.postgres.embedded import EmbeddedServer
from standfast.postgres.migrations import migrate
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from tests.chaos import ledger
from tests.chaos.private_mount import Filler, mount_small, unmount

DATABASE = "chaos"
_TABLESPACE_BYTES = 96 * 2**20
_CONNECT_TIMEOUT_S = 15.0
_STATEMENT_TIMEOUT_MS = 10_000


class Server:
    """`unguarded`: a defect to be found, PostgreSQL lets every epoch in. `mounts`: we may mount file systems."""

    def __init__(self, directory: Path, *, mounts: bool, unguarded: bool = False) -> None:
        self._embedded = EmbeddedServer(directory, listen_port=0, durable=False)
        self._tablespace = directory / "tablespace"
        self._mounts = mounts
        self._unguarded = unguarded
        self._filler: Filler | None = None
        self._connection: AsyncConnection[Any] | None = None
        self._frozen: list[psutil.Process] = []
        self._is_stopped = False
        self._is_limited = False

    @property
    def is_there(self) -> bool:
        """Whether it answers, or will in a moment."""
        return not self._frozen and not self._is_stopped

    @property
    def is_well(self) -> bool:
        """Whether it takes writes."""
        return self.is_there and not self._is_limited

    @property
    def port(self) -> int:
        """On 127.0.0.1."""
        return self._embedded.tcp_options.port or 0

    @property
    def worker_options(self) -> DatabaseOptions:
        """How a worker reaches it; host and port are replaced by its link's. Short deadlines: time runs faster here."""
        return replace(
            self._embedded.tcp_options,
            dbname=DATABASE,
            max_connections=6,
            connect_timeout_s=1.0,
            checkout_timeout_s=1.0,
            statement_timeout_s=1.0,
        )

    async def start(self) -> None:
        await self._embedded.start()
        async with await self._connect("postgres") as connection:
            # In the file of ALTER SYSTEM, which is read after the one that the embedded server is started with.
            await connection.execute("alter system set synchronous_commit = on")
            await connection.execute("select pg_reload_conf()")
            await connection.execute(
                sql.SQL("create database {} {}").format(
                    sql.Identifier(DATABASE), await self._place(connection)
                )
            )
        async with Database(replace(self._embedded.options, dbname=DATABASE)) as database:
            await migrate(database)
        connection = await self.connection()
        await ledger.install(connection)
        if self._unguarded:
            await ledger.remove_guard(connection)

    async def _place(self, connection: AsyncConnection[Any]) -> sql.Composable:
        self._tablespace.mkdir(mode=0o700)
        if not (self._mounts and mount_small(self._tablespace, _TABLESPACE_BYTES)):
            return sql.SQL("")
        inner = self._tablespace / "postgres"
        inner.mkdir(mode=0o700)
        await connection.execute(sql.SQL("create tablespace small location {}").format(str(inner)))
        self._filler = Filler(self._tablespace)
        return sql.SQL("tablespace small")

    async def stop(self) -> None:
        try:
            await self.mend()
        finally:
            await self._disconnect()
            await self._embedded.stop()
            if self._filler is not None:
                unmount(self._tablespace)

    async def connection(self) -> AsyncConnection[Any]:
        """The controller's own, by the socket, made anew where it was lost; waits while the server recovers."""
        deadline = time.monotonic() + _CONNECT_TIMEOUT_S
        while True:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = await self._connect(DATABASE)
                await self._connection.execute("select 1")
                return self._connection
            except psycopg.OperationalError as error:
                await self._disconnect()
                if not self._embedded.running:
                    self._is_stopped = True  # it could not recover: its disk is full
                # On a full disk PostgreSQL lets nobody in once it has recovered ("could not write init file"): only
                # room ends that, not waiting.
                is_full = self._is_limited and "No space left" in str(error)
                if self._is_stopped or is_full or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.02)

    async def _connect(self, dbname: str) -> AsyncConnection[Any]:
        options = replace(self._embedded.options, dbname=dbname, application_name=ledger.SETUP)
        own = f"-c default_transaction_read_only=off -c statement_timeout={_STATEMENT_TIMEOUT_MS}"
        return await AsyncConnection.connect(options.to_conninfo(), options=own, autocommit=True)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.pgconn.finish()
            with contextlib.suppress(psycopg.Error):
                await connection.close()

    async def befall(self, fault: str) -> None:
        """One of crash, terminate, freeze, thaw, readonly, writable, full, roomy, stop, start; twice is once."""
        if self._is_stopped and fault not in ("start", "roomy"):
            return
        if self._frozen and fault not in ("thaw", "full", "roomy"):
            await self._thaw()
        if fault in ("readonly", "full"):
            self._is_limited = True
        # A server that recovers in vain ends under our hands: then it is stopped, and the fault has nobody to befall.
        with contextlib.suppress(psycopg.OperationalError):
            await getattr(self, f"_{fault}")()

    async def mend(self) -> None:
        for end in ("thaw", "roomy", "start", "writable"):
            await self.befall(end)
        if self._is_stopped:
            await self.befall("start")
            await self.befall("writable")
        self._is_limited = False

    async def _crash(self) -> None:
        """One backend is killed: PostgreSQL ends all others and recovers."""
        pids = await self._backends()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pids[0], signal.SIGKILL)
        await self._disconnect()

    async def _terminate(self) -> None:
        connection = await self.connection()
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and application_name <> %s",
            (DATABASE, ledger.SETUP),
        )

    async def _backends(self) -> list[int]:
        connection = await self.connection()
        rows = await connection.execute(
            "select pid from pg_stat_activity where datname = %s order by application_name = %s, pid",
            (DATABASE, ledger.SETUP),
        )
        return [row[0] for row in await rows.fetchall()]

    async def _freeze(self) -> None:
        """SIGSTOP: connections stand, the kernel accepts new ones, and nothing answers."""
        assert self._embedded.pid is not None
        if not self._frozen:
            postmaster = psutil.Process(self._embedded.pid)
            postmaster.suspend()
            self._frozen = [postmaster, *postmaster.children(recursive=True)]
            for process in self._frozen:
                with contextlib.suppress(psutil.Error):
                    process.suspend()

    async def _thaw(self) -> None:
        frozen, self._frozen = self._frozen, []
        for process in reversed(frozen):
            with contextlib.suppress(psutil.Error):
                process.resume()

    async def _readonly(self) -> None:
        await self._set_read_only("on")

    async def _writable(self) -> None:
        await self._set_read_only("off")

    async def _set_read_only(self, value: str) -> None:
        connection = await self.connection()
        await connection.execute(f"alter system set default_transaction_read_only = {value}")
        await connection.execute("select pg_reload_conf()")

    async def _full(self) -> None:
        if self._filler is not None:
            self._filler.fill()

    async def _roomy(self) -> None:
        if self._filler is not None:
            self._filler.empty()

    async def _stop(self) -> None:
        """SIGKILL of the postmaster; the others notice and end."""
        assert self._embedded.pid is not None
        await self._disconnect()
        os.kill(self._embedded.pid, signal.SIGKILL)
        self._is_stopped = True

    async def _start(self) -> None:
        if self._is_stopped:
            await self._embedded.stop()
            await self._roomy()
            self._forget_read_only()
            await self._embedded.start()
            self._is_stopped = False

    def _forget_read_only(self) -> None:
        """What prepares the server at its start must be able to write."""
        file = self._embedded.data_dir / "postgresql.auto.conf"
        kept = [line for line in file.read_text("utf-8").splitlines(True) if "read_only" not in line]
        file.write_text("".join(kept), "utf-8")
