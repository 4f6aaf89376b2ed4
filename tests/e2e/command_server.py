"""`standfast` without its start: a process that has imported the program forks for each command.

Documents have many commands, and two thirds of what each costs is Python's start. Invariant: a command has its caller's
arguments, environment, directory and standard streams, and a process of its own; nothing of another command.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from importlib import import_module
from pathlib import Path

from standfast.cli.commands import COMMANDS, commands_of
from standfast.cli.main import main

ACCEPT_TIMEOUT_S = 2.0
# What commands import only when they run.
_LATER = (
    "standfast.cli.health_source",
    "standfast.cli.health_view",
    "standfast.jobs.backup.restore_test",
    "standfast.service.health_offline",
    "standfast.service.job_context",
    "standfast.settings.loading",
    "uvloop",
)
_CLIENT = """#!{python} -SE
import json, os, socket, sys
caller = {{"args": sys.argv[1:], "environment": dict(os.environ), "directory": os.getcwd()}}
message = json.dumps(caller).encode() + b"\\n"
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [message[:1]], [0, 1, 2])
    server.sendall(message[1:])
    ended = server.recv(1)
sys.exit(ended[0] if ended else "the command was killed")
"""


def write_client(file: Path, address: Path) -> None:
    """The program that commands are called by."""
    file.write_text(_CLIENT.format(python=sys.executable, address=str(address)))
    file.chmod(0o700)


def serve(address: str) -> None:
    """Until the process that started this one is gone."""
    for listed in COMMANDS:
        commands_of(listed.module)
    for module in _LATER:
        import_module(module)
    assert threading.active_count() == 1, "a process with threads must not fork"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        listener.settimeout(ACCEPT_TIMEOUT_S)
        print("ready", flush=True)  # noqa: T201 - what the test waits for
        while os.getppid() == parent:
            try:
                caller, _ = listener.accept()
            except TimeoutError:
                continue
            if os.fork() == 0:
                listener.close()
                _run(caller)
            caller.close()


def _run(caller: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    caller.setblocking(True)
    message, streams, _, _ = socket.recv_fds(caller, 65_536, 3)
    while not message.endswith(b"\n"):
        message += caller.recv(65_536)
    asked = json.loads(message)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["directory"])
    code = 1
    try:
        code = main(asked["args"])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        caller.sendall(bytes([code]))
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
