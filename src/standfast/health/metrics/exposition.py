"""`Metrics`: what `/metrics` answers.

Invariant: nothing here waits on PostgreSQL or a session; who may see single companies only sees nothing of others.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import ProcessCollector
from prometheus_client.exposition import choose_encoder, gzip_accepted

from standfast.health.document import Health
from standfast.health.metrics import node, sessions, stores
from standfast.health.metrics.families import Families
from standfast.health.metrics.jobs import JobFigures, add_jobs
from standfast.health.metrics.sessions import Companies, Wire, figures_of
from standfast.health.queries import Tally
from standfast.health.thresholds import Thresholds

_GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class Scrape:
    """One answer; `encoding` as in Content-Encoding, None for none."""

    body: bytes
    content_type: str
    encoding: str | None


class Metrics:
    """`health` gives the document as it stands, `session_wires` every session, `statements` the counts by statement,
    `jobs` those of jobs."""

    def __init__(
        self,
        health: Callable[[], Health],
        session_wires: Callable[[], Sequence[Wire]],
        statements: Callable[[], Mapping[str, Tally]] = dict,
        thresholds: Thresholds | None = None,
        jobs: Callable[[], JobFigures] = JobFigures,
    ) -> None:
        self._health = health
        self._session_wires = session_wires
        self._statements = statements
        self._thresholds = thresholds or Thresholds()
        self._jobs = jobs
        self._companies = Companies()
        self._process = ProcessCollector(registry=None)

    async def scrape(
        self, accept: str = "", accept_encoding: str = "", companies: Sequence[str] | None = None
    ) -> Scrape:
        """In the format that was asked for; of `companies` alone where they are given."""
        health = self._health()
        families = self._all(health) if companies is None else self._part(health, set(companies))
        encode, content_type = choose_encoder(accept)
        compresses = gzip_accepted(accept_encoding)

        def write() -> bytes:
            text = encode(families)
            return _compressed(text) if compresses else text

        # Writing takes longer than all the rest, and the event loop has messages to pass on.
        body = await asyncio.to_thread(write)
        return Scrape(body, content_type, "gzip" if compresses else None)

    def _all(self, health: Health) -> Families:
        out = Families()
        wires = self._session_wires()
        node.add_service(out, health)
        node.add_verdict(out, health)
        node.add_database(out, health.database)
        node.add_pool(out, health.pool)
        node.add_queries(out, health.queries, self._statements())
        stores.add_outage(out, health.vault)
        stores.add_vault(out, health.vault)
        sessions.add_states(out, wires)
        sessions.add_totals(out, health.sessions)
        sessions.add_companies(out, self._companies.figures(wires))
        stores.add_keys(out, health.keys, self._thresholds)
        stores.add_backups(out, health.backups, self._thresholds, health.at)
        add_jobs(out, self._jobs())
        node.add_machine(out, health.machine)
        node.add_alerts(out, health.alerts)
        out.add(self._process.collect())
        return out

    def _part(self, health: Health, companies: set[str]) -> Families:
        """What concerns everybody, and these companies."""
        out = Families()
        wires = [wire for wire in self._session_wires() if wire["company"] in companies]
        node.add_service(out, health)
        node.add_database(out, health.database)
        stores.add_outage(out, health.vault)
        sessions.add_states(out, wires)
        sessions.add_companies(out, figures_of(wires, {}))
        return out


def _compressed(text: bytes) -> bytes:
    # Level 1: metrics repeat themselves so much that more costs time and saves little.
    packer = zlib.compressobj(1, wbits=_GZIP)
    return packer.compress(text) + packer.flush()
