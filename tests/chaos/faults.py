"""`Faults`: the steps that break something, and those that end it.

Invariant: whoever judges a refusal is told of every fault before it begins.
"""

from __future__ import annotations

import contextlib
import time

import psycopg

from tests.chaos import damage
from tests.chaos.world import World

_EXPIRE = "update standfast_nodes set alive_until = now() - interval '1 second' where name = %s"
_UPTIME_AFTER_REBOOT_S = 20.0


class Faults:
    """Each public method is the step of its name; its arguments are the step's words."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._copied: dict[str, tuple[str | None, int]] = {}

    async def pg(self, fault: str) -> None:
        self._world.expect.disturb(self._world.nodes.values())
        await self._world.server.befall(fault)

    async def net(self, name: str, fault: str, after_bytes: str = "0") -> None:
        node = self._world.nodes[name]
        self._world.expect.disturb([node])
        match fault:
            case "cut" | "heal":
                await getattr(node.link, fault)()
            case "refuse":
                await node.link.close()
            case "stall" | "mute":
                getattr(node.link, fault)()
            case _:
                getattr(node.link, fault)(int(after_bytes))

    async def start(self, name: str) -> None:
        await self._world.start(self._world.nodes[name])

    async def kill(self, name: str) -> None:
        await self._world.nodes[name].end()

    async def stop(self, name: str) -> None:
        await self._world.nodes[name].stop()

    async def detach(self, name: str) -> None:
        """The node leaves PostgreSQL alone, also when it is started again, until `rejoin`."""
        await self._decide(name, "detach")

    async def rejoin(self, name: str) -> None:
        await self._decide(name, "rejoin")

    async def _decide(self, name: str, verb: str) -> None:
        node = self._world.nodes[name]
        self._world.expect.disturb([node])
        node.is_detached = verb == "detach"
        if node.is_able:
            await node.ask(verb)
        elif node.is_paused:
            await node.end()  # it would go on with what it knew

    async def pause(self, name: str) -> None:
        self._world.nodes[name].pause()

    async def resume(self, name: str) -> None:
        self._world.nodes[name].resume()

    async def arm(self, name: str, point: str, count: str) -> None:
        """The node dies by itself when it passes `point` for the `count`-th time."""
        node = self._world.nodes[name]
        if node.is_able:
            await node.ask("arm", point=point, count=int(count))

    async def expire(self, name: str) -> None:
        """The node's lease ends now, as if it had been silent for its time."""
        if self._world.server.is_there:
            with contextlib.suppress(psycopg.OperationalError):
                await (await self._world.server.connection()).execute(_EXPIRE, (name,))

    async def disk(self, name: str, how: str) -> None:
        node = self._world.nodes[name]
        if node.is_able:
            self._world.expect.disk_changed(node)
            node.is_disk_full = how == "full"
            await node.ask("disk", full=node.is_disk_full)

    async def clock(self, name: str, which: str, seconds: str) -> None:
        """The wall clock is set, or (boot) the machine slept: then both clocks have gone on."""
        node = self._world.nodes[name]
        self._world.expect.clock_moved(node, which, int(seconds))
        if which == "boot":
            node.clock[0] += int(seconds)
        node.clock[1] += int(seconds)
        if node.is_able:
            await node.ask("clock", boottime_s=node.clock[0], wall_s=node.clock[1])

    async def reboot(self, name: str) -> None:
        node = self._world.nodes[name]
        self._world.expect.rebooted(node)
        await node.end()
        node.clock[0] = _UPTIME_AFTER_REBOOT_S - time.clock_gettime(time.CLOCK_BOOTTIME)
        node.clock[1] += _UPTIME_AFTER_REBOOT_S + 10
        node.clock[2] += 1

    async def damage(self, name: str, how: str, where: str) -> None:
        node = self._world.nodes[name]
        await node.end()
        await self._world.follow()
        if damage.harm(node.directory, how, float(where)):
            self._world.expect.damaged(node)
            for company in self._world.companies.values():
                self._world.checker.damaged(name, company)

    async def gnaw(self, name: str, how: str, where: str) -> None:
        """Damage to files that are in use: all that was not carried yet, and what is written on, may be gone."""
        node = self._world.nodes[name]
        if node.is_running and damage.harm(node.directory, how, float(where)):
            node.is_damage_told = False
            self._world.expect.damaged(node)
            for company in self._world.companies.values():
                self._world.checker.gnawed(name, company)

    async def keep(self, label: str) -> None:
        """Make a backup of the company."""
        world, company = self._world, self._world.companies[label]
        if not world.server.is_there:
            return
        with contextlib.suppress(psycopg.OperationalError):
            await world.ledger.keep_copy(await world.server.connection(), company)
            await world.follow()
            self._copied[company] = world.checker.tenure(company)

    async def rewind(self, label: str) -> None:
        """Restore it; only where nobody took the company over since: unmaking that is not the vault's to mend."""
        world, company = self._world, self._world.companies[label]
        await world.follow()
        if world.server.is_there and self._copied.get(company) == world.checker.tenure(company):
            with contextlib.suppress(psycopg.OperationalError):
                await world.ledger.put_back(await world.server.connection(), company)
