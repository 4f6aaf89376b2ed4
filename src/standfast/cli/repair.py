"""`standfast repair`: for each finding of a verification what its key type tolerates, with a copy kept.

Thin: `jobs.verify.plan` decides what may be done, a person which of it is.
"""

from __future__ import annotations

from typing import Annotated, Any, get_args

import msgspec
import typer

from standfast.authstate.company import company_id
from standfast.cli.asking import YesOption, can_ask, confirmed
from standfast.cli.context import current_settings, run_async
from standfast.cli.output import JsonOption, console, print_json
from standfast.cli.progress import progress_shown
from standfast.cli.verify import CompanyArgument
from standfast.errors import AuthStateCorrupt, NotFound, UsageError
from standfast.jobs.progress import Progress
from standfast.jobs.verify.finding import VerifyReport
from standfast.jobs.verify.plan import CHANGING, WHOLE, Action, Planned, Preferred, Wish, plan
from standfast.jobs.verify.repair import RepairReport
from standfast.jobs.verify.run import VerifyOptions, run_verify
from standfast.jobs.verify.settle import Settled
from standfast.service.repairing import repaired, settled
from standfast.service.verifying import verifying_context
from standfast.settings import Settings

_SHOWN = 20
_VERBS: dict[Action, str] = {
    "remove": "remove",
    "complete": "complete",
    "push": "put the replica's state into PostgreSQL",
    "renew": "take PostgreSQL's state",
    "none": "nothing",
}


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("repair")(repair)


