"""`open_vault`: every part of the vault put together, started and stopped as one.

Invariant: PostgreSQL is not waited for: a vault opens with it away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

from standfast.alert import AlertSink, LoggedAlerts
from standfast.authstate.company import Company
from standfast.errors import StandfastError
from standfast.postgres.leases import Leases
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.postgres.replication import Replication
from standfast.vault import alerts as raised
from standfast.vault.clock import Clock, SystemClock
from standfast.vault.confirmation import Confirmation
from standfast.vault.grace import Grace
from standfast.vault.heartbeat import HeartbeatLoop
from standfast.vault.lease import LeaseKeeper
from standfast.vault.options import VaultOptions
from standfast.vault.outage import OutageClock, State
from standfast.vault.recovery import Recovery
from standfast.vault.storage.damage import Damage
from standfast.vault.storage.replica import Replica
from standfast.vault.upkeep import Upkeep
from standfast.vault.vault import Vault

PROBE_CONNECTIONS = 2
PROBE_DEADLINE_S = 1.2
_LEAVE_TIMEOUT_S = 2.0
_LAST_LOOK_S = 0.3
_CANCEL_INTERVAL_S = 0.2


def _nobody_listens(_replica: Replica) -> None:
    return None


def _nobody_is_dead(_company: Company) -> bool:
    return False


@contextlib.asynccontextmanager
async def open_vault(
    directory: Path,
    database: Database,
    options: VaultOptions | None = None,
    *,
    alerts: AlertSink | None = None,
    clock: Clock | None = None,
    key: bytes | None = None,
    is_dead: Callable[[Company], bool] = _nobody_is_dead,
    attach: Callable[[Replica], None] = _nobody_listens,
    detached: StandfastError | None = None,
) -> AsyncIterator[Vault]:
    """The vault whose file lies in `directory`, in front of `database` (opened, and closed, by the caller). `attach` is
    given its replica before anything becomes of it. `detached`: PostgreSQL is left alone from the start; see
    `Vault.detach`."""
    options, alerts, clock = options or VaultOptions(), alerts or LoggedAlerts(), clock or SystemClock()

    vault: Vault | None = None
    found_at_opening: Damage | None = None

    def damaged(damage: Damage) -> None:
        nonlocal found_at_opening
        # At opening there is no vault yet that could mend anything: its first opening of a company does.
        if vault is None:
            found_at_opening = damage
            alerts.take(raised.replica_corrupt(damage))
        else:
            vault.damaged(damage)

    replica = Replica.open(directory, key, on_damage=damaged, wall=clock.wall, boot_id=clock.boot_id())
    attach(replica)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(replica.close)
        # Its own connections: a pool that is exhausted or a long statement must not look like an outage.
        probing = await stack.enter_async_context(Database(_short(database.options), database.observer))
        leases, replication = Leases(database), Replication(database)
        outage, confirmation = OutageClock(), Confirmation(directory / "confirmation", clock)
        keeper = LeaseKeeper(replica, leases, replication, options, clock, alerts)
        heartbeat = HeartbeatLoop(
            Leases(probing), outage, confirmation, replica.node, options.node_name, options.lease_ttl_s, clock
        )
        grace = Grace(confirmation, options, clock)
        vault = Vault(replica, replication, keeper, outage, grace, options, alerts, heartbeat.note_failure)
        vault.held.damage = found_at_opening
        if detached is not None:
            vault.detach(detached)
        recovery = Recovery(vault, heartbeat, alerts)
        for work in (
            heartbeat.run(),
            vault.replicator.run(),
            recovery.run(),
            Upkeep(vault, alerts, is_dead).run(),
        ):
            stack.push_async_callback(_cancelled, asyncio.create_task(work))
        stack.push_async_callback(_leave, Leases(probing), replica.node, outage)
        stack.push_async_callback(vault.close)
        yield vault


def _short(options: DatabaseOptions) -> DatabaseOptions:
    return replace(
        options,
        max_connections=PROBE_CONNECTIONS,
        connect_timeout_s=min(options.connect_timeout_s, PROBE_DEADLINE_S),
        checkout_timeout_s=min(options.checkout_timeout_s, PROBE_DEADLINE_S),
        statement_timeout_s=min(options.statement_timeout_s, PROBE_DEADLINE_S),
    )


async def _leave(leases: Leases, node: str, outage: OutageClock) -> None:
    """Whoever wants this node's companies need not wait until its lease runs out."""
    if outage.detached is not None:
        return  # this node comes back on files: nobody else is to take its companies over meanwhile
    timeout_s = _LAST_LOOK_S if outage.state is State.OUTAGE else _LEAVE_TIMEOUT_S
    with contextlib.suppress(StandfastError, TimeoutError):
        async with asyncio.timeout(timeout_s):
            await leases.leave(node)


async def _cancelled(task: asyncio.Task[None]) -> None:
    # Before Python 3.12 `asyncio.wait_for` can lose a cancellation that comes together with its result.
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_CANCEL_INTERVAL_S)
