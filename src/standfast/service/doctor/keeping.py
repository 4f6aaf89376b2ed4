"""What keeps copies: where backups lie, who can open them, the remotes, and when it is all done.

Invariant: nothing is written; a remote is asked once for a list of what it does not have, within its own deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import stat
import time
from collections.abc import Iterator
from datetime import datetime

from standfast.errors import SettingsError, StandfastError
from standfast.service.doctor.disk import existing
from standfast.service.doctor.patient import Patient
from standfast.service.doctor.results import Result, command, ok, skipped, warning, wrong
from standfast.settings import Settings

REMOTE_TIMEOUT_S = 4.0
_NOWHERE = "doctor-looks-here/"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def place(patient: Patient) -> Iterator[Result]:
    """Where backups are kept: it can be written, and a dead disk does not take both."""
    settings = patient.settings
    root = settings.backup_directory
    nearest = existing(root)
    if not os.access(nearest, os.W_OK | os.X_OK):
        yield wrong(
            "state.backups",
            "backups",
            f"{'BACKUP_ROOT: ' if settings.backup_root else ''}this account cannot write in {nearest}",
            command("sudo", "install", "-d", "-m", 700, "-o", os.geteuid(), root),
        )
    elif nearest.stat().st_dev != existing(patient.state.path).stat().st_dev:
        yield ok("state.backups", "backups", f"{root}, on a file system of its own")
    elif settings.remotes:
        yield ok(
            "state.backups", "backups", f"{root}; copies go to {_count(len(settings.remotes), 'remote')}"
        )
    else:
        yield warning(
            "state.backups",
            "backups",
            f"{root} is on the same file system as the state directory: one dead disk takes both",
            "Point BACKUP_ROOT at another disk, or name a place for copies in BACKUP_REMOTES (docs/remotes.md).",
        )


def encryption(patient: Patient) -> Iterator[Result]:
    """Recipients and identity can be used, and belong together."""
    from standfast.jobs.backup.sealing import identities, recipients

    settings = patient.settings
    if settings.backup_recipients is None and settings.backup_identity_file is None:
        return
    try:
        to, own = recipients(settings), identities(settings)
    except SettingsError as error:
        yield wrong(
            "backups.encryption", "encryption", error.message, error.next_step or "See docs/backups.md."
        )
        return
    told = f"to {_count(len(to), 'recipient')}" if to else "backups are not encrypted"
    file = settings.backup_identity_file
    if file is None:
        yield ok(
            "backups.encryption",
            "encryption",
            f"{told}; no BACKUP_IDENTITY_FILE here opens them" if to else told,
        )
    elif (mode := file.stat().st_mode) & _OTHERS:
        yield wrong(
            "backups.encryption",
            "encryption",
            f"{file} can be read by other accounts (mode {stat.S_IMODE(mode):04o})",
            command("chmod", 600, file),
        )
    elif to and not {str(one) for one in to} & {str(one.to_public()) for one in own}:
        yield warning(
            "backups.encryption",
            "encryption",
            f"{file} opens none of the backups that are made: its recipient is not in BACKUP_RECIPIENTS",
            f"Add what this prints to BACKUP_RECIPIENTS:\n{command('age-keygen', '-y', file)}",
        )
    else:
        yield ok("backups.encryption", "encryption", f"{told}; {file} opens them" if to else told)


def remotes(patient: Patient) -> Iterator[Result]:
    """Each can be reached and listed."""
    settings = patient.settings
    if not settings.remotes:
        return
    if patient.offline:
        yield skipped("backups.remotes", "remotes", "--offline")
        return
    yield from asyncio.run(_looked_at(settings))


async def _looked_at(settings: Settings) -> list[Result]:
    from standfast.jobs.remotes.opening import remote_of
    from standfast.jobs.remotes.remote import Remote

    async def look(remote: Remote) -> Result:
        subject = f"remote {remote.name}"
        try:
            await remote.list(_NOWHERE)
        except StandfastError as error:
            mend = error.next_step or "See docs/remotes.md."
            return wrong("backups.remotes", subject, error.message, mend)
        finally:
            with contextlib.suppress(StandfastError):
                await remote.close()
        return ok("backups.remotes", subject, f"{remote.address.shown} answers")

    quick = (
        dataclasses.replace(one, timeout_s=min(one.timeout_s, REMOTE_TIMEOUT_S)) for one in settings.remotes
    )
    return list(await asyncio.gather(*(look(remote_of(address)) for address in quick)))


def schedule(patient: Patient) -> Iterator[Result]:
    """When the next cleanup and the next backup are due, in which time zone."""
    from standfast.jobs.schedule.table import cron_of
    from standfast.settings.cron import zone_of

    settings = patient.settings
    if settings.schedule == "off":
        yield skipped("backups.schedule", "schedule", "STANDFAST_SCHEDULE=off")
        return
    now, zone = time.time(), zone_of(settings.time_zone)
    due = {"cleanup": settings.cleanup_cron, "backup": settings.backup_cron}
    told = []
    for job, fields in due.items():
        cron = cron_of(settings, fields)
        at = cron.next(now) if cron is not None else None
        told.append(f"{job} {datetime.fromtimestamp(at, zone):%Y-%m-%d %H:%M}" if at else f"{job} off")
    line = f"next {', '.join(told)}; times are {settings.time_zone}'s"
    if due["backup"] == "off":
        mend = 'Set STANDFAST_BACKUP_CRON="0 3 * * *", or see to it that something else runs standfast backup run.'
        yield warning("backups.schedule", "schedule", f"{line}: nothing makes backups by itself", mend)
    else:
        yield ok("backups.schedule", "schedule", line)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
