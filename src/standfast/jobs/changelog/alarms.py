"""The alerts of the change log.

Invariant: one function for one kind; what ends a lasting one is said again by the next process.
"""

from __future__ import annotations

from standfast.alert import Alert
from standfast.errors import StandfastError

_LOG = {"component": "change_log"}


def stopped(reason: str, since: float | None) -> Alert:
    return Alert(
        "change_log_stopped",
        "error",
        f"the change log cannot be written: {reason}; sessions are not touched by it",
        _LOG,
        {
            "known_until": since,
            "next_step": "Make room on the disk of BACKUP_ROOT, or make it writable; the log goes on by itself, with a "
            "snapshot of each company.",
        },
        lasts=True,
    )


def goes_on(*, quiet: bool) -> Alert:
    """`quiet`: this process has not known it otherwise."""
    return Alert(
        "change_log_goes_on",
        "info",
        "the change log is written again",
        _LOG,
        ends=("change_log_stopped",),
        quiet=quiet,
    )


def damaged(problems: list[str]) -> Alert:
    return Alert(
        "change_log_damaged",
        "error",
        f"the change log has {len(problems)} damaged or missing parts: {problems[0]}",
        _LOG,
        {
            "problems": problems[:20],
            "next_step": "See them all: 'standfast changelog verify'; where a remote has the segments, "
            "'standfast changelog fetch' brings them back. States in those spans of time cannot be had.",
        },
        lasts=True,
    )


def sound() -> Alert:
    return Alert(
        "change_log_sound",
        "info",
        "every segment of the change log is as it was written",
        _LOG,
        ends=("change_log_damaged",),
        quiet=True,
    )


def not_sent(remote: str, error: StandfastError, waiting: int) -> Alert:
    return Alert(
        "change_log_not_sent",
        "error",
        f"segments of the change log do not reach the remote {remote}: {error.message}",
        {**_LOG, "remote": remote},
        {"waiting": waiting, "next_step": error.next_step},
        lasts=True,
    )


def sent(remote: str, *, quiet: bool) -> Alert:
    return Alert(
        "change_log_sent",
        "info",
        f"segments of the change log reach the remote {remote} again",
        {**_LOG, "remote": remote},
        ends=("change_log_not_sent",),
        quiet=quiet,
    )
