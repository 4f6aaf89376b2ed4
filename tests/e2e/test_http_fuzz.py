"""What the description of the HTTP API allows and forbids, tried at random against a running service."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from standfast.postgres.options import DatabaseOptions
from standfast.service.simulator import Simulator
from tests.e2e.conftest import make_line

FUZZ_S = int(os.environ.get("FUZZ_SECONDS", "8"))
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "response_headers_conformance,unsupported_method,allow_header_conformance,negative_data_rejection"
)
# A stream has no end, and what unlinks or pairs the company would leave nothing to try.
ARGUMENTS = (
    *("--exclude-path", "/events", "--exclude-path-regex", "(logout|pair)$"),
    *("--phases", "examples,coverage,fuzzing", "--checks", CHECKS, "--no-shrink"),
    *("--request-timeout", "10", "--max-time", str(FUZZ_S), "--warnings", "off"),
)


@pytest.mark.slow
@pytest.mark.timeout(FUZZ_S + 90)
async def test_whatever_is_asked_is_answered_as_described(
    state_dir: Path,
    simulator: Simulator,
    database_options: DatabaseOptions,
    new_phone: Callable[[], str],
    tmp_path: Path,
) -> None:
    """No 5xx, each answer is one that the description has, wrong requests are refused; and the service stands
    afterwards. `make fuzz` takes longer."""
    line = make_line(state_dir, simulator, database_options, http="on", http_port=0)
    await line.start()
    try:
        await line.pair("acme", new_phone())
        assert line.service.http is not None
        url = line.service.http.url
        await _fuzz(url, tmp_path)
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            assert (await client.get("/health/live")).status_code == 200
            assert (await client.post("/sessions/acme/start")).status_code == 200
    finally:
        await line.stop()


async def _fuzz(url: str, directory: Path) -> None:
    # A wait that is granted takes its time; its limits are held by tests of their own.
    (directory / "schemathesis.toml").write_text('[parameters]\n"query.wait_s" = 0.1\n')
    program = Path(sys.executable).parent / "schemathesis"
    process = await asyncio.create_subprocess_exec(
        *(str(program), "run", f"{url}/openapi.json", *ARGUMENTS),
        cwd=directory,
        env={**os.environ, "NO_COLOR": "1", "HYPOTHESIS_STORAGE_DIRECTORY": str(directory / "hypothesis")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(FUZZ_S + 60):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, said.decode(errors="replace")[-8_000:]
