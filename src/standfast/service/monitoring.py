"""`Monitoring`: the service's health as one document, and the watch over it.

Invariant: whoever asks is answered at once, from what was measured last; nothing here waits on PostgreSQL or a session.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from standfast import __version__
from standfast.health.document import Finding, Health, ServiceSection, as_wire
from standfast.health.verdict import by_weight, verdict_of
from standfast.service.params import checked
from standfast.sessions.gateway import OperatorMethod
from standfast.sessions.wire import Connection


class GetHealth(msgspec.Struct):
    """Params of `health.get`."""

    verbose: bool = False


class Monitoring:
    """`run` watches until it is cancelled; `health` is answered whether or not it runs."""

    def __init__(self, node: str, *, watches: bool) -> None:
        self._began = time.monotonic()
        self._node = node
        self._watches = watches

    def methods(self) -> Mapping[str, OperatorMethod]:
        """By name, for `Gateway.serve_operators`."""
        return {"health.get": self._get}

    async def _get(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        return as_wire(self.health(verbose=checked(GetHealth, params).verbose))

    def health(self, *, verbose: bool = False) -> Health:
        """The whole picture; `verbose` with the samples, statements and sessions behind it."""
        findings: list[Finding] = []
        return self._document(findings)

    def _document(self, findings: Iterable[Finding], **sections: Any) -> Health:
        found = by_weight(findings)
        return Health(
            verdict=verdict_of(found),
            measured_by="service",
            at=time.time(),
            findings=found,
            service=self._service(),
            **sections,
        )

    def _service(self) -> ServiceSection:
        return ServiceSection(
            version=__version__,
            python=sys.version.split()[0],
            pid=os.getpid(),
            uptime_s=round(time.monotonic() - self._began, 1),
            node=self._node,
            monitoring=self._watches,
        )
