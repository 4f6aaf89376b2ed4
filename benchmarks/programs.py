"""Programs that a measurement runs: started, told to go on, heard by JSON lines, and ended.

Invariant: a program lives no longer than its `async with`, and every wait for it has a deadline.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from standfast.node import node_binary

RUN_TIMEOUT_S = 240.0
END_TIMEOUT_S = 10.0
_LINE_LIMIT_BYTES = 16 * 1024 * 1024
_HERE = Path(__file__).parent
_SHOWN_BYTES = 4000


class Remarks:
    """What a process says on stderr: shown only where it fails, because outages are meant here, and loud."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process

    def last(self) -> str:
        end = self.file.seek(0, 2)
        self.file.seek(max(0, end - _SHOWN_BYTES))
        return self.file.read().decode("utf-8", "replace")

    def close(self) -> None:
        self.file.close()


class Program:
    """`async with Program.node("chat.mjs", {...}) as program: await program.ready(); …`"""

    def __init__(
        self,
        argv: Sequence[str],
        first_line: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._argv = argv
        self._environment = environment
        self._first_line = first_line
        self._process: asyncio.subprocess.Process | None = None
        self._remarks = Remarks()

    @classmethod
    def node(
        cls, script: str, options: Mapping[str, Any], environment: Mapping[str, str] | None = None
    ) -> Self:
        """A script of this directory; its only argument is JSON."""
        argv = [str(node_binary()), str(_HERE / script), json.dumps(options)]
        return cls(argv, environment=environment)

    @classmethod
    def python(cls, module: str, options: Mapping[str, Any]) -> Self:
        """A module of this package; it reads its options from standard input (`child.told_options`)."""
        return cls([sys.executable, "-m", f"benchmarks.{module}"], json.dumps(options))

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._remarks.file,
            limit=_LINE_LIMIT_BYTES,
            cwd=_HERE.parent,
            env={**os.environ, **(self._environment or {})},
        )
        if self._first_line is not None:
            await self._say(self._first_line)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(END_TIMEOUT_S if error is None else 0):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        self._remarks.close()

    async def told(self, timeout_s: float = RUN_TIMEOUT_S) -> dict[str, Any]:
        """Its next line. Ends the run where the program failed or said nothing in time."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                line = await process.stdout.readline()
        except TimeoutError:
            raise SystemExit(
                f"{self._name} said nothing for {timeout_s:g} s\n{self._remarks.last()}"
            ) from None
        if not line:
            code = await process.wait()
            raise SystemExit(f"{self._name} failed with exit code {code}\n{self._remarks.last()}")
        document: dict[str, Any] = json.loads(line)
        return document

    async def go_on(self) -> None:
        """End its pause."""
        await self._say("")

    async def result(self) -> dict[str, Any]:
        """Wait until it is ready, let it go on at once; what it tells then."""
        await self.told()
        await self.go_on()
        return await self.told()

    async def _say(self, line: str) -> None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.write(line.encode() + b"\n")
        await process.stdin.drain()

    @property
    def _name(self) -> str:
        return " ".join(Path(part).name for part in self._argv[1:3] if not part.startswith("{"))


async def run(program: Program) -> dict[str, Any]:
    """Start a program, let it go on when it is ready; what it tells then."""
    async with program:
        return await program.result()
