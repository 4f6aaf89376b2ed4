"""`standfast quarantine`: beside a service, and without one."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from standfast.authstate.change import Change
from standfast.authstate.multifile import import_folder
from standfast.errors import AuthStateCorrupt, CompanyInUse, UsageError
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.store import PostgresAuthStore
from standfast.service.client import Client, connect
from standfast.vault.storage.replica import Replica
from tests.cli_support import CommandLine, own_surroundings
from tests.integration.services import ACME, running, settings_of
from tests.support import apart, made_up_creds

CREDS = made_up_creds(nextPreKeyId=40)
PHONE = "79990000001"
OVERTAKEN = Change(
    {
        "session": {f"{PHONE}.0": b'{"n":2}', "gone.0": None},
        "pre-key": {"7": b'{"n":7}'},
        "sender-key-memory": {"group@g.us": b'{"x":true}'},
    },
    CREDS,
)
PRESENT = {
    "session": {f"{PHONE}.0": b'{"n":1}', "gone.0": b'{"n":1}', "kept.0": b'{"n":1}'},
    "sender-key-memory": {"other@g.us": b'{"x":true}'},
}


async def set_aside(state: Path, change: Change) -> int:
    """An entry in the quarantine of a vault that no service has open."""
    replica = Replica.open(state / "vault")
    number = await replica.enrol(ACME, 5, 0)
    await replica.begin_fill(number)
    await replica.fill(number, [(None, None, made_up_creds())])
    await replica.finish_fill(number, 0)
    await replica.append(number, 1, Change.of_keys({"session": {f"{PHONE}.0": b'{"n":0}'}}))
    await replica.append(number, 2, change)
    entry = await replica.quarantine(number, "another owner has written it since", 9)
    await replica.close()
    assert entry is not None
    return entry


@dataclass
class Beside:
    """A client of a running service whose quarantine holds `entry`."""

    client: Client
    entry: int
    service: Any
    store: PostgresAuthStore
    state: Path

    def exports(self) -> list[Path]:
        return sorted((self.state / "archive").glob("*"))


@pytest.fixture
async def beside(
    state: Path, database_options: DatabaseOptions, store: PostgresAuthStore
) -> AsyncIterator[Beside]:
    await store.install(ACME, made_up_creds(), PRESENT)
    entry = await set_aside(state, OVERTAKEN)
    async with running(state, database_options) as now:
        await now.in_state("online")
        async with connect(now.service.gateway.path) as client:
            yield Beside(client, entry, now.service, store, state)


async def test_an_entry_is_shown_without_values_or_numbers(beside: Beside) -> None:
    """Types, counts, masked ids, epochs, and how it compares with what PostgreSQL has."""
    (listed,) = await beside.client.quarantine("list")
    assert listed["company"] == "acme"
    assert (listed["epoch"], listed["fenced_by"], listed["batches"]) == (5, 9, 2)
    shown = await beside.client.quarantine("show", id=beside.entry)
    by_type = {row["type"]: row for row in shown["keys"]}
    assert (by_type["session"]["set"], by_type["session"]["deleted"]) == (1, 1)
    assert shown["creds"]
    assert shown["compared"] == {"same": 0, "different": 3, "absent": 2}
    assert PHONE not in json.dumps(shown)
    with pytest.raises(UsageError, match="no quarantine entry 99"):
        await beside.client.quarantine("show", id=99)


async def test_applying_merges_and_exports_first(beside: Beside) -> None:
    """PostgreSQL has the merged state, memories of sender keys gone; what it replaced is an export that can be read;
    the entry is gone and the lease is given back."""
    done = await beside.client.quarantine("apply", id=beside.entry)
    assert done["batches"] == 2
    found = await beside.store.snapshot(ACME)
    assert found is not None
    assert json.loads(found.creds)["nextPreKeyId"] == 40
    sessions = {key: json.loads(value)["n"] for key, value in found.keys["session"].items()}
    assert sessions == {f"{PHONE}.0": 2, "kept.0": 1}
    assert "sender-key-memory" not in found.keys
    older = import_folder(Path(done["archive"]))
    assert json.loads(older.creds)["nextPreKeyId"] == 31
    assert "gone.0" in older.keys["session"]
    assert await beside.client.quarantine("list") == []


async def test_nothing_is_applied_under_an_open_session(beside: Beside) -> None:
    """Its client would go on with keys that were replaced under it; nothing is touched."""
    await beside.service.vault.open(ACME)
    with pytest.raises(CompanyInUse, match="acme is open"):
        await beside.client.quarantine("apply", id=beside.entry)
    assert len(await beside.client.quarantine("list")) == 1
    assert beside.exports() == []
    assert await beside.service.vault.get_keys(ACME, "session", ["kept.0"])


async def test_writes_of_another_identity_are_never_merged(beside: Beside) -> None:
    """The company was paired anew since: its creds stay, and so does the entry."""
    await beside.store.install(ACME, made_up_creds(identity=b"\x09" * 32), {}, replace=True)
    with pytest.raises(CompanyInUse, match="paired anew"):
        await beside.client.quarantine("apply", id=beside.entry)
    assert len(await beside.client.quarantine("list")) == 1


def mode_of(file: Path) -> int:
    return file.stat().st_mode & 0o777


def replaced(file: Path, this: bytes, that: bytes) -> None:
    file.write_bytes(file.read_bytes().replace(this, that))


async def test_a_discard_can_be_taken_back(beside: Beside) -> None:
    """The export holds values and deletions, for this account's eyes only; applied as a file it does what the entry
    would have done; a damaged one is refused."""
    done = await beside.client.quarantine("discard", id=beside.entry)
    assert await beside.client.quarantine("list") == []
    file = Path(done["archive"])
    assert mode_of(file) == 0o600
    replaced(file, b'"n":2', b'"n":3')
    with pytest.raises(AuthStateCorrupt, match="damaged"):
        await beside.client.quarantine("apply", file=str(file))
    replaced(file, b'"n":3', b'"n":2')
    await beside.client.quarantine("apply", file=str(file))
    found = await beside.store.snapshot(ACME)
    assert found is not None
    assert json.loads(found.keys["session"][f"{PHONE}.0"]) == {"n": 2}
    assert "gone.0" not in found.keys["session"]


async def test_keys_without_their_company_are_not_applied(
    state: Path, database_options: DatabaseOptions
) -> None:
    """The company is gone from PostgreSQL: keys alone would be a half of nothing."""
    entry = await set_aside(state, Change.of_keys({"session": {"a": b"1"}}))
    async with running(state, database_options) as now:
        await now.in_state("online")
        async with connect(now.service.gateway.path) as client:
            with pytest.raises(Exception, match="holds keys only"):
                await client.quarantine("apply", id=entry)
            assert len(await client.quarantine("list")) == 1


@pytest.fixture
def alone(
    state: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_options: DatabaseOptions
) -> Iterator[int]:
    """The settings of a machine whose service does not run; the number of its entry."""
    with own_surroundings(monkeypatch, tmp_path):
        settings = settings_of(state, database_options)
        assert settings.database_url is not None
        monkeypatch.setenv("STANDFAST_STATE_DIR", str(state))
        monkeypatch.setenv("DATABASE_URL", settings.database_url.get_secret_value())
        yield apart(set_aside(state, OVERTAKEN))


def test_without_a_service_the_commands_work_alone(alone: int, capsys: pytest.CaptureFixture[str]) -> None:
    """People read a table; programs JSON; nothing is decided unasked; apply restores a company that was lost."""
    standfast = CommandLine(capsys)
    listed = standfast("quarantine", "list")
    assert (listed.code, "acme" in listed.out, "another owner" in listed.out) == (0, True, True)
    shown = standfast("quarantine", "show", str(alone))
    assert "lacks 4" in shown.out
    assert PHONE not in shown.out
    unasked = standfast("quarantine", "discard", str(alone))
    assert (unasked.code, "--yes" in unasked.err) == (2, True)
    done = standfast("quarantine", "apply", str(alone), "--yes", "--json")
    assert done.code == 0, done.err
    assert done.document == {"company": "acme", "batches": 2, "keys": 4, "archive": None}
    assert standfast("quarantine", "list", "--json").out == "[]\n"
    assert standfast("stats", "acme", "--json").document["creds"] == 1


async def test_a_terminals_command_beside_a_service(beside: Beside) -> None:
    """The process asks the service; its text names the export and the next step."""
    argv = [
        "-m",
        "standfast",
        "--state-dir",
        str(beside.state),
        "quarantine",
        "apply",
        str(beside.entry),
        "--yes",
    ]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0, err
    assert b"-replaced" in out
    assert b"standfast start acme" in out
