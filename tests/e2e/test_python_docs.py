"""docs/python.md and the examples for Python, run as they stand."""

from __future__ import annotations

import ast
import asyncio
import re
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import standfast
from standfast.service.client import Client
from standfast.sessions.session import State
from tests.e2e.conftest import Line, until
from tests.e2e.processes import Home, make_home

ROOT = Path(__file__).resolve().parents[2]
CONTACT = "79990000001"
BLOCKS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(), re.MULTILINE | re.DOTALL
)


@pytest.fixture
async def home(line: Line) -> AsyncIterator[Home]:
    """A machine whose settings name the running service."""
    made = make_home(STANDFAST_STATE_DIR=str(line.settings.state_dir))
    yield made
    made.clear()


async def heard_by_contact(line: Line) -> list[str]:
    answer = await line.simulator.ask("GET", f"/contacts/{CONTACT}/messages?after=0")
    return [str(message["text"]) for message in answer["messages"]]


async def run_block(block: str, names: dict[str, Any]) -> None:
    code = compile(block, "docs/python.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, names)
    if result is not None:
        await result


async def run_beside(line: Line, sf: Client, block: str, phone: str) -> None:
    """A block that waits for somebody's doing: the contact writes, or the phone scans."""
    since = len(line.heard)
    running = asyncio.create_task(run_block(block, {"sf": sf, "standfast": standfast}))
    if "sf.pair" in block:
        qr = (await line.event("bolt", "qr", since))["qr"]
        await line.simulator.ask("POST", "/scan", {"qr": qr, "phone": phone})
        await running
        return
    await asyncio.sleep(0)  # its first step subscribes
    message = {"to": line.phones["acme"], "text": "anybody there?"}
    await line.simulator.ask("POST", f"/contacts/{CONTACT}/send", message)

    async def is_answered() -> bool:
        return "You wrote: anybody there?" in await heard_by_contact(line)

    await until(is_answered, "the answer")
    running.cancel()


async def test_every_block_of_the_documentation_runs(
    line: Line, home: Home, new_phone: Callable[[], str]
) -> None:
    """Each block does what its text says, one after the other, against one service."""
    await line.pair("acme", new_phone())
    await line.simulator.ask("POST", "/contacts", {"phone": CONTACT, "behaviour": "echo"})
    script, *blocks = BLOCKS
    assert len(blocks) >= 7
    first = home.run([sys.executable, "-c", script], {})
    assert await first.ended() == 0, first.text()
    assert "sent 3EB0" in first.text() or "delivered 3EB0" in first.text()
    async with standfast.connect(line.service.gateway.path) as sf:
        for block in blocks:
            if "sf.pair" in block or "on_message" in block:
                await run_beside(line, sf, block, new_phone())
            else:
                async with asyncio.timeout(15):
                    await run_block(block, {"sf": sf, "standfast": standfast})
            await line.state("acme", State.OPEN)
    assert {"Hello from Python", "Your order is ready", "Thank you", "Hello again"} <= set(
        await heard_by_contact(line)
    )


async def test_a_broadcast_reaches_each_once(line: Line, home: Home, new_phone: Callable[[], str]) -> None:
    """Run twice it is sent once; a number that is none is named by its line, and the others get it."""
    await line.pair("acme", new_phone())
    await line.simulator.ask("POST", "/contacts", {"phone": CONTACT, "behaviour": "silent"})
    numbers = home.directory / "numbers.txt"
    numbers.write_text(f"+{CONTACT}\nnobody\n")
    program = [
        sys.executable,
        ROOT / "examples" / "python" / "broadcast.py",
        "acme",
        "sale",
        numbers,
        "On sale",
    ]
    for _ in range(2):
        run = home.run([str(part) for part in program], {})
        assert await run.ended() == 1
        assert "line 2: that is not a phone number" in run.text()
        assert "1 accepted, 1 failed" in run.text()
    await line.contact_received(CONTACT, ["On sale"])
    async with standfast.connect(line.service.gateway.path) as sf:
        assert len(await sf.sent("acme")) == 1
        await sf.send("acme", f"+{CONTACT}", "the end")
    await line.contact_received(CONTACT, ["the end"])
    assert (await heard_by_contact(line)).count("On sale") == 1
