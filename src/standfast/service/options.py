"""What a service is told beside its settings.

Invariant: everything here has a default that production uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from standfast.alerts.channel import Channel
from standfast.alerts.courier import CourierOptions
from standfast.health.monitor import Pace
from standfast.jobs.schedule.scheduler import Pace as SchedulePace
from standfast.service.handover import HandoverOptions
from standfast.sessions.backoff import Backoff
from standfast.sessions.engine import EngineOptions
from standfast.sessions.hosts import HostsOptions
from standfast.sessions.pairing import PairingOptions
from standfast.sessions.watch import WatchOptions
from standfast.sessions.wire import Limits
from standfast.vault.clock import Clock, SystemClock


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """What a service is told beside its settings: mostly for the simulator and for tests."""

    host_environment: Mapping[str, str] = field(default_factory=dict)
    with_simulator: bool = False
    gateway_only: bool = False
    backoff: Backoff = field(default_factory=Backoff)
    pairing: PairingOptions = field(default_factory=PairingOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)
    hosts: HostsOptions = field(default_factory=HostsOptions)
    watch: WatchOptions = field(default_factory=WatchOptions)
    limits: Limits = field(default_factory=Limits)
    pace: Pace = field(default_factory=Pace)
    clock: Clock = field(default_factory=SystemClock)
    channels: Sequence[Channel] | None = None  # of alerts; None: those that the settings name
    couriers: CourierOptions = field(default_factory=CourierOptions)
    handover: HandoverOptions = field(default_factory=HandoverOptions)
    schedule: SchedulePace = field(default_factory=SchedulePace)
