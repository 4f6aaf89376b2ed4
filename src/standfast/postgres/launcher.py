"""Becomes the embedded `postgres`: run as `python -I launcher.py PARENT_PID MAPPED_UID PROGRAM ARGS…`.

It owns the moment between fork and exec. Invariant: the server never outlives the process that started it.
It imports nothing of Standfast, so that it starts quickly and isolated. `MAPPED_UID` is `-` or the uid that
the server believes it has: PostgreSQL refuses to run as root, so for root it is given a user namespace in
which root is somebody else; its files still belong to root outside.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
NAMESPACE_REFUSED = 71
PARENT_GONE = 72


def main(parent_pid: int, mapped_uid: str, command: list[str]) -> None:
    if mapped_uid != "-":
        enter_user_namespace(int(mapped_uid))
    if sys.platform == "linux":
        end_with_parent(parent_pid)
    os.execv(command[0], command)  # noqa: S606  # replacing this process is the purpose


def enter_user_namespace(uid: int) -> None:
    real_uid, real_gid = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        sys.stderr.write(f"unshare: {os.strerror(ctypes.get_errno())}\n")
        sys.exit(NAMESPACE_REFUSED)
    try:
        write_map("setgroups", "deny")
        write_map("uid_map", f"{uid} {real_uid} 1")
        write_map("gid_map", f"{uid} {real_gid} 1")
    except OSError as error:
        sys.stderr.write(f"user namespace: {error}\n")
        sys.exit(NAMESPACE_REFUSED)


def write_map(name: str, text: str) -> None:
    with open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123  # pathlib is slow to import
        file.write(text)


def end_with_parent(parent_pid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)
    # The parent may have died before the signal was asked for.
    if os.getppid() != parent_pid:
        sys.exit(PARENT_GONE)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
