"""The zygote: has everything imported, and forks a worker in milliseconds where a new process takes half a second.

Run as `python -m tests.chaos.zygote DESCRIPTOR`. Invariant: its workers end with it, and it ends with its controller.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

from tests.chaos import worker

_PR_SET_PDEATHSIG = 1
_MESSAGE_BYTES = 65536


def main(descriptor: int) -> None:
    control = socket.socket(fileno=descriptor)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    own_pid = os.getpid()
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, _MESSAGE_BYTES, 1)
        if not message:
            return
        pid = os.fork()
        if pid == 0:
            _become_worker(own_pid, control, descriptors[0], json.loads(message))
        os.close(descriptors[0])
        control.sendall(json.dumps({"pid": pid}).encode() + b"\n")


def _become_worker(parent_pid: int, control: socket.socket, descriptor: int, config: dict[str, Any]) -> None:
    """Never returns."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent_pid:
            os._exit(1)
        control.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(Path(config["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        worker.main(socket.socket(fileno=descriptor), config)
        code = 0
    except BaseException:  # noqa: BLE001 - nothing of the zygote may run on in the fork
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(int(sys.argv[1]))
