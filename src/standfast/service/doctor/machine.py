"""The machine: Python and its packages, clock, memory, open files.

Invariant: a package is only called sound after another process has imported it: one that is broken can end ours.
"""

from __future__ import annotations

import importlib.util
import platform
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import psutil

from standfast import __version__
from standfast.service.doctor.patient import Patient
from standfast.service.doctor.results import Result, command, ok, skipped, unknown, warning, wrong

MINIMUM_PYTHON = (3, 11)
IMPORT_TIMEOUT_S = 5.0
ASK_TIMEOUT_S = 2.0
LEAST_MEMORY_BYTES = 256 * 2**20
_OWN_FILES = 256  # sockets, databases and logs of the service, with room
_FILES_A_SESSION = 2
_NO_LIMIT_BYTES = 1 << 60
# Compiled for one platform and one Python: what breaks when a directory was copied from another machine.
_COMPILED = (
    "psycopg",
    "psycopg_pool",
    "orjson",
    "msgspec",
    "cryptography.hazmat.bindings._rust",
    "pydantic_core",
)
_SYNCHRONIZED = Path("/run/systemd/timesync/synchronized")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def python(_patient: Patient) -> Iterator[Result]:
    told = f"{platform.python_version()} ({platform.python_implementation()}), {sys.executable}"
    if sys.version_info[:2] < MINIMUM_PYTHON or platform.python_implementation() != "CPython":
        yield wrong(
            "machine.python", "Python", told, "Install CPython 3.11 or newer and set Standfast up with it."
        )
    else:
        yield ok("machine.python", "Python", told)


def packages(_patient: Patient) -> Iterator[Result]:
    """What Standfast requires, in the versions that it was made for, and loadable."""
    faults = list(faulty_packages(metadata.requires("standfast") or []))
    if faults:
        yield wrong(
            "machine.packages",
            "packages",
            "; ".join(faults),
            command(sys.executable, "-m", "pip", "install", "--upgrade", "standfast"),
        )
        return
    asked = subprocess.run(
        [sys.executable, "-c", f"import {', '.join(_COMPILED)}"],
        capture_output=True,
        text=True,
        timeout=IMPORT_TIMEOUT_S,
        check=False,
    )
    if asked.returncode != 0:
        last = (asked.stderr.strip().splitlines() or [f"ended with {asked.returncode}"])[-1]
        yield wrong(
            "machine.packages",
            "packages",
            f"installed, and cannot be loaded: {last[:200]}",
            command(sys.executable, "-m", "pip", "install", "--force-reinstall", "standfast"),
        )
    else:
        yield ok("machine.packages", "packages", "all there, in the versions that are needed, and they load")


def faulty_packages(requirements: list[str]) -> Iterator[str]:
    """What is said of each requirement that is not met; extras and other platforms are not asked for."""
    from packaging.requirements import Requirement

    for requirement in map(Requirement, requirements):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield f"{requirement.name} is not installed"
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            yield f"{requirement.name} is {version}, needed is {requirement.specifier}"


def install(_patient: Patient) -> Iterator[Result]:
    spec = importlib.util.find_spec("standfast")
    where = Path(spec.origin).parent if spec and spec.origin else None
    try:
        installed = metadata.version("standfast")
    except metadata.PackageNotFoundError:
        yield warning(
            "machine.install",
            "Standfast",
            f"runs from {where}, and is not installed as a package",
            command(sys.executable, "-m", "pip", "install", "-e", where.parent.parent if where else "."),
        )
        return
    kind = "source" if where and where.parent.name == "src" else "package"
    yield ok("machine.install", "Standfast", f"{installed or __version__}, from {kind} {where}")


def clock(_patient: Patient) -> Iterator[Result]:
    """Whether something keeps the clock right: leases and grace outlive a wrong one, times shown do not."""
    state = _synchronized()
    if state is None:
        yield skipped(
            "machine.clock", "clock", "no time service here could be asked (in a container the host keeps it)"
        )
    elif state:
        yield ok("machine.clock", "clock", "synchronized")
    else:
        yield warning(
            "machine.clock", "clock", "not synchronized with any time server", "timedatectl set-ntp true"
        )


def memory(patient: Patient) -> Iterator[Result]:
    settings, found = patient.settings, psutil.virtual_memory()
    total = min(found.total, _cgroup_limit())
    told = f"{_mb(found.available)} MB free of {_mb(total)} MB"
    if found.available < LEAST_MEMORY_BYTES:
        yield warning(
            "machine.memory", "memory", told, "End other programs, or give this machine more memory."
        )
    elif settings.host_memory_mb * 2**20 > total:
        yield warning(
            "machine.memory",
            "memory",
            f"{told}; a Node host is replaced only above STANDFAST_HOST_MEMORY_MB={settings.host_memory_mb}, "
            "which this machine does not have",
            f"STANDFAST_HOST_MEMORY_MB={_mb(total) // 2}",
        )
    else:
        yield ok("machine.memory", "memory", told)


def open_files(patient: Patient) -> Iterator[Result]:
    """A socket and its like for every session of a host, under the limit that this account is given."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _OWN_FILES + _FILES_A_SESSION * patient.settings.sessions_per_host
    told = f"limit {_limit(soft)}, {needed} can be needed for {patient.settings.sessions_per_host} sessions a host"
    mend = (
        f"Raise it where the service starts (under systemd LimitNOFILE={2 * needed}):\nulimit -n {2 * needed}"
    )
    if hard != resource.RLIM_INFINITY and hard < needed:
        yield wrong("machine.open_files", "open files", f"{told}, and the hard limit is {hard}", mend)
    elif soft != resource.RLIM_INFINITY and soft < needed:
        yield warning("machine.open_files", "open files", told, mend)
    else:
        yield ok("machine.open_files", "open files", told)


def account(_patient: Patient) -> Iterator[Result]:
    """Root works; whatever runs as root once leaves files that the service's own account cannot use."""
    import getpass
    import os

    uid = os.geteuid()
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        yield unknown("machine.account", "account", f"uid {uid} has no name here")
        return
    yield ok(
        "machine.account",
        "account",
        f"{name} (uid {uid})" + (", root" if uid == 0 and name != "root" else ""),
    )


def _synchronized() -> bool | None:
    if _SYNCHRONIZED.exists():
        return True
    answers = (
        (("timedatectl", "show", "--property=NTPSynchronized", "--value"), r"^yes$", r"^no$"),
        (("chronyc", "-n", "tracking"), r"Leap status\s*:\s*Normal", r"Not synchronised"),
    )
    for question, good, bad in answers:
        if shutil.which(question[0]) is None:
            continue
        asked = subprocess.run(question, capture_output=True, text=True, timeout=ASK_TIMEOUT_S, check=False)
        if re.search(good, asked.stdout, re.MULTILINE):
            return True
        if re.search(bad, asked.stdout, re.MULTILINE):
            return False
    return None


def _cgroup_limit() -> int:
    try:
        text = _CGROUP_LIMIT.read_text("ascii").strip()
    except OSError:
        return _NO_LIMIT_BYTES
    return int(text) if text.isdecimal() else _NO_LIMIT_BYTES


def _limit(count: int) -> str:
    return "none" if count == resource.RLIM_INFINITY else str(count)


def _mb(count: int) -> int:
    return count // 2**20
