"""The service: every room wired together, started and stopped as one.

Invariant: `stop` undoes what `start` did, in reverse order, also when `start` failed half way. With a replica there,
`start` waits neither for PostgreSQL nor for its schema.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import structlog

from standfast import __version__
from standfast.authstate.company import Company
from standfast.errors import CompanyInUse
from standfast.health.database import DatabaseWatch
from standfast.health.tracing import traces
from standfast.jobs.emergency.past import Past
from standfast.messaging.mailbox import Mailbox
from standfast.messaging.messenger import Messenger
from standfast.messaging.webhooks import Webhooks
from standfast.node import bridge_directory, node_binary
from standfast.postgres.handovers import Handovers
from standfast.postgres.pool import Database
from standfast.postgres.replication import Replication
from standfast.service.alerting import Alerting
from standfast.service.archivist import Archivist
from standfast.service.board import Board
from standfast.service.changelog import ChangeLog
from standfast.service.chatting import Chatting
from standfast.service.consuming import Consuming
from standfast.service.correspondence import Correspondence, make_messenger, open_correspondence
from standfast.service.exporter import Exporter
from standfast.service.files_mode import FilesMode
from standfast.service.follower import DatabaseFollower
from standfast.service.foundation import Foundation, cancelled
from standfast.service.handover import Handover
from standfast.service.holders import Holders
from standfast.service.hooking import Hooking
from standfast.service.instruments import Instruments
from standfast.service.keeping import Keeping
from standfast.service.monitoring import Monitoring
from standfast.service.observation import Observation, Watched
from standfast.service.operators import Operators
from standfast.service.options import ServiceOptions
from standfast.service.picture import HealthPicture
from standfast.service.pre_keys import asks_sessions
from standfast.service.readers import Readers
from standfast.service.rehearsing import Rehearsing
from standfast.service.restore_methods import RestoreMethods
from standfast.service.return_methods import ReturnMethods
from standfast.service.returning import LocalReturn
from standfast.service.roster import VaultRoster
from standfast.service.simulator import Simulator
from standfast.service.takeover import Takeover
from standfast.service.to_files import LocalFiles
from standfast.service.to_files_methods import ToFilesMethods
from standfast.service.vault import vault_options
from standfast.service.verify_methods import VerifyMethods
from standfast.sessions import alarms as session_alarms
from standfast.sessions.engine import Engine, HostCommand
from standfast.sessions.events import EventBus
from standfast.sessions.gateway import Gateway
from standfast.sessions.hosts import Hosts
from standfast.sessions.pool import SessionPool
from standfast.sessions.watch import HostWatch
from standfast.sessions.wire import Connection
from standfast.settings import Settings
from standfast.state_dir import StateDirectory
from standfast.vault.decisions import Decisions
from standfast.vault.outage import State
from standfast.vault.rehearsal import Rehearsal
from standfast.vault.vault import Vault

if TYPE_CHECKING:
    from standfast.service.http import HttpDoor

__all__ = ["Service", "ServiceOptions"]
log = structlog.get_logger(__name__)
SCHEMA_PATIENCE_S = 0.6  # since the schema was begun to be looked at; the host is started meanwhile


class Service:
    """`async with Service(settings) as service:` runs everything; `service.pool` drives sessions."""

    def __init__(self, settings: Settings, options: ServiceOptions | None = None) -> None:
        self.settings = settings
        self.options = given = options or ServiceOptions()
        self.bus = EventBus()
        self.alerts = Alerting(settings, self.bus, given.clock, given.channels, given.couriers)
        self.state = StateDirectory(settings.state_dir)
        self._instruments = Instruments(settings)
        self.change_log = ChangeLog(settings, self.alerts)
        self.files = FilesMode(settings, self.alerts)
        self._foundation = Foundation(
            settings,
            self.alerts,
            given.clock,
            self._instruments.observers,
            self._is_dead,
            self.change_log.attach,
            self.files,
        )
        self._stack = contextlib.AsyncExitStack()
        self.simulator: Simulator | None = None
        self.database: Database
        self.vault: Vault
        self.roster: VaultRoster
        self.gateway: Gateway
        self.hosts: Hosts
        self.pool: SessionPool
        self.correspondence: Correspondence
        self.mailbox: Mailbox
        self.webhooks: Webhooks
        self.messenger: Messenger
        self.http: HttpDoor | None = None
        self.picture: HealthPicture
        self.monitoring: Monitoring
        self.keeping: Keeping
        self._board: Board
        self.watch: HostWatch
        self._follower: DatabaseFollower
        self._takeover: Takeover
        self._handover: Handover
        self._archivist: Archivist

    @property
    def engine(self) -> Engine:
        """That of the oldest Node host."""
        return self.hosts.members[0].engine

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start database, gateway, Node host and the wanted sessions; raises the error of what failed,
        with everything ended again."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def stop(self) -> None:
        """End sessions, host, gateway and database, and give the state directory back."""
        await self._stack.aclose()

    async def _start(self) -> None:
        # Found before anything is started: a missing Node is the commonest mistake of a new machine.
        node, bridge = self._node_and_bridge()
        self.state.acquire()
        self._stack.callback(self.state.release)
        await self._stack.enter_async_context(traces(vault_options(self.settings).node_name))
        await self._stack.enter_async_context(self.alerts.open())
        self._bind_http()
        if self.options.with_simulator:
            self.simulator = Simulator(self.state.path / "whatsapp", node, bridge)
            self._stack.push_async_callback(self.simulator.stop)
            await self.simulator.start()
        foundation = self._foundation
        await self._stack.enter_async_context(foundation.open())
        await self._stack.enter_async_context(self.change_log.writing())
        self.database, self.vault = foundation.database, foundation.vault
        opened = await self._stack.enter_async_context(
            open_correspondence(self.settings, self.vault, self.bus, self.alerts)
        )
        self.correspondence, self.mailbox, self.webhooks = opened, opened.mailbox, opened.webhooks
        self._wire(node, bridge)
        if not self.options.gateway_only:
            # What an earlier run has not sent goes before whatever is accepted from now on.
            await self.messenger.outbox.start()
            self._stack.push_async_callback(self.messenger.outbox.stop)
        await self.gateway.start()
        self._stack.push_async_callback(self.gateway.stop)
        self._stack.callback(self.mailbox.log.end_waits)
        for room in (self._board, self._follower, self._takeover, self._archivist, self.monitoring):
            self._spawn(room.run())
        if not self.options.gateway_only:
            # Undone from the last to the first: no new sends, no new sockets; the hosts end theirs, and what they hand
            # over meanwhile is kept; then what is to be written down.
            self._stack.push_async_callback(self.pool.close)
            await self.hosts.start()
            self._stack.push_async_callback(self.hosts.stop)
            self._spawn(self.watch.run())
            self._spawn(self._handover.run())
            self._stack.push_async_callback(self.pool.halt)
            self._stack.push_async_callback(self.messenger.outbox.stop)
            if self.http is not None:
                await self.http.start(
                    self.pool,
                    self.messenger,
                    self.status,
                    self.vault,
                    self.hosts,
                    self.alerts.listed,
                    self.picture.health,
                    self._instruments.queries.tallies,
                    self.keeping.figures,
                )
                self._stack.push_async_callback(self.http.stop)
            if self.vault.outage.state is State.ONLINE:
                # The tables of a database that is there may just be being made.
                await self._foundation.schema.tried_within(SCHEMA_PATIENCE_S)
            await self.pool.start_wanted()
            for company in self.roster.stopped():
                self.alerts.take(session_alarms.unwanted(company))
        await self._stack.enter_async_context(self.keeping.running())

    def _bind_http(self) -> None:
        if self.settings.http == "off" or self.options.gateway_only:
            return
        from standfast.service.http import HttpDoor  # FastAPI takes a while to import

        self.http = HttpDoor(self.settings, self.state.path)
        self.http.bind()
        self._stack.push_async_callback(self.http.stop)

    def _wire(self, node: Path, bridge: Path) -> None:
        archive = self.state.path / "archive"
        name = f"standfast/{__version__}"
        self.gateway = Gateway(self.state.gateway_socket, self.vault, name, self.options.limits)
        self.roster = VaultRoster(self.database, self.vault, archive)
        self.pool = SessionPool(
            self.roster,
            self.bus,
            self.mailbox,
            self.options.backoff,
            check=self.vault.check_writable,
            alerts=self.alerts,
            find_holder=Holders(self.database, self.vault, self.gateway).find,
            pairing=self.options.pairing,
        )
        self.messenger = make_messenger(self.settings, self.correspondence, self.pool, self.bus)
        self._spawn(self.messenger.media.run())
        settings, options = self.settings, self.options
        self.hosts = Hosts(
            partial(Engine, self._host_command(node, bridge), options=options.engine),
            self.pool.hearing,
            self.pool.runs,
            self.alerts,
            replace(options.hosts, sessions_per_host=settings.sessions_per_host),
        )
        self.pool.use_hosts(self.hosts)
        limits = replace(
            options.watch, deaf_after_s=settings.deaf_after_s, host_memory_mb=settings.host_memory_mb
        )
        self.watch = HostWatch(self.hosts, self.pool, self.alerts, limits)
        database_watch = DatabaseWatch(self.database, embedded=self.settings.database_is_embedded)
        self._board = Board(
            str(self.state.path),
            self.database,
            database_watch,
            self.vault,
            self.gateway,
            self.hosts,
            self.pool,
            self.simulator,
            self.files,
        )
        operators = Operators(
            self.pool,
            self.messenger,
            self.bus,
            self.status,
            self.settings.default_region,
            Decisions(self.vault, Replication(self.database), archive),
            Exporter(self.vault, self.database),
            fallback=self.settings.pairing_fallback,
        )
        self.gateway.serve_hosts(self.hosts)
        consuming = Consuming(self.mailbox.consumers)
        self.keeping = Keeping(
            settings, self.database, self.vault, self.alerts, asks_sessions(self.pool), options.schedule
        )
        restoring = RestoreMethods(self.vault, self.pool, self.gateway)
        rehearsing = Rehearsing(Rehearsal(self.vault, Replication(self.database)), self.pool)
        going = ToFilesMethods(
            LocalFiles(self.vault, self.database, self.files, Past(settings, self.vault.options.node_name)),
            self.files,
            self.pool,
            self.watch,
        )
        returning = ReturnMethods(LocalReturn(self.vault, self.database, self.files), self.pool, self.hosts)
        self._takeover = Takeover(self.database, self.pool, self.vault.replica.node, self.alerts)
        self._handover = Handover(
            Handovers(self.database, self.vault.replica.node),
            self.pool,
            self.vault,
            self.messenger.outbox,
            self._takeover,
            lambda: any(member.engine.is_ready for member in self.hosts.members),
            options.handover,
        )
        watched = Watched(
            self.database,
            self.vault,
            self._board,
            self.pool,
            self.hosts,
            self.messenger,
            self.keeping,
            self.change_log,
            self.alerts,
        )
        observation = Observation(settings, options, self._instruments, watched, self.state.path)
        self.picture, self.monitoring = observation.picture, observation.monitoring
        self._stack.push_async_callback(observation.history.close)
        self._spawn(observation.gauges.run())
        rooms = (
            operators,
            Readers(self.messenger),
            Chatting(self.messenger),
            Hooking(self.webhooks),
            consuming,
            self.monitoring,
            self.alerts,
            self.keeping,
            restoring,
            rehearsing,
            returning,
            going,
            self._handover,
            VerifyMethods(self.vault.replica),
        )
        methods = {name: method for room in rooms for name, method in room.methods().items()}

        def gone(connection: Connection) -> None:
            operators.gone(connection)
            consuming.gone(connection)
            restoring.gone(connection)
            going.gone(connection)
            rehearsing.gone(connection)

        self.gateway.serve_operators(methods, gone)
        self._follower = DatabaseFollower(
            self.vault, self.roster, self._foundation.schema, None if self.options.gateway_only else self.pool
        )
        self._archivist = Archivist(self.roster, self.pool, self.alerts)
        self.vault.outage.changed(lambda _state: self._archivist.wake())
        for listener in (self._takeover.take, self._archivist.take):
            self._stack.callback(self.bus.subscribe(listener))
        self.vault.keeper.on_fenced = self._fenced

    def _fenced(self, company: Company, error: CompanyInUse) -> None:
        """Another owner has the company: whoever uses it here ends at once."""
        self.pool.lost(company, error)
        self.gateway.revoke(company, error)

    def _is_dead(self, company: Company) -> bool:
        return self.roster.is_dead(company)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._stack.push_async_callback(cancelled, asyncio.create_task(work))

    def _node_and_bridge(self) -> tuple[Path, Path]:
        if self.options.gateway_only:
            return Path("node"), Path()
        return node_binary(self.settings.node_binary), bridge_directory(self.settings.bridge_dir)

    def _host_command(self, node: Path, bridge: Path) -> HostCommand:
        simulated = self.simulator.host_environment() if self.simulator else {}
        environment = {"STANDFAST_LOG": "warn", **simulated, **self.options.host_environment}
        return HostCommand((str(node), str(bridge / "host.mjs")), self.state.gateway_socket, environment)

    async def status(self) -> dict[str, Any]:
        """The operator's picture; the schema of `standfast status --json`."""
        url = self.http.url if self.http is not None else None
        consumers = self.mailbox.consumers.all()
        webhooks = self.webhooks.all()
        return {**self._board.document(), "webhooks": webhooks, "consumers": consumers, "http": url}
