"""The alerts of the emergency, each with its stable name and its words.

Invariant: one function for one kind; names and tags never change, because operators' rules match them.
"""

from __future__ import annotations

from standfast.alert import Alert

_TAGS = {"component": "emergency"}
_BACK = "Once PostgreSQL is well: standfast emergency to-postgres"


def on_files(root: str, companies: int, *, again: bool) -> Alert:
    """`again`: a service has started that stood on files before."""
    return Alert(
        "on_files",
        "warning",
        "this node stands on files: PostgreSQL is left alone, and folders follow every write",
        _TAGS,
        {"folders": root, "companies": companies, "next_step": _BACK},
        lasts=True,
        # Their trouble is decided on: what goes on from here is told by this one.
        ends=() if again else ("outage_began", "grace_half_used", "grace_expired"),
    )


def off_files(*, quiet: bool) -> Alert:
    """`quiet`: a service has started with PostgreSQL; an earlier one may have told of files."""
    return Alert(
        "off_files",
        "info",
        "this node stands on PostgreSQL again",
        _TAGS,
        {},
        ends=("on_files",),
        quiet=quiet,
    )
