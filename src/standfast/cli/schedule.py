"""`standfast schedule`: the jobs, when they run, and what became of them; `run` runs one now.

Thin: the service answers and runs them; where none runs, PostgreSQL tells and this process works.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Annotated, Any

import typer
from rich.table import Table

from standfast.cli.context import current_settings, run_async
from standfast.cli.output import JsonOption, console, duration, print_json
from standfast.cli.progress import progress_shown
from standfast.errors import JobRunning, NotFound, ServiceUnavailable, StandfastError
from standfast.jobs.progress import Progress
from standfast.service.client import connect
from standfast.service.offline import service_runs
from standfast.settings import Settings
from standfast.state_dir import StateDirectory

_POLL_S = 0.3
_OUTCOMES = {"done": "green", "failed": "red", "skipped": "yellow"}

app = typer.Typer(
    name="schedule",
    help="Jobs and their times: next and last runs; 'run' runs one now.",
    rich_markup_mode=None,
    invoke_without_command=True,
)


def register(parent: typer.Typer) -> None:
    """Add the group of commands."""
    parent.add_typer(app)


@app.callback()
def schedule(ctx: typer.Context, *, json: JsonOption = False) -> None:
    """Show each job: when it is due, when it ran last, where, and what became of it."""
    if ctx.invoked_subcommand is not None:
        return
    document = run_async(_document(current_settings()))
    if json:
        print_json(document)
    else:
        _print(document)


@app.command("run")
def run(
    job: Annotated[str, typer.Argument(metavar="JOB", help="As 'standfast schedule' names it.")],
    *,
    json: JsonOption = False,
) -> None:
    """Run a job now, through the service where one runs, and wait for its end."""
    settings = current_settings()
    last = run_async(_run(settings, job, json=json))
    error = _error(job, last)
    if json:
        print_json(last)
        if error is not None:
            raise typer.Exit(error.exit_code)
    elif error is not None:
        raise error
    else:
        console().print(f"{job}: {last['message']}", style="green")


def _error(job: str, last: dict[str, Any]) -> StandfastError | None:
    if last["outcome"] == "skipped":
        return JobRunning(f"the job {job} was skipped: {last['message']}")
    if last["outcome"] == "failed":
        step = "See 'standfast alerts' and the service's log."
        return StandfastError(f"the job {job} failed: {last['message']}", next_step=step)
    return None


async def _document(settings: Settings) -> dict[str, Any]:
    if service_runs(settings):
        with contextlib.suppress(ServiceUnavailable):
            async with connect(StateDirectory(settings.state_dir).gateway_socket) as client:
                document: dict[str, Any] = await client.schedule("list")
                return {"measured_by": "service", **document}
    from standfast.service.keeping_offline import schedule_here

    return {"measured_by": "command", **await schedule_here(settings)}


async def _run(settings: Settings, job: str, *, json: bool) -> dict[str, Any]:
    with progress_shown(json=json) as progress:
        if service_runs(settings):
            return await _run_there(settings, job, progress)
        from standfast.service.keeping_offline import run_here

        return await run_here(settings, job, progress)


async def _run_there(settings: Settings, job: str, progress: Progress) -> dict[str, Any]:
    async with connect(StateDirectory(settings.state_dir).gateway_socket) as client:
        before = _of(await client.schedule("list"), job)["last"]
        await client.schedule("run", job=job)
        told, done = "", 0
        while True:
            now = _of(await client.schedule("list"), job)
            going = now["running"]
            if going is not None and going["step"]:
                if going["step"] != told:
                    told, done = going["step"], 0
                    progress.step(told, going["total"], going["unit"])
                progress.advance(going["done"] - done)
                done = going["done"]
            last = now["last"]
            if not (going or now["waits"]) and last != before and last is not None and last["outcome"]:
                return dict(last)
            if not (going or now["waits"]) and last == before:
                raise StandfastError(
                    f"the job {job} did not begin",
                    next_step="See why in the service's log; is PostgreSQL there?",
                )
            await asyncio.sleep(_POLL_S)


def _of(document: dict[str, Any], job: str) -> dict[str, Any]:
    for one in document["jobs"]:
        if one["job"] == job:
            return dict(one)
    names = ", ".join(one["job"] for one in document["jobs"])
    raise NotFound(f"there is no job {job[:40]!r}", next_step=f"Jobs: {names}.")


def _print(document: dict[str, Any]) -> None:
    out, now = console(), time.time()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("job", "when", "next", "last", "took", "where", "outcome"):
        table.add_column(name, no_wrap=True)
    for job in document["jobs"]:
        table.add_row(*_row(job, now)[:-1])
    out.print(table, soft_wrap=True)
    for job in document["jobs"]:
        if told := _row(job, now)[-1]:
            out.print(f"{job['job']}: {told}", style="dim")
    out.print(f"Times of cron are in {document['time_zone']}; the others are yours.", style="dim")
    if document["schedule"] == "off":
        out.print("STANDFAST_SCHEDULE is off: no service runs these by itself.", style="yellow")
    elif document["measured_by"] != "service":
        out.print("No service runs here: nothing is done by schedule until one does.", style="yellow")
    if not document["runs_known"]:
        out.print("PostgreSQL does not answer: the last runs are not known.", style="yellow")


def _row(job: dict[str, Any], now: float) -> list[str]:
    last, going = job["last"], job["running"]
    row = [job["job"], job["cron"], "" if job["next_at"] is None else _when(job["next_at"])]
    if going is not None:
        return [*row, _when(going["since"]), duration(now - going["since"]), "here", "running", going["step"]]
    if last is None:
        return [*row, "never", "", "", "waits" if job["waits"] else "", ""]
    took = "" if last["ended_at"] is None else duration(last["ended_at"] - last["started_at"])
    outcome = last["outcome"] or "running"
    return [*row, _when(last["started_at"]), took, last["node_name"], outcome, last["message"] or ""]


def _when(at: float) -> str:
    return time.strftime("%m-%d %H:%M", time.localtime(at))
