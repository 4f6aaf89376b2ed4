"""The alerts of the emergency, each with its stable name and its words.

Invariant: one function for one kind; names and tags never change, because operators' rules match them.
"""

from __future__ import annotations

from standfast.alert import Alert
from standfast.authstate.company import Company

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


def mirror_stopped(reason: str) -> Alert:
    return Alert(
        "mirror_stopped",
        "error",
        f"folders no longer follow what is written: {reason}",
        _TAGS,
        {
            "next_step": "Sessions go on, and the vault keeps everything. Free space, or make the folders writable."
        },
        lasts=True,
    )


def mirror_goes_on(*, quiet: bool) -> Alert:
    return Alert(
        "mirror_goes_on",
        "info",
        "folders follow every write again",
        _TAGS,
        {},
        ends=("mirror_stopped",),
        quiet=quiet,
    )


def folder_taken_in(company: Company, keys: int) -> Alert:
    return Alert(
        "folder_taken_in",
        "info",
        "somebody else has used the company's folder; what it changed was taken in",
        _TAGS | {"company_id": company},
        {"keys": keys},
    )


def folder_rewritten(company: Company, files: int, kept: str) -> Alert:
    return Alert(
        "folder_rewritten",
        "warning",
        f"{files:,} files of the company's folder were damaged; they were written anew from the vault",
        _TAGS | {"company_id": company},
        {
            "kept": kept,
            "next_step": "Check the disk (dmesg, smartctl). What the folder was is kept, see 'kept'.",
        },
    )


def folder_conflict(company: Company, why: str) -> Alert:
    return Alert(
        "folder_conflict",
        "error",
        f"{why}: the company is not opened",
        _TAGS | {"company_id": company},
        {"next_step": f"standfast emergency take {company} --from files, or --from vault"},
        lasts=True,
    )


def folder_decided(company: Company) -> Alert:
    return Alert(
        "folder_decided",
        "info",
        "which state of the company goes on was decided",
        _TAGS | {"company_id": company},
        {},
        ends=("folder_conflict",),
    )
