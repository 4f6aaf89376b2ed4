"""`standfast mcp`, asked by the official SDK's client over stdin and stdout."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters, stdio_client
from mcp.types import CallToolResult, TextContent, TextResourceContents

from standfast.sessions.session import State
from tests.e2e.conftest import Line
from tests.e2e.processes import Home, make_home


@pytest.fixture
async def home(line: Line) -> AsyncIterator[Home]:
    """A person's machine whose settings name the running service."""
    made = make_home(STANDFAST_STATE_DIR=str(line.settings.state_dir))
    yield made
    made.clear()


@contextlib.asynccontextmanager
async def asked(home: Home, state_dir: Path, *options: str) -> AsyncIterator[Client]:
    """A client of `standfast mcp`, whose log goes to `mcp.log`."""
    environment = {
        "HOME": str(home.directory),
        "STANDFAST_STATE_DIR": str(state_dir),
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "standfast", "mcp", *options], env=environment, cwd=home.directory
    )
    with (home.directory / "mcp.log").open("a") as log:
        async with Client(stdio_client(server, errlog=log)) as client:
            yield client


async def called(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """What the tool answered; fails where it is an error."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, told(result)
    content: dict[str, Any] | None = result.structured_content
    assert content is not None
    return content


def told(result: CallToolResult) -> str:
    """What the model reads."""
    return " ".join(block.text for block in result.content if isinstance(block, TextContent))


async def test_a_client_asks_and_is_answered(line: Line, home: Home, new_phone: Callable[[], str]) -> None:
    """A contact gets what the tool sends, and its answer is what the other tool returns; the log has nothing of it."""
    await line.pair("acme", new_phone())
    contact = new_phone()
    await line.simulator.ask("POST", "/contacts", {"phone": contact, "behaviour": "echo"})
    async with asked(home, line.settings.state_dir) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"send_message", "get_last_response", "session_status", "health"}
        for name, tool in tools.items():
            assert tool.annotations is not None
            assert tool.annotations.read_only_hint == (name != "send_message")
            assert tool.output_schema is not None
        nothing = await called(client, "get_last_response", phone=f"+{contact}")
        assert (nothing["found"], nothing["text"]) == (False, None)
        sent = await called(client, "send_message", phone=f"+{contact}", message="What time?")
        assert (sent["company"], sent["state"]) == ("acme", "sent")
        await line.contact_received(contact, ["What time?"])
        answer = await called(client, "get_last_response", phone=f"+{contact}", wait_s=20)
        assert (answer["text"], answer["type"], answer["is_after_our_last"]) == (
            "echo: What time?",
            "text",
            True,
        )
        wrong = await client.call_tool("send_message", {"phone": "nobody", "message": "hello"})
        assert wrong.is_error
        assert "not a phone number" in told(wrong)
        assert "Next: " in told(wrong)
        chat = await client.read_resource(f"standfast://acme/chats/{contact}")
        assert isinstance(chat.contents[0], TextResourceContents)
        said = [message["text"] for message in json.loads(chat.contents[0].text)["messages"]]
        assert said == ["What time?", "echo: What time?"]
    log = (home.directory / "mcp.log").read_text()
    assert contact not in log
    assert "What time?" not in log


async def test_it_begins_without_a_service_and_outlives_it(
    line: Line, home: Home, new_phone: Callable[[], str]
) -> None:
    """Each call says that the service is away and what to do; once it is there the next call works. Read-only, it does
    not offer to send, and refuses to when it is asked; bound, it serves no other company."""
    await line.pair("acme", new_phone())
    await line.stop()
    async with asked(home, line.settings.state_dir, "--read-only", "--company", "acme") as client:
        assert "send_message" not in {tool.name for tool in (await client.list_tools()).tools}
        refused = await client.call_tool("send_message", {"phone": "+79990000001", "message": "hello"})
        assert refused.is_error
        away = await client.call_tool("health", {})
        assert away.is_error
        assert "standfast up" in told(away)
        await line.start()
        await line.state("acme", State.OPEN)
        assert (await called(client, "health"))["ready"] is True
        status = await called(client, "session_status")
        assert [(one["company"], one["connected"]) for one in status["sessions"]] == [("acme", True)]
        other = await client.call_tool("session_status", {"company": "bolt"})
        assert "'acme' only" in told(other)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_a_signal_ends_it(state_dir: Path, number: signal.Signals, code: int) -> None:
    """At once, though the program that started it keeps stdin open; stdout has held nothing but the protocol."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "standfast", "mcp"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "STANDFAST_STATE_DIR": str(state_dir)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    hello = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }
    request = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    process.stdin.write(json.dumps(request).encode() + b"\n")
    async with asyncio.timeout(20):
        answer = json.loads(await process.stdout.readline())
    assert answer["result"]["serverInfo"]["name"] == "standfast"
    process.send_signal(number)
    async with asyncio.timeout(5):
        assert await process.wait() == code
    assert await process.stdout.read() == b""
