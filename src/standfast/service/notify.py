"""`Notifier`: tells the service manager how this process is, by systemd's sd_notify protocol.

Invariant: telling neither waits nor fails; where nobody asked to be told, nothing happens. No child process inherits
the address: a PostgreSQL that was built for systemd would speak for the service.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

import structlog

log = structlog.get_logger(__name__)
_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """`watchdog_s`: a process that says nothing for so long is killed; None where none is."""

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        """`address`: a socket's path, or @ and the name of an abstract one."""
        self.watchdog_s = watchdog_s if address else None
        self._address = f"\0{address[1:]}" if address and address.startswith("@") else address
        self._has_failed = False

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] | None = None) -> Notifier:
        """What the manager asked for; taken out of the environment."""
        given = os.environ if environment is None else environment
        address, usec, pid = (given.pop(name, "") for name in _VARIABLES)
        if not address.startswith(("/", "@")):
            return cls()
        is_ours = pid in ("", str(os.getpid()))
        return cls(address, int(usec) / 1e6 if is_ours and usec.isdecimal() and int(usec) else None)

    @property
    def is_asked(self) -> bool:
        """Whether anybody listens."""
        return self._address is not None

    def tell(self, *lines: str) -> bool:
        """Tell these assignments (`READY=1`) in one datagram; whether it was taken."""
        if self._address is None:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as one:
                one.setblocking(False)
                one.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._has_failed:
                log.warning("the service manager could not be told", reason=error.strerror)
            self._has_failed = True
            return False
        self._has_failed = False
        return True
