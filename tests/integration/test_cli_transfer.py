"""Export and import beside a running service, with real Baileys sessions."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli_support import CommandLine, own_surroundings

OPEN_TIMEOUT_S = 45.0
COMPANY = "demo-alpha"


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    with own_surroundings(monkeypatch, tmp_path):
        yield


@pytest.fixture
def standfast(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


@pytest.fixture
def demo(standfast: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """`standfast up --simulator` with its demo company connected; the settings then name its state directory."""
    log = tmp_path / "up.log"
    with standfast.start("up", "--simulator", output=log) as process:
        monkeypatch.setenv("STANDFAST_STATE_DIR", str(tmp_path / "state" / "simulator"))
        try:
            deadline = time.monotonic() + OPEN_TIMEOUT_S
            while state_of(standfast) != "open":
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, f"no open session: {log.read_text()}"
                time.sleep(0.2)
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=OPEN_TIMEOUT_S)
            finally:
                process.kill()


def state_of(standfast: CommandLine) -> str | None:
    """The session's state; None while the service does not answer or has no such session."""
    ran = standfast("sessions", "--json")
    if ran.code != 0:
        return None
    return next((row["state"] for row in json.loads(ran.out) if row["company"] == COMPANY), None)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.usefixtures("demo")
def test_a_running_session_is_exported_but_never_imported_over(standfast: CommandLine) -> None:
    """Export takes a live company as of one moment; import wants its session stopped, then replaces it wholly."""
    ran = standfast("export", COMPANY, "folder", "--json")
    assert ran.code == 0, ran.err
    exported = ran.document
    assert exported["keys"] > 800
    refused = standfast("import", "folder", COMPANY, "--replace")
    assert refused.code == 7
    assert f"standfast stop {COMPANY}" in refused.err
    assert standfast("stop", COMPANY).code == 0
    ends = time.monotonic() + 20
    while (imported := standfast("import", "folder", COMPANY, "--replace", "--json")).code == 7:
        # What the session wrote last is on its way to PostgreSQL.
        assert time.monotonic() < ends, imported.out
    assert imported.code == 0, imported.out
    done = imported.document
    assert done["keys"] == exported["keys"]
    assert (Path(done["archive"]) / "creds.json").exists()