def repair(
    company: CompanyArgument = None,
    *,
    finding: Annotated[
        list[str] | None,
        typer.Option("--finding", metavar="ID", help="Only this one; may be given more than once."),
    ] = None,
    prefer: Annotated[
        str | None,
        typer.Option("--prefer", metavar="replica|postgresql", help="Whose state stands where they differ."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done.")] = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Mend what 'standfast verify' finds, as far as keys tolerate it; what goes is kept."""
    if company is not None:
        company_id(company)
    if prefer is not None and prefer not in get_args(Preferred):
        raise UsageError(f"nothing can be preferred as {prefer[:30]!r}", next_step="replica or postgresql.")
    settings = current_settings()
    wish = Wish(frozenset(finding or ()), prefer)  # type: ignore[arg-type]  # checked above
    with progress_shown(json=json) as progress:
        planned = plan(run_async(_looked(settings, company, progress)), wish)
    _check_findings(wish, planned)
    if not json:
        _print_plan(planned)
    chosen = [] if dry_run else _chosen(planned, wish, yes=yes, as_json=json)
    done: RepairReport | None = None
    states: list[Settled] = []
    if chosen:
        with progress_shown(json=json) as progress:
            done, states = run_async(_done(settings, chosen, progress))
    _tell(planned, chosen, done, states, as_json=json)
    left = len(planned) - len(chosen) if not dry_run else 0
    if left or (done is not None and done.left):
        raise typer.Exit(AuthStateCorrupt.exit_code)


def _check_findings(wish: Wish, planned: list[Planned]) -> None:
    unknown = set(wish.findings) - {one.finding.id for one in planned}
    if unknown:
        raise NotFound(
            f"there is no finding {min(unknown)[:20]!r} above info now", next_step="See: standfast verify"
        )


async def _looked(settings: Settings, company: str | None, progress: Progress) -> VerifyReport:
    async with verifying_context(settings, progress) as (context, replica):
        report = await run_verify(context, replica, VerifyOptions(company))
    if "postgresql" in report.not_looked_at:
        raise UsageError(
            f"nothing can be repaired without PostgreSQL: {report.not_looked_at['postgresql']}",
            next_step="Try again once it answers; 'standfast verify --source replica' looks at the replica alone.",
        )
    return report


def _chosen(planned: list[Planned], wish: Wish, *, yes: bool, as_json: bool) -> list[Planned]:
    """What is to be done: with --yes what is safe, what was named, and what --prefer decides; otherwise a person is
    asked for each kind."""
    possible = [one for one in planned if one.action != "none"]
    if yes:
        return [
            one for one in possible if one.is_safe or one.action in WHOLE or one.finding.id in wish.findings
        ]
    if possible and not can_ask(as_json=as_json):
        raise UsageError(
            "this needs a confirmation, and nobody can be asked",
            next_step="Add --yes, which does what is safe; name what is not with --finding ID.",
        )
    chosen: list[Planned] = []
    for action, kind in sorted({(one.action, one.finding.kind) for one in possible}):
        alike = [one for one in possible if (one.action, one.finding.kind) == (action, kind)]
        companies = len({one.finding.company for one in alike})
        question = f"{alike[0].finding.what}, {companies:,} companies: {_VERBS[action]}? {alike[0].why}"
        if confirmed(question):
            chosen += alike
    return chosen


async def _done(
    settings: Settings, chosen: list[Planned], progress: Progress
) -> tuple[RepairReport | None, list[Settled]]:
    whole: dict[str, Action] = {one.finding.company: one.action for one in chosen if one.action in WHOLE}
    ids: dict[str, list[str]] = {}
    for one in chosen:
        # A company whose state is replaced as a whole has nothing left to remove.
        if one.action in CHANGING and one.finding.company not in whole:
            ids.setdefault(one.finding.company, []).append(one.finding.id)
    done = await repaired(settings, ids, progress) if ids else None
    return done, await settled(settings, whole, progress) if whole else []


def _print_plan(planned: list[Planned]) -> None:
    out = console(wraps=True)
    if not planned:
        out.print("There is nothing to repair.", style="green")
    for one in planned[:_SHOWN]:
        found = one.finding
        style = "yellow" if one.action == "none" else None
        out.print(f"{found.id}  {found.company}  {found.count:,} x {found.what}", style=style)
        asked = "" if one.is_safe or one.action == "none" else ", asked for"
        out.print(f"  {_VERBS[one.action]}{asked}. {one.why}", style="dim")
    if len(planned) > _SHOWN:
        out.print(f"And {len(planned) - _SHOWN:,} more.", style="dim")


def _tell(
    planned: list[Planned],
    chosen: list[Planned],
    done: RepairReport | None,
    states: list[Settled],
    *,
    as_json: bool,
) -> None:
    if as_json:
        document: dict[str, Any] = {
            "plan": msgspec.to_builtins(planned),
            "chosen": [one.finding.id for one in chosen],
            "repair": msgspec.to_builtins(done),
            "settled": msgspec.to_builtins(states),
        }
        print_json(document)
        return
    if not chosen:
        if planned:
            console().print("Nothing was changed.")
        return
    if done is not None:
        _print_done(done)
    _print_settled(states)
    left = len(planned) - len(chosen)
    if left:
        console().print(f"Left: {left:,}; see above what to do.", style="yellow")
    console().print("See how it is now: standfast verify", style="dim")


def _print_done(done: RepairReport) -> None:
    out = console(wraps=True)
    for name, count in done.removed.items():
        out.print(f"{name}: {count:,} keys removed", style="green")
    for name, count in done.completed.items():
        out.print(f"{name}: {count:,} sides of lid-mappings completed", style="green")
    for name, reason in done.left.items():
        out.print(f"{name}: left, {reason}", style="yellow")
    if done.removed:
        out.print(f"Put the keys back with: standfast cleanup undo {done.run}", style="dim")
    for name in done.running:
        out.print(f"It runs, and knows the former keys until: standfast restart {name}", style="yellow")


def _print_settled(states: list[Settled]) -> None:
    out = console()
    for one in states:
        whose = "the replica's" if one.action == "push" else "PostgreSQL's"
        out.print(f"{one.company}: {whose} state stands now; the other is in {one.kept}", style="green")
        if one.session not in ("", "open"):
            out.print(f"  its session: {one.session}", style="yellow")
