"""What commands that restore have in common: the plan shown, a person asked, progress, and what was done.

Invariant: with `--json`, stdout holds one document; nobody is asked where nobody can answer.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import msgspec
import typer
from rich.table import Table

from standfast.cli.asking import can_ask, confirmed
from standfast.cli.output import console, duration, print_json
from standfast.cli.progress import progress_shown
from standfast.errors import RestoreRefused, UsageError
from standfast.jobs.progress import Progress, Silent
from standfast.jobs.restore.plan import WORDS, WRITTEN, Plan, Planned
from standfast.jobs.restore.restore import RestoreReport

_STYLES = {"refused": "red", "rolled back": "yellow", "same": "dim"}
FAILED = 30


class Later:
    """Progress that is shown once something is done: before that, a person may be asked."""

    def __init__(self, stack: contextlib.ExitStack, *, as_json: bool) -> None:
        self._stack = stack
        self._as_json = as_json
        self._shown: Progress = Silent()

    def begin(self) -> None:
        self._shown = self._stack.enter_context(progress_shown(json=self._as_json))

    def step(self, name: str, total: int | None = None, unit: str = "") -> None:
        self._shown.step(name, total, unit)

    def advance(self, done: int) -> None:
        self._shown.advance(done)

    def note(self, text: str) -> None:
        self._shown.note(text)


def shown(plan: Plan, *, dry_run: bool, yes: bool, as_json: bool, begin: Callable[[], None]) -> bool:
    """Whether the plan, having been shown, is to be done; then `begin` is told."""
    if not as_json:
        _print_plan(plan)
    elif dry_run or not plan.writes:
        print_json({"plan": msgspec.to_builtins(plan)})
    if dry_run:
        return False
    if not plan.writes:
        _refuse(plan)
        return False
    if not agreed("Restore this?", yes=yes, as_json=as_json):
        raise typer.Abort
    begin()
    return True


def _refuse(plan: Plan) -> None:
    """Nothing can be done of what was asked for."""
    against = plan.of("refused")
    if against:
        raise RestoreRefused(f"{against[0].company}: {against[0].why}")


def agreed(question: str, *, yes: bool, as_json: bool) -> bool:
    if yes:
        return True
    if not can_ask(as_json=as_json):
        raise UsageError("this needs a confirmation, and nobody can be asked", next_step="Add --yes.")
    return confirmed(question)


def _print_plan(plan: Plan) -> None:
    out = console()
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(plan.at))
    out.print(f"From {plan.source}, as of {at} ({duration(max(0.0, time.time() - plan.at))} ago)")
    out.print(f"into {plan.target}")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("company", "keys now", "written", "keys then", "what happens"):
        table.add_column(name, justify="right" if name.startswith("keys") else "left")
    for one in plan.companies:
        table.add_row(*_row(one), style=_STYLES.get(one.action))
    out.print(table)
    for action in dict.fromkeys(one.action for one in plan.companies):
        out.print(f"  {action}: {WORDS[action]}", style="dim")
    for one in plan.companies:
        if one.why:
            out.print(f"{one.company}: {one.why}", style=_STYLES.get(one.action))
    if plan.left_alone:
        out.print(f"Left alone, as it has nothing to say of them: {', '.join(plan.left_alone)}")
    if plan.unusable:
        out.print(f"Not restored, for Standfast refuses such ids: {', '.join(map(repr, plan.unusable))}")
    if plan.without_creds:
        out.print(f"Not restored, for it has keys of them and no creds: {', '.join(plan.without_creds)}")
    if plan.identity:
        out.print("The database is empty: it becomes the one that this was taken from, for every node.")


def _row(one: Planned) -> tuple[str, str, str, str, str]:
    written = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.written_at)) if one.written_at else "-"
    holder = f" (held by {one.holder})" if one.holder else ""
    return one.company, f"{one.keys_now:,}", written, f"{one.keys_then:,}", f"{one.action}{holder}"


def print_report(report: RestoreReport, *, as_json: bool) -> None:
    if as_json:
        document: dict[str, Any] = msgspec.to_builtins(report)
        print_json(document | {"ok": report.ok})
    else:
        _print_done(report)
    if not report.ok:
        raise typer.Exit(FAILED)


def _print_done(report: RestoreReport) -> None:
    out = console()
    for one in report.companies:
        session = f", session {one.session}" if one.session else ""
        if one.error:
            out.print(f"{one.company}: not restored: {one.error}", style="red")
        elif one.action in WRITTEN:
            out.print(f"{one.company}: {one.action}, {one.keys:,} keys{session}")
        else:
            out.print(f"{one.company}: {one.action}, left as it is{session}")
        if one.kept:
            out.print(f"  what it was before is in {one.kept}", style="dim")
    out.print(f"{len(report.companies):,} companies in {duration(report.duration_s)}")
    if not report.is_finished:
        out.print(
            "Unfinished. Go on: standfast backup restore --resume; or go back: --abandon", style="yellow"
        )
