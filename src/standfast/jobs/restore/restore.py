"""`Restore`: fences, keeps, installs and hands back, company by company.

Invariant: each company is wholly as it was or wholly as planned at every moment, what it was is kept before it is
touched, and the steps file says how far it has come: whoever crashes here can go on, or go back.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from standfast.authstate.company import Company
from standfast.errors import DatabaseUnavailable, RestoreRefused, StandfastError
from standfast.jobs.context import JobContext
from standfast.jobs.restore import alarms, rules
from standfast.jobs.restore.installing import RESTORER, Fence, install, install_given, wish
from standfast.jobs.restore.keeping import Keeper
from standfast.jobs.restore.later import LoggedStates
from standfast.jobs.restore.node import LocalNode
from standfast.jobs.restore.plan import WRITTEN, Action, Plan, Planned, Wish
from standfast.jobs.restore.planning import Planner, Prospect
from standfast.jobs.restore.source import Offer, Source
from standfast.jobs.restore.staging import Staging
from standfast.jobs.restore.steps import FORMAT, Step, Steps, StepsFile
from standfast.jobs.sole import sole
from standfast.postgres.migrations import migrate
from standfast.postgres.pool import Statement

JOB = "restore"
NODES_PATIENCE_S = 6.0  # an outage is probed with pauses of at most 3 s
QUIET_S = 1.0
_POLL_S = 0.1
_BEATEN = Statement(
    "restore.nodes", "select node::text from standfast_nodes where alive_until > clock_timestamp()"
)
_WRITTEN = Statement(
    "restore.writers", "select company_id, epoch, sequence from standfast_writers order by 1"
)
_WORSE: Mapping[Action, int] = {
    "same": 0, "unchanged": 0, "replay": 0, "change log": 0, "returned": 0, "rolled back": 1, "refused": 2,
}  # fmt: skip
_STAGED = frozenset({"unchanged", "rolled back"})
_IDENTIFY = Statement("restore.identify", "update standfast_identity set id = $1::uuid returning id")


class Restored(msgspec.Struct, omit_defaults=True):
    """One company. `keys`: how many it has now. `kept`: where its former state lies. `session`: what became of it,
    where it ran before. `error`: why it was not restored; it is as it was."""

    company: str
    action: Action
    keys: int = 0
    kept: str | None = None
    session: str | None = None
    error: str | None = None


class RestoreReport(msgspec.Struct, omit_defaults=True):
    """`is_finished`: nothing is left for --resume."""

    source: str
    target: str
    duration_s: float
    companies: list[Restored]
    is_finished: bool = True
    left_alone: list[str] = []

    @property
    def ok(self) -> bool:
        return self.is_finished and all(one.session in (None, "open") for one in self.companies)


@dataclass(frozen=True, slots=True)
class Work:
    """What a restore works with. `node`: None where another database than the node's own is restored into."""

    context: JobContext
    source: Source
    node: LocalNode | None
    steps: StepsFile
    later: LoggedStates | None = None

    @property
    def archive(self) -> Path:
        return self.context.settings.state_dir / "archive"


