"""Runs of jobs as PostgreSQL knows them: who began which, when, and what became of it.

Invariant: a time that a job was due has one row, so one run; a row without an end belongs to a process that lives, or
is closed by the next one that looks.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from standfast.postgres.pool import Database, Statement

Outcome = Literal["done", "failed", "skipped"]
REPORT_BYTES = 32_768
_KEPT_DAYS = 400
_GRACE = "interval '1 minute'"

# The future is told by PostgreSQL's clock: one node whose clock is wrong must not keep the others from their work.
_CLAIM = Statement(
    "job.claim",
    f"""
    insert into standfast_jobs as j (job, due_at, node, node_name)
    select $1, to_timestamp($2::float8), $3::uuid, $4
    where to_timestamp($2::float8) <= clock_timestamp() + {_GRACE}
      and not exists (select from standfast_jobs k where k.job = $1 and k.due_at > to_timestamp($2::float8)
                      and k.due_at <= clock_timestamp() + {_GRACE})
    on conflict (job, due_at) do update
        set node = excluded.node, node_name = excluded.node_name, started_at = clock_timestamp(),
            ended_at = null, outcome = null, report = null
        where j.outcome = 'skipped' and j.report->>'stopped' = 'true'
    returning true
    """,
)
_NOTED = Statement(
    "job.note",
    """
    insert into standfast_jobs (job, due_at, node, node_name, ended_at, outcome, report)
    values ($1, to_timestamp($2::float8), $3::uuid, $4, clock_timestamp(), 'skipped', $5::jsonb)
    on conflict do nothing
    """,
)
_BEGUN_NOW = Statement(
    "job.begin",
    """
    insert into standfast_jobs (job, due_at, node, node_name) values ($1, clock_timestamp(), $2::uuid, $3)
    returning extract(epoch from due_at)::float8
    """,
)
_LAST_DUE = Statement(
    "job.last_due",
    "select extract(epoch from max(due_at))::float8 from standfast_jobs "
    f"where job = $1 and due_at <= clock_timestamp() + {_GRACE}",
)
_END = Statement(
    "job.end",
    """
    update standfast_jobs set ended_at = clock_timestamp(), outcome = $3, report = $4::jsonb
    where job = $1 and abs(extract(epoch from due_at)::float8 - $2::float8) < 0.001 and ended_at is null
    """,
)
_CLOSE_LEFT = Statement(
    "job.close_left",
    """
    update standfast_jobs j set ended_at = clock_timestamp(), outcome = 'failed', report = $2::jsonb
    where ended_at is null
      and (node = $1::uuid or started_at < clock_timestamp() - interval '1 day'
           or exists (select from standfast_nodes n where n.node = j.node and n.alive_until <= clock_timestamp()))
    returning job, node_name
    """,
)
_FORGET = Statement(
    "job.forget",
    f"delete from standfast_jobs where started_at < clock_timestamp() - interval '{_KEPT_DAYS} days'",
)
_LAST_RUNS = Statement(
    "job.last_runs",
    """
    select distinct on (job) job, extract(epoch from due_at)::float8, node::text, node_name,
           extract(epoch from started_at)::float8, extract(epoch from ended_at)::float8, outcome, report->>'message'
    from standfast_jobs where coalesce(report->>'first', '') <> 'true'
    order by job, started_at desc
    """,
)


class Run(msgspec.Struct):
    """`ended_at` None: it goes on, or whoever ran it was killed. Times in seconds since 1970."""

    job: str
    due_at: float
    node: str
    node_name: str
    started_at: float
    ended_at: float | None
    outcome: str | None
    message: str | None


class Records:
    """`node` and `node_name` are those of whoever runs jobs here. Raises like every call of the database."""

    def __init__(self, database: Database, node: str, node_name: str) -> None:
        self._database = database
        self.node = node
        self.node_name = node_name

    async def claim(self, job: str, due_at: float) -> bool:
        """Whether this run is the caller's: nobody has begun it, nor one that was due later."""
        params = [job, due_at, self.node, self.node_name]
        return bool(await self._database.fetch(_CLAIM, params, retry=False))

    async def first(self, job: str, due_at: float) -> None:
        """The schedule begins here: what was due until now is not caught up on."""
        report = _json({"message": "the schedule began after it", "first": True})
        await self._database.fetch(_NOTED, [job, due_at, self.node, self.node_name, report])

    async def last_due(self, job: str) -> float | None:
        """The latest time that is on record; None: the schedule is new here."""
        rows = await self._database.fetch(_LAST_DUE, [job])
        found: float | None = rows[0][0]
        return found

    async def begin(self, job: str) -> float:
        """A run that was asked for; the time by which it is known."""
        rows = await self._database.fetch(_BEGUN_NOW, [job, self.node, self.node_name], retry=False)
        return float(rows[0][0])

    async def end(self, job: str, due_at: float, outcome: Outcome, report: dict[str, Any]) -> None:
        """Nothing happens where it was ended already."""
        await self._database.fetch(_END, [job, due_at, outcome, _json(report)])

    async def close_left(self) -> list[tuple[str, str]]:
        """End what an earlier process of this node, or a node that died, has left without an end: job and node."""
        report = _json({"message": "the process that ran it was killed"})
        rows = await self._database.fetch(_CLOSE_LEFT, [self.node, report])
        await self._database.fetch(_FORGET)
        return [(str(job), str(name)) for job, name in rows]

    async def last_runs(self) -> list[Run]:
        """The newest run of each job."""
        return [Run(*row) for row in await self._database.fetch(_LAST_RUNS)]


def _json(report: dict[str, Any]) -> str:
    text = msgspec.json.encode(report)
    if len(text) > REPORT_BYTES:
        text = msgspec.json.encode({name: report[name] for name in report if name != "report"})
    return text.decode()
