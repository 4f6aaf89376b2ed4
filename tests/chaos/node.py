"""`Node`: the controller's side of a worker, over all the processes that it is in the course of a run.

Invariant: every command ends: with an answer, with the worker's death, or as a violation at its deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chaos.checker import Kind, Violation
from tests.chaos.network import Link

ANSWER_TIMEOUT_S = 15.0
_DEATH_TIMEOUT_S = 5.0
_STOP_TIMEOUT_S = 10.0
_LIMIT_BYTES = 2**24
_NOTED_CHARS = 2000


class Died(Exception):
    """The worker ended before it answered."""


class Zygote:
    """`async with Zygote() as zygote: pid, connection = await zygote.fork(config)`"""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.zygote", str(theirs.fileno())], pass_fds=[theirs.fileno()]
        )
        theirs.close()
        self._control.settimeout(30.0)

    def close(self) -> None:
        self._control.close()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def fork(self, config: dict[str, Any]) -> tuple[int, socket.socket]:
        """The new worker's pid, and our end of the socket to it."""
        ours, theirs = socket.socketpair()
        socket.send_fds(self._control, [json.dumps(config).encode()], [theirs.fileno()])
        theirs.close()
        answer = b""
        while not answer.endswith(b"\n"):
            answer += self._control.recv(64)
        ours.setblocking(False)
        return int(json.loads(answer)["pid"]), ours


class Node:
    """`config` is what each of its workers is started with; `clock` the offsets that a new one begins with."""

    def __init__(
        self, name: str, zygote: Zygote, directory: Path, link: Link, config: dict[str, Any]
    ) -> None:
        self.name = name
        self.link = link
        self.directory = directory
        self.clock: list[float] = [0.0, 0.0, 0]
        self.open_companies: set[str] = set()
        self.fenced: set[str] = set()  # told by the vault, not yet looked at
        self.note: Callable[[str], None] = lambda _: None
        self.is_paused = self.is_disk_full = self.is_damage_told = self.is_detached = False
        self._zygote = zygote
        self._config = config
        self._incarnation = 0
        self._numbers = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._pidfd: int | None = None

    @property
    def is_running(self) -> bool:
        return self._listening is not None and not self._listening.done()

    @property
    def is_able(self) -> bool:
        """Whether it answers."""
        return self.is_running and not self.is_paused

    async def start(self) -> None:
        """A new process, unless one runs. Raises `Died` where it ends before it is ready."""
        if self.is_running:
            return
        await self.end()
        self._incarnation += 1
        self._ready.clear()
        config = {
            **self._config,
            "app": f"{self.name}-{self._incarnation}",
            "clock": self.clock,
            "detached": self.is_detached,
        }
        pid, connection = self._zygote.fork(config)
        self._pidfd = os.pidfd_open(pid)
        self.note(f"{self.name}: process {self._incarnation} begins")
        reader, self._writer = await asyncio.open_connection(sock=connection, limit=_LIMIT_BYTES)
        self._listening = asyncio.create_task(self._listen(reader))
        ready = asyncio.ensure_future(self._ready.wait())
        try:
            await asyncio.wait(
                {ready, self._listening}, timeout=ANSWER_TIMEOUT_S, return_when="FIRST_COMPLETED"
            )
            if not ready.done():
                if self.is_running:
                    raise Violation(
                        Kind.HUNG, f"node {self.name} did not start within {ANSWER_TIMEOUT_S:g} s"
                    )
                raise Died
        finally:
            ready.cancel()

    def send(self, verb: str, **fields: Any) -> asyncio.Future[dict[str, Any]]:
        """The answer to come; it may be an error of the vault's, under "error". Fails with `Died`."""
        self._numbers += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        if self._writer is None or not self.is_running:
            answer.set_exception(Died())
            return answer
        self._answers[self._numbers] = answer
        self._writer.write(json.dumps({"id": self._numbers, "do": verb, **fields}).encode() + b"\n")
        return answer

    async def ask(self, verb: str, **fields: Any) -> dict[str, Any]:
        return (await self.all([self.send(verb, **fields)], verb))[0]

    async def all(self, answers: list[asyncio.Future[dict[str, Any]]], what: str) -> list[dict[str, Any]]:
        """Every answer, in order; of one who died before, `{"error": "died"}`."""
        _, late = await asyncio.wait(answers, timeout=ANSWER_TIMEOUT_S)
        if late:
            raise Violation(
                Kind.HUNG, f"node {self.name} did not answer '{what}' within {ANSWER_TIMEOUT_S:g} s"
            )
        return [{"error": "died"} if answer.exception() else answer.result() for answer in answers]

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            with contextlib.suppress(OSError):
                while line := await reader.readline():
                    if line.endswith(b"\n"):
                        self._hear(json.loads(line))
        finally:
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(Died())
            self._answers.clear()
            self.open_companies.clear()
            self.is_disk_full = False

    def _hear(self, message: dict[str, Any]) -> None:
        if "id" in message:
            answer = self._answers.pop(message["id"])
            if not answer.done():
                answer.set_result(message)
        elif message["event"] == "ready":
            self._ready.set()
        elif message["event"] == "fenced":
            self.fenced.add(message["company"])
            self.open_companies.discard(message["company"])
        elif message["name"] == "replica_corrupt":
            self.is_damage_told = True
        self.note(f"{self.name}: {json.dumps(message)[:_NOTED_CHARS]}")

    def pause(self) -> None:
        if self.is_running:
            self._signal(signal.SIGSTOP)
            self.is_paused = True

    def resume(self) -> None:
        if self.is_paused:
            self._signal(signal.SIGCONT)
            self.is_paused = False

    async def stop(self) -> None:
        """Let it end by itself, as at a deployment."""
        self.resume()
        if self.is_running and self._writer is not None:
            self._writer.write(b'{"do": "stop"}\n')
            assert self._listening is not None
            await asyncio.wait({self._listening}, timeout=_STOP_TIMEOUT_S)
            if self.is_running:
                await self.end()
                raise Violation(Kind.HUNG, f"node {self.name} did not stop within {_STOP_TIMEOUT_S:g} s")
        await self.end()

    async def end(self) -> None:
        """SIGKILL, and wait until nothing of it is left."""
        if self._pidfd is not None:
            self.note(f"{self.name}: end{'' if self.is_running else ' (dead already)'}")
            self._signal(signal.SIGKILL)
            poller = select.poll()
            poller.register(self._pidfd, select.POLLIN)
            assert poller.poll(_DEATH_TIMEOUT_S * 1000), "a killed worker does not end"
            os.close(self._pidfd)
            self._pidfd = None
        self.is_paused = False
        if self._listening is not None:
            await self._listening
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _signal(self, number: int) -> None:
        assert self._pidfd is not None
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)