class Restore:
    """`plan`, then `run` with what was shown; or `resume` an unfinished one."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._database = work.context.database
        self._planner = Planner(self._database, work.source, work.node, work.later)

    async def plan(self, asked: Wish) -> Plan:
        """What would be done now. Changes nothing."""
        return (await self._planner.prospect(asked)).plan

    async def run(self, shown: Plan, asked: Wish) -> RestoreReport:
        """Do what `shown` says. `RestoreRefused` where an earlier restore is unfinished, or where by now more would be
        lost than it says."""
        self._work.steps.refuse_unfinished()
        steps = Steps(
            FORMAT,
            uuid.uuid4().hex,
            shown.source,
            shown.target,
            time.time(),
            {one.company: Step(one.action) for one in shown.companies if one.action in WRITTEN},
            self._work.node is None,
            shown.identity is not None,
            sorted(asked.companies),
            asked.replay,
            asked.force,
            sorted(asked.replace_identity),
        )
        return await self._run(shown, asked, steps)

    async def resume(self, steps: Steps) -> RestoreReport:
        """Go on with what `steps` says. As it began: companies that are done are not touched again."""
        if (self._work.node is None) != steps.other_database:
            raise RestoreRefused(
                f"the unfinished restore is into {steps.target}",
                next_step="Name the same database: with --to if it was begun with --to, else without.",
            )
        asked = Wish(frozenset(steps.companies), steps.replay, steps.force, frozenset(steps.replace_identity))
        return await self._run(await self.plan(asked), asked, steps)

    async def _run(self, shown: Plan, asked: Wish, steps: Steps) -> RestoreReport:
        context, began = self._work.context, time.monotonic()
        context.progress.step("preparing the database")
        await migrate(self._database, identity=shown.identity)
        if shown.identity is not None:
            await self._await_nodes()
        # As the restore itself, whichever process goes on with it: one that was killed does not bar the next.
        with self._work.steps.locked():
            async with sole(replace(context, node=str(uuid.UUID(steps.id))), JOB):
                done = await self._fenced(shown, asked, steps)
        rest = [Restored(one.company, one.action) for one in shown.of("same", "refused")]
        report = RestoreReport(
            shown.source,
            shown.target,
            round(time.monotonic() - began, 3),
            sorted([*done, *rest], key=lambda one: one.company),
            all(one.error is None for one in done),
            shown.left_alone,
        )
        context.alerts.take(alarms.done(report))
        return report

    async def _fenced(self, shown: Plan, asked: Wish, steps: Steps) -> list[Restored]:
        await self._work.steps.write(steps)
        done: list[Restored] = []
        try:
            await self._hold(steps)
            done = await self._install_all(shown, asked, steps)
        except BaseException:
            if all(step.stage == "planned" for step in steps.companies.values()):
                await asyncio.shield(self._hand_back(steps, done, start=True))
                await self._work.steps.remove()
            else:
                # Half of a restore is for somebody to go on with; its sessions would only hide that.
                await asyncio.shield(self._hand_back(steps, done, start=False))
            raise
        await self._hand_back(steps, done, start=True)
        if all(one.error is None for one in done):
            await Staging(self._database, steps.id).drop()
            await self._work.steps.remove()
        return done

    async def _await_nodes(self) -> None:
        """A node that lives and has companies open brings them back as soon as it sees its database again; whatever it
        knows is later than the source."""
        standing = await self._work.node.standing() if self._work.node is not None else None
        awaited = self._work.source.nodes - {standing.node if standing is not None else ""}
        if not awaited:
            return
        self._work.context.progress.step("waiting for other nodes")
        end = time.monotonic() + NODES_PATIENCE_S
        while time.monotonic() < end:
            beaten = {node for (node,) in await self._database.fetch(_BEATEN)}
            if awaited <= beaten:
                break
            await asyncio.sleep(_POLL_S)
        former: object = None
        end = time.monotonic() + NODES_PATIENCE_S
        while time.monotonic() < end and (found := await self._database.fetch(_WRITTEN)) != former:
            former = found
            await asyncio.sleep(QUIET_S)

    async def _hold(self, steps: Steps) -> None:
        """Stop what writes these companies here, and let nothing begin."""
        node = self._work.node
        if node is None:
            return
        self._work.context.progress.step("stopping sessions")
        await note_running(node, self._work.steps, steps)
        await node.hold(steps.companies)

    async def _install_all(self, shown: Plan, asked: Wish, steps: Steps) -> list[Restored]:
        prospect = await self._planner.prospect(
            replace(asked, companies=frozenset(map(Company, steps.companies)))
        )
        if steps.was_lost:
            _note_returned(prospect.plan, steps)
        _refuse_worse(shown, prospect.plan)
        todo = [one for one in prospect.plan.companies if not _is_done(steps, one, prospect)]
        await self._stage([one for one in todo if one.action in _STAGED], prospect, steps)
        self._work.context.progress.step("restoring", len(todo), "companies")
        done = [
            Restored(name, step.action, kept=step.kept)
            for name, step in steps.companies.items()
            if name not in {one.company for one in todo}
        ]
        standing = prospect.standing
        fence = Fence(standing.node if standing is not None else None, asked.force)
        # A vault that replays looks at every company of its own: what it is to give up comes first.
        for one in sorted(todo, key=lambda one: one.action == "replay"):
            done.append(await self._restored(one, prospect, steps, fence))
            self._work.context.progress.advance(1)
        await self._renew(steps)
        return done

    async def _renew(self, steps: Steps) -> None:
        """What this node's replica has of the others is overtaken; in an outage it must not be what is opened."""
        node = self._work.node
        for company, step in steps.companies.items():
            if node is not None and step.stage == "done" and step.action != "replay":
                await node.renew(company)

    async def _stage(self, todo: list[Planned], prospect: Prospect, steps: Steps) -> None:
        staging = Staging(self._database, steps.id)
        if todo and not await staging.is_loaded():
            offers = {Company(one): prospect.offers[Company(one)] for one in steps.companies}
            await staging.load(self._work.source, offers, self._work.context.progress)

    async def _restored(self, planned: Planned, prospect: Prospect, steps: Steps, fence: Fence) -> Restored:
        step = steps.companies[planned.company]
        if planned.action not in WRITTEN:
            why = planned.why or None if planned.action == "refused" else None
            return Restored(planned.company, planned.action, error=why)
        try:
            step.action, step.epoch = planned.action, planned.epoch
            kept = await Keeper(self._work.archive, self._database, self._work.node).keep(planned)
            step.stage, step.kept = "kept", str(kept) if kept else None
            await self._work.steps.write(steps)
            keys = await self._place(planned, prospect, fence)
            step.stage = "done"
            await self._work.steps.write(steps)
        except DatabaseUnavailable:
            raise
        except StandfastError as error:
            return Restored(planned.company, planned.action, kept=step.kept, error=error.message)
        return Restored(planned.company, planned.action, keys, step.kept)

    async def _place(self, planned: Planned, prospect: Prospect, fence: Fence) -> int:
        company = Company(planned.company)
        offer, node = prospect.offers[company], self._work.node
        await wish(self._database, company, offer.wished)
        if planned.action == "replay":
            assert node is not None, "only a node has a replica"
            return await node.replay(company)
        if planned.action == "change log":
            return await self._place_logged(planned, offer, prospect, fence)
        return await install(self._database, planned, self._ruled(planned, offer, prospect), fence)

    async def _place_logged(self, planned: Planned, offer: Offer, prospect: Prospect, fence: Fence) -> int:
        assert self._work.later is not None, "only the change log plans so"
        found = await self._work.later.beyond(offer.company, offer.epoch, offer.sequence)
        if found is None or found.creds is None:
            raise RestoreRefused(f"the change log no longer has what {planned.company} was")
        planned.sequence_then = max(planned.sequence_then, found.sequence)
        ruled = rules.rolled_back(found.creds, age_s=time.time() - found.at, issued=_issued(offer, prospect))
        keys = {
            key_type: {key_id: value for key_id, value in ids.items() if rules.kept(ruled, key_type, key_id)}
            for key_type, ids in found.keys.items()
        }
        await install_given(self._database, planned, ruled.creds, keys, fence)
        return sum(map(len, keys.values()))

    def _ruled(self, planned: Planned, offer: Offer, prospect: Prospect) -> rules.Ruled:
        if planned.action == "unchanged":
            return rules.as_it_was(offer.creds)
        age_s = max(0.0, time.time() - self._work.source.at)
        return rules.rolled_back(offer.creds, age_s=age_s, issued=_issued(offer, prospect))

    async def _hand_back(self, steps: Steps, done: list[Restored], *, start: bool) -> None:
        """Let companies be opened again, and `start` those sessions that ran, with what their companies have now."""
        node = self._work.node
        if node is None:
            return
        ran = [company for company, step in steps.companies.items() if step.ran and start]
        self._work.context.progress.step("starting sessions", len(ran), "sessions")
        try:
            outcomes = await node.let_go(steps.companies, ran)
        except StandfastError as error:
            outcomes = dict.fromkeys(ran, error.message)
        for one in done:
            one.session = outcomes.get(one.company)


