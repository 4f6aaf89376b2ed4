"""What HTTP servers say to a delivery: when they want to be asked again, and why not now.

Invariant: a wait that a server asks for is bounded; a reason holds nothing of the address but its host.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from standfast.alerts.channel import Undelivered
from standfast.alerts.channels.shown import line, shorten

MAX_WAIT_S = 3_600.0  # whoever wants more is asked once an hour
DEFAULT_WAIT_S = 60.0
_REASON_CHARS = 300
_LATER = frozenset({408, 413, 425, 429})  # of 4xx: those that say nothing against the next attempt


def reason(text: str) -> str:
    """A server's or a library's own words, as they may be shown."""
    return shorten(line(text), _REASON_CHARS)


def is_permanent(status: int) -> bool:
    """Whether it will be the same until somebody changes something. A redirect is: following it would turn the
    delivery into a mere look."""
    return 300 <= status < 500 and status not in _LATER


def wait_s(status: int, headers: Mapping[str, str]) -> float | None:
    """When to ask again: what the server said, or a minute where it only said "too much"."""
    said = seconds_of(headers.get("Retry-After"))
    if said is None and status == 429:
        return DEFAULT_WAIT_S
    return said


def seconds_of(retry_after: str | None) -> float | None:
    """A `Retry-After`, in seconds or as a date; None where there is none that can be read."""
    if not retry_after:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        seconds = _until(retry_after)
    return None if math.isnan(seconds) else min(max(0.0, seconds), MAX_WAIT_S)


def retried(where: str) -> str:
    """The next step of what may go by itself."""
    return f"It is tried again by itself; if that goes on, check {where} and the way there (firewall, proxy)."


def cause_of(error: BaseException) -> str:
    """The system's reason behind a library's error, such as "connection refused"; empty where there is none."""
    seen: BaseException | None = error
    found = ""
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno is not None:
            found = os.strerror(seen.errno) if seen.errno > 0 else str(seen.strerror)
        seen = seen.__cause__ or seen.__context__
    return found.lower()


def refused(
    whom: str, status: int, words: str, mend: str, where: str, retry_after_s: float | None
) -> Undelivered:
    """The error for an answer that is no success. `mend` is for what is permanent; `where` are the settings."""
    said = f": {reason(words)}" if words.strip() else ""
    permanent = is_permanent(status)
    return Undelivered(
        f"{whom} answered {status}{said}",
        next_step=mend if permanent else retried(where),
        retry_after_s=retry_after_s,
        permanent=permanent,
    )


def _until(date: str) -> float:
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return float("nan")
