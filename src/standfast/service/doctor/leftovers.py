"""What was left lying about: damaged copies, archives, unfinished files, servers without an owner.

Invariant: nothing is removed; each line has the command that removes it.
"""

from __future__ import annotations

import contextlib
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from standfast.jobs.restore.steps import NAME
from standfast.service.doctor.patient import Patient
from standfast.service.doctor.results import Result, command, ok, warning

DAY_S = 86_400.0
ARCHIVE_OLD_S = 90 * DAY_S
UNFINISHED_OLD_S = DAY_S
_NAMED = 3


def set_aside(patient: Patient) -> Iterator[Result]:
    """Copies that the vault and the messages' file were moved to, and keys that fit nothing."""
    found = [
        path
        for directory in (patient.vault_dir, patient.messages_dir, patient.settings.state_dir / "alerts")
        for pattern in ("damaged-*", "former-*", "*.unusable")
        for path in _matching(directory, pattern)
    ]
    if not found:
        yield ok("leftovers.set_aside", "damaged copies", "none")
    for path in found:
        yield warning(
            "leftovers.set_aside",
            "damaged copy" if path.name.startswith("damaged-") else "former copy",
            f"{path}: {_size(path)}, {_age(path)}",
            "Once no company misses anything:\n" + command("rm", "-r", path),
        )


def archives(patient: Patient) -> Iterator[Result]:
    """Auth states of companies that were removed or logged out: full keys in clear."""
    folders = _matching(patient.settings.state_dir / "archive", "*")
    old = [path for path in folders if _age_s(path) > ARCHIVE_OLD_S]
    if old:
        yield warning(
            "leftovers.archive",
            "archive",
            f"{len(old)} of {len(folders)} folders hold keys in clear since over {ARCHIVE_OLD_S / DAY_S:.0f} days",
            f"Keep what may be needed again; {len(old)} such as:\n{command('rm', '-r', *old[:_NAMED])}",
        )
    else:
        yield ok("leftovers.archive", "archive", f"{len(folders)} folders" if folders else "empty")


def restores(patient: Patient) -> Iterator[Result]:
    """A restore that was cut off: the sessions that it had stopped stay stopped."""
    path = patient.settings.state_dir / NAME
    if not path.exists():
        yield ok("leftovers.restore", "unfinished restore", "none")
        return
    yield warning(
        "leftovers.restore",
        "unfinished restore",
        f"{path}: {_age(path)}, unless one runs just now",
        "Go on with it: standfast backup restore --resume; or put back what it replaced: --abandon",
    )


def unfinished(patient: Patient) -> Iterator[Result]:
    """Files that something began and did not end; while a service or command is at work they are its own."""
    directory = patient.settings.state_dir
    if patient.holder() is not None:
        yield ok("leftovers.unfinished", "unfinished files", "those there may be are in use")
        return
    patterns = (
        (directory, "*.new"),
        (directory, ".doctor-*"),
        (directory, "postgres.new-*"),
        (patient.vault_dir, "vault.mended*"),
        (patient.messages_dir / "spool", "*.part"),
    )
    found = [
        path
        for where, pattern in patterns
        for path in _matching(where, pattern)
        if _age_s(path) > UNFINISHED_OLD_S
    ]
    if found:
        yield warning(
            "leftovers.unfinished",
            "unfinished files",
            f"{len(found)}, such as {found[0]} ({_age(found[0])})",
            command("rm", "-r", *found[:_NAMED]),
        )
    else:
        yield ok("leftovers.unfinished", "unfinished files", "none")


def spool(patient: Patient) -> Iterator[Result]:
    """Files to be sent or brought in are swept once nobody names them: older ones than messages are kept were not."""
    limit_s = (patient.settings.messages_kept_days + 1) * DAY_S
    directory = patient.messages_dir / "spool"
    old = [path for path in _matching(directory, "*") if _age_s(path) > limit_s]
    if old:
        yield warning(
            "leftovers.spool",
            "spool",
            f"{len(old)} files are older than any message that is kept, such as {old[0]}",
            "Let the service run for an hour; it sweeps them:\nstandfast up",
        )
    else:
        yield ok("leftovers.spool", "spool", "no file that is older than the messages")


def sockets(patient: Patient) -> Iterator[Result]:
    """Those of a process that died; whoever holds the directory next removes them."""
    stale = [
        path
        for path in _matching(patient.settings.state_dir, "*.sock")
        if stat.S_ISSOCK(path.lstat().st_mode)
    ]
    if stale and patient.holder() is None:
        names = ", ".join(path.name for path in stale)
        yield ok("leftovers.sockets", "stale sockets", f"{names}; the next start removes them")


def servers(patient: Patient) -> Iterator[Result]:
    """An embedded PostgreSQL that outlived its service."""
    from standfast.postgres.processes import working_in

    data_dir = patient.state.postgres_dir
    if not data_dir.is_dir() or patient.holder() is not None:
        return
    postmasters = [process for process in working_in(data_dir) if _is_first(process)]
    for process in postmasters:
        yield warning(
            "leftovers.server",
            "stray server",
            f"embedded PostgreSQL, pid {process.pid} runs in {data_dir} without a service",
            f"kill -INT {process.pid}",
        )


def _is_first(process: psutil.Process) -> bool:
    """Whether it is a postmaster rather than one of its children."""
    try:
        parent = process.parent()
        return parent is None or not parent.name().startswith("postgres")
    except psutil.Error:
        return False


def _matching(directory: Path, pattern: str) -> list[Path]:
    return sorted(directory.glob(pattern)) if directory.is_dir() else []


def _size(path: Path) -> str:
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    total = 0
    for file in files:
        with contextlib.suppress(OSError):
            total += file.stat().st_size
    return f"{total / 1e6:.1f} MB"


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except OSError:
        return 0.0


def _age(path: Path) -> str:
    days = _age_s(path) / DAY_S
    return "of today" if days < 1 else f"{days:.0f} days old"
