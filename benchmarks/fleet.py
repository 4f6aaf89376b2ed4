"""Section `fleet`: many companies on one node; what a gateway-only service needs to start and to hold them.

They are put into PostgreSQL by COPY. The first start downloads them all; the second finds them in the replica.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil
import psycopg
from rich.console import Console

from benchmarks import figures
from benchmarks.bench import Bench
from benchmarks.identity import PRE_KEY, made_up_creds
from benchmarks.service import Running, gateway_on
from standfast.postgres.migrations import migrate
from standfast.postgres.pool import Database
from standfast.sessions.wire import PROTOCOL_VERSION, Connection

COMPANIES = 1000
KEYS = 1650
ROUNDS = 2
AIM_MB, AIM_S = 400.0, 10.0
_OPEN_TIMEOUT_S = 600.0


class Opener:
    """A connection that opens companies; the service asks it nothing."""

    async def handle(self, _connection: Connection, _method: str, _params: msgspec.Raw) -> Any:
        return None

    def notified(self, connection: Connection, method: str, params: msgspec.Raw) -> None:
        """Nothing is expected."""

    def closed(self, connection: Connection) -> None:
        """Requests under way fail by themselves."""


async def measure(bench: Bench) -> dict[str, Any]:
    companies = [f"fleet-{number}" for number in range(bench.counted(COMPANIES))]
    bench.rounds = min(bench.rounds, ROUNDS)
    await _fill(bench, companies)
    state_dir = bench.new_directory("fleet")
    first = await _start(bench, state_dir, companies)
    again = [await _start(bench, state_dir, companies) for _ in bench.alternating(["start again"])]
    names = ("open_s", "resident_mb", "peak_mb", "started_s")
    return {
        "companies": len(companies),
        "keys_each": KEYS,
        "first": {name: figures.significant(first[name]) for name in names},
        "again": figures.summary(again, names),
        "vault_mb": round(sum(path.stat().st_size for path in state_dir.rglob("vault.db*")) / 2**20, 1),
    }


async def _fill(bench: Bench, companies: Sequence[str]) -> None:
    async with Database(bench.server.options) as database:
        await migrate(database)
    creds = [(company, made_up_creds(number).decode()) for number, company in enumerate(companies)]
    async with await psycopg.AsyncConnection.connect(bench.server.options.to_conninfo()) as connection:
        await connection.execute("set statement_timeout = 0")
        async with connection.cursor() as cursor:
            async with cursor.copy("copy whatsapp_auth (company_id, creds) from stdin") as copy:
                for row in creds:
                    await copy.write_row(row)
            async with cursor.copy(
                "copy whatsapp_keys (company_id, key_type, key_id, value) from stdin"
            ) as copy:
                for key in itertools.chain.from_iterable(map(_keys, companies)):
                    await copy.write_row(key)


def _keys(company: str) -> Iterator[tuple[str, str, str, str]]:
    value = PRE_KEY.decode()
    return ((company, "pre-key", str(number), value) for number in range(KEYS))


async def _start(bench: Bench, state_dir: Path, companies: Sequence[str]) -> dict[str, Any]:
    began = time.monotonic()
    async with gateway_on(state_dir, bench.server.options) as gateway:
        started_s = time.monotonic() - began
        await _open_all(gateway, companies)
        return {
            "started_s": started_s,
            "open_s": time.monotonic() - began,
            "resident_mb": psutil.Process(gateway.pid).memory_info().rss / 2**20,
            "peak_mb": _peak_mb(gateway.pid),
        }


def _peak_mb(pid: int) -> float:
    """The most memory that the process ever had resident."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


async def _open_all(gateway: Running, companies: Sequence[str]) -> None:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_unix_connection(lambda: Connection(Opener()), str(gateway.socket))
    hello = {"protocol": PROTOCOL_VERSION, "role": "auth-state", "client": "benchmark"}
    await connection.request("hello", hello, timeout_s=_OPEN_TIMEOUT_S)

    async def opened(company: str) -> None:
        await connection.request("auth.open", {"company": company}, timeout_s=_OPEN_TIMEOUT_S)
        params = {"company": company, "type": "pre-key", "ids": ["1"]}
        answer = await connection.request("keys.get", params, timeout_s=_OPEN_TIMEOUT_S)
        assert msgspec.json.decode(answer).keys() == {"1"}

    await asyncio.gather(*map(opened, companies))
    connection.close()


def show(console: Console, result: Mapping[str, Any]) -> None:
    columns = ("start", "gateway listens s", "all open s", "resident MB", "at most MB")
    rows = [
        [name, *(result[start][figure] for figure in ("started_s", "open_s", "resident_mb", "peak_mb"))]
        for name, start in (("first, downloading all", "first"), ("again", "again"))
    ]
    title = (
        f"{result['companies']:,} companies × {result['keys_each']:,} keys; replica {result['vault_mb']} MB"
    )
    figures.show(console, title, columns, rows)
    again = result["again"]
    aims = {
        f"start again, to {AIM_S:g} s": (1.0, figures.ratio(AIM_S, again["open_s"])),
        f"resident, to {AIM_MB:g} MB": (1.0, figures.ratio(AIM_MB, again["peak_mb"])),
    }
    figures.show_aims(console, aims)
