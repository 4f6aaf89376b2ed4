"""What tests of verifications share: a running service's auth state looked at, and a real state with one damage."""

from __future__ import annotations

from functools import partial

from standfast.jobs.context import JobContext
from standfast.jobs.verify.finding import Finding, VerifyReport
from standfast.jobs.verify.run import VerifyOptions, run_verify
from standfast.service.job_context import service_context
from standfast.service.service import Service
from standfast.service.verify_methods import ReplicaHere


def context_of(service: Service) -> JobContext:
    """As the service gives it to its jobs."""
    made = partial(service_context, service.settings, service.database, service.alerts)
    return made(service.vault.replica.node)


async def verified(service: Service, company: str | None = None) -> VerifyReport:
    """PostgreSQL and the replica, and the one with the other."""
    return await run_verify(
        context_of(service), ReplicaHere(service.vault.replica), VerifyOptions(company, again_after_s=0.1)
    )


def above_info(report: VerifyReport) -> list[Finding]:
    """What would be a false alarm in a healthy state."""
    return [one for one in report.findings if one.level != "info"]
