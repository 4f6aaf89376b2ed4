"""What a restore would do, found out by looking at source, database, replica and change log.

Invariant: nothing is changed by looking.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from standfast.authstate.company import Company
from standfast.authstate.creds import identity_key
from standfast.errors import BackupDamaged, CompanyUnknown, RestoreRefused, SettingsError
from standfast.jobs.restore.later import LoggedStates
from standfast.jobs.restore.node import LocalNode, Standing
from standfast.jobs.restore.plan import Plan, Planned, Wish, decide, identity_to_be, is_empty
from standfast.jobs.restore.present import Target, look_at
from standfast.jobs.restore.source import Offer, Source
from standfast.postgres.pool import Database


@dataclass(frozen=True, slots=True)
class Prospect:
    """A plan, and what it was made of."""

    plan: Plan
    offers: Mapping[Company, Offer]
    target: Target
    standing: Standing | None


class Planner:
    """`node`: None where another database than the node's own is restored into."""

    def __init__(
        self, database: Database, source: Source, node: LocalNode | None, later: LoggedStates | None = None
    ) -> None:
        self._database = database
        self._source = source
        self._node = node
        self._later = later
        self._offers: dict[Company, Offer] | None = None

    async def prospect(self, wish: Wish) -> Prospect:
        """As things stand now. `CompanyUnknown` where a company was named that the source lacks; `RestoreRefused` where
        the database must not be restored into at all."""
        if self._offers is None:
            self._offers = await self._source.offers()
        offers, target = self._offers, await look_at(self._database)
        # Anew each time: what was the same may have been written since, such as from a journal that was drained. And
        # in this order: what is drained between these looks leaves the node further on than the first of them saw.
        wish = replace(wish, same=await self._source.same_in(self._database))
        standing = await self._node.standing() if self._node is not None else None
        unknown = sorted(wish.companies - offers.keys())
        if unknown:
            raise CompanyUnknown(f"{self._source.name} has no company {', '.join(map(repr, unknown))}")
        if self._node is None:
            _refuse_others(target, offers, wish)
        chosen = [offers[name] for name in sorted(offers) if not wish.companies or name in wish.companies]
        identity = None
        if self._node is not None:
            identity = identity_to_be(
                target, self._source.identity, standing.database if standing is not None else None
            )
        database_is = identity or target.identity
        is_ours = standing is not None and standing.database in (None, database_is)
        planned = [await self._planned(offer, target, standing, wish, is_ours=is_ours) for offer in chosen]
        names = {one.company for one in planned}
        plan = Plan(
            self._source.name,
            self._source.at,
            self._database.where,
            planned,
            sorted(target.companies.keys() - names),
            list(getattr(self._source, "unusable", ())),
            identity,
            list(getattr(self._source, "without_creds", ())),
        )
        return Prospect(plan, offers, target, standing)

    async def _planned(
        self, offer: Offer, target: Target, standing: Standing | None, wish: Wish, *, is_ours: bool
    ) -> Planned:
        planned = decide(offer, target.of(offer.company), standing, wish, is_ours=is_ours)
        if planned.action != "rolled back" or self._later is None or not wish.replay:
            return planned
        try:
            found = await self._later.beyond(offer.company, offer.epoch, offer.sequence)
        except (BackupDamaged, SettingsError) as error:
            planned.why = planned.why or f"what the change log knows cannot be used: {error.message}"
            return planned
        now = target.of(offer.company)
        if found is None or found.creds is None or now.identity not in (None, identity_key(found.creds)):
            return planned
        logged = decide(offer, now, standing, replace(wish, logged={offer.company}), is_ours=is_ours)
        logged.why = logged.why or f"up to {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(found.at))}"
        return logged


def _refuse_others(target: Target, offers: Mapping[Company, Offer], wish: Wish) -> None:
    """Another database than the node's own must be empty, or lack the companies that are named."""
    if is_empty(target):
        return
    there = sorted(target.companies.keys() & (wish.companies or offers.keys()))
    if there or not wish.companies:
        named = f", {there[0]} among them" if there else ""
        raise RestoreRefused(
            f"the database named by --to holds {len(target.companies):,} companies already{named}",
            next_step="Name an empty database, or with --company such that it lacks.",
        )
