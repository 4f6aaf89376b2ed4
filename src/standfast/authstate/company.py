"""Company ids: who a piece of auth state belongs to.

Invariant: a `Company` has been checked; whatever takes one may use it in a path, a query or a log.
"""

from __future__ import annotations

import re
from typing import NewType

from standfast.errors import UsageError

Company = NewType("Company", str)

_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,50}")


def company_id(text: object) -> Company:
    """`text` as a checked company id. Raises `UsageError` unless it matches `[A-Za-z0-9_-]{1,50}`."""
    if not isinstance(text, str) or not _PATTERN.fullmatch(text):
        shown = repr(text)[:60]
        raise UsageError(
            f"{shown} is not a company id",
            next_step="Use 1 to 50 letters, digits, '-' or '_'.",
        )
    return Company(text)
