"""`Outages`: what befalls the drill's PostgreSQL, and how it ends.

Invariant: it happens to PostgreSQL or to its name, from outside; the service is told nothing. After `end` the server is
as it was, with everything that it had confirmed.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import replace
from pathlib import Path

import psutil

from standfast.errors import DrillFailed
from standfast.postgres.embedded import EmbeddedServer
from standfast.postgres.observing import NOBODY
from standfast.postgres.pool import Database, Statement
from standfast.postgres.processes import working_in

SERVICE = "drill"
# Reserved for names that never resolve.
GONE_HOST = "postgresql.drill.invalid"
WORDS = {
    "refused": "PostgreSQL is killed; connections are refused",
    "dns": "PostgreSQL's host name does not resolve any more, and connections are cut",
    "hung": "PostgreSQL hangs: it takes connections and answers nothing",
    "readonly": "PostgreSQL is read-only",
}
_CUT = Statement(
    "drill.cut",
    "select count(pg_terminate_backend(pid)) from pg_stat_activity"
    " where backend_type = 'client backend' and pid <> pg_backend_pid()",
)
_READ_ONLY = Statement("drill.read_only", "alter system set default_transaction_read_only = on")
_WRITABLE = Statement("drill.writable", "alter system reset default_transaction_read_only")
_RELOAD = Statement("drill.reload", "select pg_reload_conf()")


class Outages:
    """The service reaches `server` by libpq's service file `names`, which libpq reads at each connection."""

    def __init__(self, server: EmbeddedServer, names: Path) -> None:
        self._server = server
        self._names = names
        self._stopped: list[psutil.Process] = []
        self.kind: str | None = None

    def connection(self) -> str:
        """What the service is given as DATABASE_URL."""
        return f"service={SERVICE}"

    def name_server(self, host: str = "127.0.0.1") -> None:
        """Say where PostgreSQL is."""
        options = self._server.tcp_options
        lines = {
            "host": host,
            "port": options.port,
            "dbname": options.dbname,
            "user": options.user,
            "password": options.password,
        }
        text = f"[{SERVICE}]\n" + "".join(f"{name}={value}\n" for name, value in lines.items())
        beside = self._names.with_suffix(".new")
        beside.touch(0o600)
        beside.write_text(text)
        beside.replace(self._names)

    async def begin(self, kind: str) -> None:
        """From its return on, PostgreSQL is away."""
        if self.kind is not None:
            raise DrillFailed(f"an outage ({self.kind}) goes on already")
        self.kind = kind
        if kind == "refused":
            if self._server.pid is not None:
                os.kill(self._server.pid, signal.SIGKILL)
            await self._server.stop()
        elif kind == "hung":
            self._stopped = working_in(self._server.data_dir)
            for process in self._stopped:
                process.send_signal(signal.SIGSTOP)
        elif kind == "dns":
            self.name_server(GONE_HOST)
            await self._run(_CUT)
        else:
            await self._run(_READ_ONLY, _RELOAD)

    async def end(self) -> None:
        """At its return PostgreSQL can be used again."""
        kind, self.kind = self.kind, None
        if kind == "refused":
            await self._server.start()
        elif kind == "hung":
            for process in self._stopped:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGCONT)
        elif kind == "dns":
            self.name_server()
        elif kind == "readonly":
            await self._run(_WRITABLE, _RELOAD)

    async def _run(self, *statements: Statement) -> None:
        own = replace(self._server.options, application_name="standfast-drill", max_connections=1)
        async with Database(own, NOBODY.queries) as database:
            for statement in statements:
                await database.fetch(statement)
