"""The keys' part of health: the section that is shown, and what an operator should know of it.

Invariant: nothing is measured here; the same section and thresholds give the same findings.
"""

from __future__ import annotations

from collections.abc import Mapping

from standfast.errors import StandfastError
from standfast.health.census_pace import level_of
from standfast.health.document import CompanyKeys, Finding, KeySection
from standfast.health.thresholds import Thresholds
from standfast.postgres.census_table import Growth, Latest
from standfast.postgres.statistics import AGE_BUCKETS

STALE_S = 900.0
CLEANUP_COMMAND = "standfast cleanup"


def section_of(last: Latest, growth: Growth | None, now: float) -> KeySection:
    """`now`: in seconds since 1970, by this machine's clock; times are told by it, whatever the server's says."""
    census = last.census
    return KeySection(
        auth_records=last.auth_records,
        keys=last.keys,
        expired=last.expired,
        retention_days=census.retention_days,
        exact=last.exact,
        counted_at=now - last.counted_s,
        measured_at=now - last.age_s,
        node=last.node_name,
        ages={bucket: census.ages.get(bucket, 0) for bucket in AGE_BUCKETS},
        types=_most_first(census.types),
        expired_types=_most_first(census.expired),
        own=census.own,
        share=census.share,
        companies=[CompanyKeys(company=c.company, keys=c.keys, expired=c.expired) for c in census.companies],
        table_bytes=last.table_bytes,
        index_bytes=last.index_bytes,
        keys_a_day=growth.keys_a_day if growth else None,
        bytes_a_day=growth.bytes_a_day if growth else None,
    )


def _most_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def findings(
    section: KeySection | None,
    thresholds: Thresholds,
    now: float,
    *,
    error: StandfastError | None = None,
    tells: bool = True,
) -> list[Finding]:
    """`tells`: this node raises the alert; on the others the finding is for information."""
    if section is None:
        return [_unknown(None, error)]
    found = _expired(section, thresholds, tells=tells)
    age_s = now - (section.measured_at or section.counted_at)
    return [*found, _unknown(age_s, error)] if age_s > STALE_S else found


def _expired(section: KeySection, thresholds: Thresholds, *, tells: bool) -> list[Finding]:
    level = level_of(section.expired, thresholds)
    if not level:
        return []
    types = ", ".join(f"{name} {count:,}" for name, count in section.expired_types.items())
    named = f" ({types})" if types else ""
    return [
        Finding(
            code="expired_keys",
            section="keys",
            level=("warning", "error")[level - 1] if tells else "info",
            message=f"{section.expired:,} keys were not written for more than {section.retention_days} days{named}"
            + ("" if tells else f"; node {section.node} raises the alert"),
            recommendation=f"Remove them: {CLEANUP_COMMAND}",
        )
    ]


def _unknown(age_s: float | None, error: StandfastError | None) -> Finding:
    """Not to have been counted yet, shortly after the start, is no trouble."""
    since = "have not been counted" if age_s is None else f"were last looked at {age_s / 60:,.0f} minutes ago"
    return Finding(
        code="keys_unknown",
        section="keys",
        level="info" if age_s is None and error is None else "unknown",
        message=f"the keys {since}" + (f": {error.message}" if error else ""),
        recommendation=error.next_step if error else None,
    )
