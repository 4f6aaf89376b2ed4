"""Webhooks whose process is killed, and receivers that are processes of their own: the examples, as they stand."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from standfast.messaging.webhooks_signature import Secret, signature
from standfast.node import node_binary
from tests.receiver import Hooks, Receiver
from tests.support import until

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "webhooks"
LINE_TIMEOUT_S = 20.0


async def line_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), LINE_TIMEOUT_S)).decode().strip()


@contextlib.asynccontextmanager
async def started(*command: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that is killed at the end, if it was not before."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=os.environ | environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def test_what_was_delivered_and_not_noted_comes_again_after_a_kill(tmp_path: Path) -> None:
    """SIGKILL between delivery and acknowledgement: nothing is lost, order stands, what was under way comes twice."""
    async with Receiver() as receiver:
        receiver.answers = lambda event: None if event["data"]["text"] == "5" else 200
        module = "tests.integration.webhook_process"
        async with started(sys.executable, "-m", module, str(tmp_path), receiver.url, "20") as process:
            assert await line_of(process) == "received"
            await until(lambda: len(receiver.requests) >= 6)  # the sixth was taken and not answered
            process.kill()
            await process.wait()
        assert receiver.texts() == [str(n) for n in range(5)]
        receiver.answers = lambda _event: 200
        async with Hooks(tmp_path) as hooks:
            await until(lambda: hooks.state()["waiting"] == 0)
        first = receiver.texts()[5:]
        assert first == [str(n) for n in range(int(first[0]), 20)]
        assert int(first[0]) <= 5


@pytest.mark.parametrize("language", ["python", "node"])
async def test_the_example_receivers_take_what_is_genuine_and_nothing_else(
    language: str, tmp_path: Path
) -> None:
    """Signed by the secret that was shown, and while it is rotated by both; another secret is refused."""
    command = (
        (sys.executable, str(EXAMPLES / "receiver.py"))
        if language == "python"
        else (str(node_binary()), str(EXAMPLES / "receiver.mjs"))
    )
    secret = "a secret that both sides know"
    async with (
        started(*command, "0", WEBHOOK_SECRET=secret) as process,
        Hooks(tmp_path) as hooks,
    ):
        url = f"http://127.0.0.1:{(await line_of(process)).rpartition(' ')[2]}/"
        await hooks.webhooks.add("bot", url, secret=secret)
        number = await hooks.message("ещё одно сообщение")
        assert await line_of(process) == f"{number} acme message"
        await hooks.webhooks.add("stranger", url, secret="a secret of somebody else")
        assert (await hooks.webhooks.test("stranger"))["error"] == "answered 401"
        await hooks.webhooks.remove("stranger")
        await hooks.webhooks.rotate("bot")
        later = await hooks.message("signed twice")
        assert await line_of(process) == f"{later} acme message"
        await hooks.webhooks.rotate("bot", keep_h=0)
        assert (await hooks.webhooks.test("bot"))["error"] == "answered 401"


def test_the_documented_signature() -> None:
    """The vector in docs/webhooks.md, which receivers in other languages are checked against."""
    body = b'{"number":1,"company":"acme","kind":"message","at":1767225600.0,"data":{"text":"hello"}}'
    signed = signature([Secret("whsec_test"), Secret("old", until=1767225600.0)], 1767225600, body)
    assert signed == VECTOR
    assert (
        signature([Secret("whsec_test"), Secret("old", until=1767225601.0)], 1767225600, body).count("v1=")
        == 2
    )


VECTOR = "v1=de9943741172baab446a24b25c0ca70eb3c9e6efb5223152de6fdeb08a532827"