def _issued(offer: Offer, prospect: Prospect) -> int:
    """The first id of a pre-key that nothing here knows to have been given out."""
    standing = prospect.standing
    known = (
        [one.next_pre_key_id for one in standing.companies if one.company == offer.company]
        if standing
        else []
    )
    return max(prospect.target.of(offer.company).next_pre_key_id, *known, 0)


async def note_running(node: LocalNode, file: StepsFile, steps: Steps) -> None:
    """Before any session is stopped: whoever goes on after a crash starts them again."""
    standing = await node.standing()
    for company in standing.wanted if standing is not None else ():
        if company in steps.companies:
            steps.companies[company].ran = True
    await file.write(steps)


def _note_returned(plan: Plan, steps: Steps) -> None:
    for one in plan.companies:
        if one.action == "refused" and one.holder is not None:
            one.action, one.why = "returned", ""
            steps.companies[one.company].action = "returned"


def _refuse_worse(shown: Plan, now: Plan) -> None:
    """What was shown is what was agreed to."""
    before = {one.company: one for one in shown.companies}
    for one in now.companies:
        agreed = before.get(one.company)
        if agreed is not None and _WORSE[one.action] > _WORSE[agreed.action]:
            raise RestoreRefused(
                f"{one.company} would be {one.action} by now, and the plan said {agreed.action!r}: {one.why}".rstrip(
                    ": "
                ),
                next_step="Give it up with --abandon, and look at the plan anew.",
            )


def _is_done(steps: Steps, planned: Planned, prospect: Prospect) -> bool:
    """Whether an earlier run has put it in place; a crash may have come before that was noted."""
    step = steps.companies[planned.company]
    now = prospect.target.of(planned.company)
    return step.stage == "done" or (
        step.stage == "kept" and now.claimed_by == RESTORER and now.epoch > step.epoch
    )
