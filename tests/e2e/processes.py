"""`standfast` and Node bots as processes of their own, as people start them; and what they leave behind.

Invariant: every process lives in the test's own directory (its HOME), by which all that it started are found again.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from standfast.state_dir import StateDirectory
from tests.e2e.conftest import until

RUN_TIMEOUT_S = 30.0
END_TIMEOUT_S = 5.0
_STANDFAST = (sys.executable, "-m", "standfast")
# Takes the terminal at stdin as its own, so that Ctrl-C typed there is a signal, then becomes the program.
_IN_TERMINAL = "import os, sys; os.login_tty(0); os.execv(sys.argv[1], sys.argv[1:])"
_INHERITED = ("PATH", "LANG", "TMPDIR", "PYTHONPATH")
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Ran:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


class Process:
    """A running process whose output goes to a file."""

    def __init__(self, popen: subprocess.Popen[bytes], output: Path) -> None:
        self.popen = popen
        self._output = output

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def output(self) -> Path:
        """Where it says it."""
        return self._output

    def text(self) -> str:
        """Everything it has said."""
        return self._output.read_text(errors="replace")

    async def says(self, text: str, timeout_s: float = RUN_TIMEOUT_S) -> None:
        """Wait until it has said `text`."""
        await self.until(lambda: text in self.text(), f"said {text!r}", timeout_s)

    async def until(self, done: Any, what: str, timeout_s: float = RUN_TIMEOUT_S) -> None:
        """Wait until `done()` is true; fails at once where the process ends before."""
        await until(lambda: done() or self.popen.poll() is not None, f"{what}\n{self.text()}", timeout_s)
        assert done(), f"ended with {self.popen.poll()} before: {what}\n{self.text()}"

    async def end(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = RUN_TIMEOUT_S) -> float:
        """Send a signal; the seconds that it took to end."""
        began = time.monotonic()
        self.popen.send_signal(number)
        await self.ended(timeout_s)
        return time.monotonic() - began

    async def ended(self, timeout_s: float = RUN_TIMEOUT_S) -> int:
        """Wait for its end; its exit code."""
        await until(lambda: self.popen.poll() is not None, f"pid {self.pid} ended\n{self.text()}", timeout_s)
        return self.popen.returncode


class Terminal(Process):
    """A process in a terminal of its own."""

    def __init__(self, popen: subprocess.Popen[bytes], master: int) -> None:
        super().__init__(popen, Path(os.devnull))
        self._master = master
        self._said = bytearray()
        os.set_blocking(master, False)
        asyncio.get_running_loop().add_reader(master, self._read)

    def type(self, keys: bytes) -> None:
        """What a person types."""
        os.write(self._master, keys)

    def text(self) -> str:
        return self._said.decode("utf-8", "replace")

    def screen(self) -> list[str]:
        """The lines of the last picture that was drawn whole."""
        pictures = self.text().split("\x1b[H")
        return plain(pictures[-2] if len(pictures) > 2 else pictures[-1])

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)

    def _read(self) -> None:
        try:
            self._said += os.read(self._master, 65536)
        except OSError:  # Linux tells the end of the other side as an I/O error
            asyncio.get_running_loop().remove_reader(self._master)


def plain(text: str) -> list[str]:
    """Lines without colours and cursor movements."""
    return _CONTROLS.sub("", text).replace("\r", "").split("\n")


class Home:
    """A directory that is one person's whole machine: HOME, working directory, state directory `state`."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self.directory = directory
        self.state = StateDirectory(directory / "s")
        self.environment = {
            **{name: value for name, value in os.environ.items() if name in _INHERITED},
            "HOME": str(directory),
            "TERM": "xterm-256color",
            "STANDFAST_STATE_DIR": str(self.state.path),
            "STANDFAST_HTTP_PORT": "0",
            **environment,
        }
        self._outputs = 0
        self._started: list[subprocess.Popen[bytes]] = []

    async def __call__(self, *args: str | Path, timeout_s: float = RUN_TIMEOUT_S, **environment: str) -> Ran:
        """Run `standfast` with these arguments to its end."""
        errors = self._output()
        process = self.run([*_STANDFAST, *args], environment, errors=errors)
        code = await process.ended(timeout_s)
        return Ran(code, process.text(), errors.read_text())

    def start(self, *args: str | Path, **environment: str) -> Process:
        """Start `standfast`; stdout and stderr go together."""
        return self.run([*_STANDFAST, *args], environment)

    def run(
        self,
        argv: Sequence[str | Path],
        environment: Mapping[str, str],
        *,
        errors: Path | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> Process:
        """Start any program; stderr goes with stdout, or to the file `errors`."""
        output = self._output()
        with output.open("wb") as out, contextlib.ExitStack() as stack:
            popen = subprocess.Popen(
                [str(arg) for arg in argv],
                cwd=self.directory,
                env={**self.environment, **environment},
                stdin=stdin,
                stdout=out,
                stderr=stack.enter_context(errors.open("wb")) if errors else subprocess.STDOUT,
            )
        self._started.append(popen)
        return Process(popen, output)

    @contextlib.asynccontextmanager
    async def terminal(self, *args: str | Path, columns: int, lines: int) -> AsyncIterator[Terminal]:
        """`standfast` in a terminal window of this size."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        terminal = Terminal(self._in_terminal(slave, args), master)
        os.close(slave)
        try:
            yield terminal
        finally:
            terminal.close()

    def _in_terminal(self, slave: int, args: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-c", _IN_TERMINAL, *_STANDFAST, *map(str, args)]
        directory, environment = self.directory, self.environment
        return subprocess.Popen(argv, cwd=directory, env=environment, stdin=slave, stdout=slave, stderr=slave)

    def remains(self) -> list[str]:
        """Everything alive that was started here: processes, sockets, held locks."""
        found = [f"pid {process.pid}: {process.name()}" for process in processes_of(self.directory)]
        found += [str(path) for path in self.directory.rglob("*") if stat.S_ISSOCK(path.lstat().st_mode)]
        for path in (self.state.path, self.state.path / "simulator"):
            holder = StateDirectory(path).holder()
            found += [f"{path} held by {holder}"] if holder else []
        return found

    async def no_process_remains(self, timeout_s: float = END_TIMEOUT_S) -> None:
        """Wait until every process that was started here has ended; fails with those that have not."""
        with contextlib.suppress(AssertionError):
            await until(lambda: not processes_of(self.directory), "no process", timeout_s)
        assert processes_of(self.directory) == []

    def clear(self) -> None:
        """Kill what was started here, and all that it started, and remove the directory."""
        for popen in self._started:
            if popen.stdin is not None:
                popen.stdin.close()
            popen.kill()
            popen.wait(END_TIMEOUT_S)
        for process in processes_of(self.directory):
            with contextlib.suppress(psutil.Error):
                process.kill()
                process.wait(END_TIMEOUT_S)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _output(self) -> Path:
        self._outputs += 1
        return self.directory / f"output-{self._outputs}"


def make_home(**environment: str) -> Home:
    """A new home; its path is short, because a socket's may have no more than 100 bytes."""
    return Home(Path(tempfile.mkdtemp(prefix="sf-")).resolve(), environment)


def processes_of(directory: Path) -> list[psutil.Process]:
    """Living processes whose arguments, working directory or environment lie in `directory`."""
    return [process for process in psutil.process_iter() if _lies_in(process, str(directory))]


def _lies_in(process: psutil.Process, directory: str) -> bool:
    try:
        if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
            return False
        told = [*process.cmdline(), process.cwd(), *process.environ().values()]
    except psutil.Error:
        return False
    return any(directory in text for text in told)
