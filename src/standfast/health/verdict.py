"""The verdict: the worst of what was found.

Invariant: what could not be measured is never healthy.
"""

from __future__ import annotations

from collections.abc import Iterable

from standfast.health.document import Finding, Verdict

EXIT_CODES: dict[Verdict, int] = {"healthy": 0, "warning": 1, "critical": 2, "unknown": 3}
"""As monitoring plugins end."""

_VERDICTS: dict[str, Verdict] = {
    "info": "healthy",
    "warning": "warning",
    "error": "critical",
    "critical": "critical",
    "unknown": "unknown",
}
_RANK: tuple[Verdict, ...] = ("healthy", "unknown", "warning", "critical")
_LEVEL_RANK = ("info", "unknown", "warning", "error", "critical")


def verdict_of(findings: Iterable[Finding]) -> Verdict:
    """What is known to be bad outweighs what is not known."""
    return max((_VERDICTS[one.level] for one in findings), key=_RANK.index, default="healthy")


def by_weight(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first, otherwise in their order."""
    return sorted(findings, key=lambda one: -_LEVEL_RANK.index(one.level))
