"""`Manager`: a service manager's ear, as systemd has one: a datagram socket."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path


class Manager:
    """`told`: every assignment that came, in order."""

    def __init__(self, one: socket.socket, address: str) -> None:
        self.address = address
        self._socket = one
        self._told: list[str] = []

    @property
    def told(self) -> list[str]:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._told += self._socket.recv(4096).decode().split("\n")
        return self._told

    def status(self) -> str:
        """The status that was told last."""
        return next((line for line in reversed(self.told) if line.startswith("STATUS=")), "")

    def fed(self) -> int:
        """How often the watchdog was fed."""
        return self.told.count("WATCHDOG=1")


@contextlib.contextmanager
def manager_at(path: Path | str) -> Iterator[Manager]:
    """Listens at a path, or at @ and the name of an abstract socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        address = str(path)
        one.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        one.setblocking(False)
        yield Manager(one, address)
