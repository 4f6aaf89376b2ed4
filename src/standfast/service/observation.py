"""`Observation`: everything that watches a running service, put together.

Invariant: nothing here changes what it watches.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from standfast.health.keys import KeyWatch
from standfast.health.outage_history import OutageHistory
from standfast.messaging.messenger import Messenger
from standfast.postgres.pool import Database
from standfast.service.alerting import Alerting
from standfast.service.board import Board
from standfast.service.changelog import ChangeLog
from standfast.service.instruments import Instruments
from standfast.service.keeping import Keeping
from standfast.service.monitoring import Monitoring
from standfast.service.node_gauges import NodeGauges
from standfast.service.options import ServiceOptions
from standfast.service.picture import HealthPicture
from standfast.sessions.hosts import Hosts
from standfast.sessions.pool import SessionPool
from standfast.settings import Settings
from standfast.vault.vault import Vault


@dataclass(frozen=True, slots=True)
class Watched:
    """The parts of a service that are watched."""

    database: Database
    vault: Vault
    board: Board
    pool: SessionPool
    hosts: Hosts
    messenger: Messenger
    keeping: Keeping
    change_log: ChangeLog
    alerts: Alerting


class Observation:
    """`gauges.run` and `monitoring.run` are to be run, `history.close` awaited in the end."""

    def __init__(
        self,
        settings: Settings,
        options: ServiceOptions,
        instruments: Instruments,
        watched: Watched,
        state_dir: Path,
    ) -> None:
        vault = watched.vault
        node = vault.options.node_name
        keys = KeyWatch(watched.database, vault.replica.node, node, instruments.thresholds)
        self.history = OutageHistory(
            state_dir / "outages.json",
            vault.outage,
            lambda: vault.replicator.carried.batches,
            options.clock,
        )
        self.gauges = NodeGauges(
            settings,
            instruments.thresholds,
            watched.board,
            watched.pool,
            watched.hosts,
            watched.messenger,
            options.clock,
            watched.keeping,
            watched.change_log,
        )
        self.picture = HealthPicture(
            node,
            instruments,
            watched.database,
            keys,
            self.history,
            watched.board,
            watched.alerts,
            self.gauges,
            watches=settings.auto_start_monitoring,
        )
        self.monitoring = Monitoring(
            settings,
            instruments,
            watched.database,
            vault,
            keys,
            self.picture,
            watched.alerts,
            options.pace,
        )
