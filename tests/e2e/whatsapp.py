"""One simulator for all tests of a process: it takes half a second of a core to start.

Invariant: a test finds it without faults and contacts, with its counters at zero, whatever tests before it did.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from standfast.node import bridge_directory, node_binary
from standfast.service.certificate import make_certificate
from standfast.service.simulator import READY_TIMEOUT_S, STOP_TIMEOUT_S, Ready, Simulator, admin_client


class LentSimulator(Simulator):
    """The running simulator in the hands of one test. `give_back` when it is done."""

    def __init__(self, state: Path, ready: Ready) -> None:
        super().__init__(state, node_binary(), bridge_directory())
        self._ready = ready
        self._http = admin_client(ready)
        self._before: dict[str, Any] = {}

    async def take(self) -> None:
        """Count from here on."""
        self._before = await super().ask("GET", "/stats")

    async def give_back(self) -> None:
        """Remove what would be felt by the next test."""
        await self.ask("DELETE", "/faults")
        for contact in (await self.ask("GET", "/contacts"))["contacts"]:
            await self.ask("DELETE", f"/contacts/{contact['phone']}")
        assert self._http is not None
        await self._http.aclose()

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = await super().ask(method, path, body)
        if (method, path) == ("GET", "/stats"):
            return {name: self._since(name, count) for name, count in answer.items()}
        return answer

    def _since(self, name: str, count: Any) -> Any:
        return count - self._before.get(name, 0) if isinstance(count, int) else count


@contextmanager
def standing_simulator() -> Iterator[tuple[Path, Ready]]:
    """A simulator outside every test's loop, and its state directory."""
    state = Path(tempfile.mkdtemp(prefix="sf-wa-"))
    certificate, key = make_certificate(state)
    main = (str(node_binary()), str(bridge_directory() / "simulator" / "main.mjs"))
    files = ("--state", str(state), "--media-cert", str(certificate), "--media-key", str(key))
    process = subprocess.Popen(
        [*main, "--port", "0", "--admin-port", "0", *files, "--exit-with-parent"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "NODE_EXTRA_CA_CERTS": str(certificate)},
    )
    try:
        yield state, _ready(process)
    finally:
        process.terminate()
        try:
            process.communicate(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        shutil.rmtree(state, ignore_errors=True)


def _ready(process: subprocess.Popen[bytes]) -> Ready:
    assert process.stdout is not None
    waiting, _, _ = select.select([process.stdout], [], [], READY_TIMEOUT_S)
    assert waiting, f"the simulator was not ready within {READY_TIMEOUT_S:g} s"
    return msgspec.json.decode(process.stdout.readline(), type=Ready)
