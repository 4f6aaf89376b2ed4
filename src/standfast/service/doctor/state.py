"""The state directory: whose it is, who can get at it, who holds it.

Invariant: it is only looked at.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from standfast.errors import StandfastError
from standfast.service.doctor.disk import existing
from standfast.service.doctor.patient import Patient
from standfast.service.doctor.results import Result, command, ok, warning, wrong
from standfast.state_dir import SOCKET_PATH_LIMIT_BYTES

FILES_LOOKED_AT = 20_000
SERVICE_TIMEOUT_S = 3.0
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def directory(patient: Patient) -> Iterator[Result]:
    """There, ours, and closed to others; or it can be made."""
    path = patient.state.path
    if not path.exists():
        yield _to_be_made(path)
        return
    found = path.stat()
    if not stat.S_ISDIR(found.st_mode):
        yield wrong(
            "state.directory", "directory", f"{path} is not a directory", command("mv", path, f"{path}.other")
        )
    elif found.st_uid != os.geteuid():
        yield wrong(
            "state.directory",
            "directory",
            f"{path} belongs to uid {found.st_uid}, this is uid {os.geteuid()}",
            "Choose another STANDFAST_STATE_DIR, or run as that account:\n"
            + command("sudo", "-u", f"#{found.st_uid}", "standfast", "doctor"),
        )
    elif found.st_mode & _OTHERS:
        # One that others can write in is refused by the service; what lies in one that they can list is closed.
        tell = wrong if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) else warning
        yield tell(
            "state.directory",
            "directory",
            f"{path} is open to other accounts (mode {stat.S_IMODE(found.st_mode):04o})",
            command("chmod", 700, path),
        )
    elif not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        yield wrong("state.directory", "directory", f"{path} cannot be written", command("chmod", 700, path))
    else:
        yield ok("state.directory", "directory", f"{path}, mode {stat.S_IMODE(found.st_mode):04o}")


def socket_path(patient: Patient) -> Iterator[Result]:
    length = len(os.fsencode(patient.state.gateway_socket))
    told = f"its path has {length} bytes of {SOCKET_PATH_LIMIT_BYTES}"
    if length > SOCKET_PATH_LIMIT_BYTES:
        yield wrong(
            "state.socket", "gateway socket", told, "Choose a shorter directory with STANDFAST_STATE_DIR."
        )
    else:
        yield ok("state.socket", "gateway socket", told)


def files(patient: Patient) -> Iterator[Result]:
    """Every file below it: its owner, and that nobody else can read it. PostgreSQL minds its own."""
    state = patient.state
    if not state.path.is_dir():
        return
    foreign, open_to_others, ahead = [], [], []
    owner, now, count = (
        state.path.stat().st_uid,
        time.time(),
        0,
    )  # whether the owner is right says `directory`
    for count, (path, found) in enumerate(_below(state.path, state.postgres_dir), 1):  # noqa: B007 - counts them
        if found.st_uid != owner:
            foreign.append(path)
        if found.st_mode & _OTHERS and not stat.S_ISSOCK(found.st_mode):
            open_to_others.append(path)
        if found.st_mtime > now + 60:
            ahead.append(path)
    if foreign:
        yield wrong(
            "state.files",
            "files",
            f"{len(foreign)} belong to another account than the directory, such as {foreign[0]}",
            command("chown", "-R", owner, state.path),
        )
    if open_to_others:
        yield warning(
            "state.files",
            "files",
            f"{len(open_to_others)} are open to other accounts by their mode, such as {open_to_others[0]}",
            command("chmod", "-R", "go-rwx", state.path),
        )
    if ahead:
        yield warning(
            "state.files",
            "files",
            f"{len(ahead)} were written in the future, such as {ahead[0]}: the clock was or is wrong",
            "Correct the clock (date); times of what happened meanwhile stay as they were written.",
        )
    if not (foreign or open_to_others or ahead):
        yield ok("state.files", "files", f"{count} looked at: all its owner's, closed to others")


def holder(patient: Patient) -> Iterator[Result]:
    """Who holds it, and whether a service that does also answers."""
    found = patient.holder()
    if found is None:
        yield ok("state.service", "service", "does not run: standfast up")
        return
    who = (
        f"{found.purpose or 'a process'} (pid {found.pid}, since {found.started_at})"
        if found.pid
        else "a process"
    )
    if not patient.service_runs():
        yield ok("state.service", "held by", who)
        return
    try:
        asyncio.run(_asked(patient))
    except (TimeoutError, StandfastError) as error:
        said = (
            error.message
            if isinstance(error, StandfastError)
            else f"no answer within {SERVICE_TIMEOUT_S:g} s"
        )
        yield wrong(
            "state.service",
            "service",
            f"{who} holds the directory and does not answer: {said}",
            f"Wait if it is just starting; else end it and start it again:\nkill {found.pid}; standfast up",
        )
        return
    yield ok("state.service", "service", f"answers: {who}")


async def _asked(patient: Patient) -> None:
    from standfast.service.client import connect

    async with asyncio.timeout(SERVICE_TIMEOUT_S), connect(patient.state.gateway_socket) as client:
        await client.status()


def _to_be_made(path: Path) -> Result:
    above = existing(path)
    if os.access(above, os.W_OK | os.X_OK):
        return ok("state.directory", "directory", f"{path} is not there yet; the first start makes it")
    return wrong(
        "state.directory",
        "directory",
        f"{path} is not there, and this account cannot write in {above}",
        command("sudo", "install", "-d", "-m", 700, "-o", os.geteuid(), path),
    )


def _below(top: Path, but: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """At most so many, without those of `but`; what goes meanwhile is passed over."""
    left = FILES_LOOKED_AT
    for folder, names, inside in os.walk(top):
        if Path(folder) == top and but.name in names:
            names.remove(but.name)
        for name in (*names, *inside):
            path = Path(folder, name)
            try:
                yield path, path.lstat()
            except FileNotFoundError:
                continue
            left -= 1
        if left <= 0:
            return
