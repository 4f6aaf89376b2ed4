"""`standfast doctor` as a person runs it: on a bare machine, beside a service, and where everything is broken."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from standfast.postgres.options import DatabaseOptions
from standfast.service.doctor.results import GROUPS
from tests.cli_support import CommandLine, own_surroundings
from tests.integration.services import running, short_directory

MARKER = "hunter2-marker"
SLOW = "gave no answer within"  # a machine that is busy with other tests is not broken


@pytest.fixture
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """No settings but the test's own, and a working directory with nothing in it."""
    with own_surroundings(monkeypatch, tmp_path):
        yield tmp_path


@pytest.fixture
def standfast(capsys: pytest.CaptureFixture[str], surroundings: Path) -> CommandLine:
    return CommandLine(capsys)


def test_a_bare_machine_is_examined_and_left_bare(standfast: CommandLine, surroundings: Path) -> None:
    """Nothing is configured and nothing was started: every group has its lines, nothing fails, nothing is made."""
    document = standfast("doctor", "--offline", "--json").document
    results = document["results"]
    assert document["schema"] == "standfast.doctor/1"
    assert [one["group"] for one in results] == sorted(
        (one["group"] for one in results), key=list(GROUPS.values()).index
    )
    assert {one["group"] for one in results} == set(GROUPS.values())
    assert [one for one in results if one["outcome"] == "unknown" and SLOW not in one["message"]] == []
    assert set(results[0]) == {"check", "group", "subject", "outcome", "message", "mend", "took_ms"}
    assert [one for one in results if one["outcome"] in {"warning", "wrong"} and not one["mend"]] == []
    assert list(surroundings.iterdir()) == []


async def test_beside_a_running_service_it_looks_and_touches_nothing(
    standfast: CommandLine, database_options: DatabaseOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service answers, the vault and PostgreSQL are read; a second look at the same files finds them unchanged."""
    with short_directory() as state:
        monkeypatch.setenv("STANDFAST_STATE_DIR", str(state))
        monkeypatch.setenv("DATABASE_URL", database_options.to_conninfo())
        monkeypatch.setenv("STANDFAST_HTTP", "off")
        async with running(state, database_options):
            ran = await asyncio.to_thread(standfast, "doctor", "--offline", "--json")
        down = await asyncio.to_thread(standfast, "doctor", "--offline", "--json")
        before = {path: path.lstat().st_mtime_ns for path in state.rglob("*")}
        again = await asyncio.to_thread(standfast, "doctor", "--offline", "--json")
        after = {path: path.lstat().st_mtime_ns for path in state.rglob("*")}
    told = {one["check"]: one for one in ran.document["results"]}
    amiss = [
        one for one in told.values() if one["outcome"] in {"wrong", "unknown"} and SLOW not in one["message"]
    ]
    assert amiss == []
    assert told["state.service"]["message"].startswith("answers")
    for name in ("state.vault", "state.journal", "state.messages", "postgres.schema", "postgres.rights"):
        assert told[name]["outcome"] == "ok", told[name]
    assert {one["check"]: one["message"] for one in down.document["results"]}["state.service"].startswith(
        "does not"
    )
    assert again.code == down.code
    assert after == before


def test_where_everything_is_broken_it_ends_soon_with_2_and_tells_no_secret(
    standfast: CommandLine, surroundings: Path, monkeypatch: pytest.MonkeyPatch, tcp_options: DatabaseOptions
) -> None:
    """Wrong password, Node, key, channels and modes at once: each is a line with its mend, as text and as JSON."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    where = f"{tcp_options.host}:{tcp_options.port}/{tcp_options.dbname}"
    broken = {
        "DATABASE_URL": f"postgresql://{tcp_options.user}:{MARKER}-1@{where}",
        "NODE_BINARY": "no-such-node",
        "STANDFAST_VAULT_KEY_FILE": str(surroundings / "absent"),
        "STANDFAST_HTTP_HOST": "0.0.0.0",
        "TELEGRAM_BOT_TOKEN": f"123456:{MARKER}-2",
        "TELEGRAM_CHAT_ID": "7",
        "TELEGRAM_API_URL": f"http://127.0.0.1:{free}",
        "SENTRY_DSN": f"http://{MARKER.replace('-', '')}@127.0.0.1:{free}/1",
        "STANDFAST_NODENAME": "x",
        "POSTGRES_MAX_CONNECTIONS": "no number",
    }
    for name, value in broken.items():
        monkeypatch.setenv(name, value)
    state = surroundings / "state"
    state.mkdir()
    state.chmod(0o777)
    (surroundings / ".env").write_text(f"POSTGRES_PASSWORD={MARKER}-1\n")
    (surroundings / ".env").chmod(0o644)
    monkeypatch.setattr("standfast.service.doctor.network.whatsapp", lambda _patient: [])
    began = time.monotonic()
    ran = standfast("doctor")
    assert time.monotonic() - began < 9
    assert ran.code == 2
    document = standfast("doctor", "--json").document
    wrong = {one["check"] for one in document["results"] if one["outcome"] == "wrong"}
    assert wrong >= {
        "settings.values",
        "node.binary",
        "postgres.login",
        "state.directory",
        "credentials.dotenv",
        "credentials.key_file",
        "credentials.tokens",
        "alerts.telegram",
        "alerts.sentry",
    }
    said = f"{ran.out} {ran.err} {document}"
    assert MARKER not in said
    assert MARKER.replace("-", "") not in said
    assert "chmod 700" in ran.out


ON_A_SMALL_DISK = """
import sys
from pathlib import Path
from tests.chaos.private_mount import Filler, enter_private_mounts, mount_small

if not enter_private_mounts():
    sys.exit(77)
directory = Path(sys.argv[1])
if not mount_small(directory, 4 * 2**20):
    sys.exit(77)
if sys.argv[2] == "full":
    Filler(directory).fill()
from standfast.cli.main import main
sys.exit(main(["doctor", "--offline", "--json"]))
"""


@pytest.mark.parametrize("how", ["small", "full"])
def test_a_small_disk_in_memory_and_a_full_one_are_told(surroundings: Path, how: str) -> None:
    """On a file system of its own: no room, gone at a reboot, and once it is full no write is safe there."""
    disk = surroundings / "state"
    disk.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", ON_A_SMALL_DISK, disk, how],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=surroundings,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])},
    )
    if done.returncode == 77:
        pytest.skip("this kernel lets an ordinary user mount nothing")
    told = {one["check"]: one for one in json.loads(done.stdout)["results"]}
    assert told["state.space"]["outcome"] == "wrong"
    assert told["state.filesystem"]["outcome"] == "warning"
    assert told["state.sync"]["outcome"] == ("wrong" if how == "full" else "ok")
    assert how == "small" or "No space left" in told["state.sync"]["message"]
    assert done.returncode == 2
