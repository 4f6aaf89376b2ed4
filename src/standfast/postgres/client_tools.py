"""Which `pg_dump`, `pg_restore` and `psql` serve a server: looked for in every usual place, chosen by version.

Invariant: a program is chosen only after it has told its version, and never one that is older than the server: an old
pg_dump refuses, and whatever stands behind it in a pipe takes its silence for a dump.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from standfast.errors import ClientToolsMismatch
from standfast.postgres.binaries import embedded_directories

TIMEOUT_S = 5.0
_TOOLS = ("pg_dump", "pg_restore", "psql")
_VERSION = re.compile(r"\(PostgreSQL\) ((\d+)\S*)")
_FOLDERS = (  # of Debian and Ubuntu; RHEL, Fedora and SUSE; Homebrew; Postgres.app; FreeBSD and sources
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "usr/lib/postgresql*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "opt/homebrew/opt/libpq/bin",
    "usr/local/opt/postgresql@*/bin",
    "usr/local/opt/libpq/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
    "usr/local/pgsql/bin",
)


@dataclass(frozen=True, slots=True)
class ClientTools:
    """Programs of one version, of one directory."""

    pg_dump: Path
    pg_restore: Path
    psql: Path
    version: str
    major: int


@dataclass(frozen=True, slots=True)
class _Unusable:
    directory: Path
    reason: str


def find_client_tools(
    server_major: int, bin_dir: Path | None = None, *, root: Path = Path("/")
) -> ClientTools:
    """Those of the server's major version, or else of the nearest above it. `bin_dir`, where it is named, is the only
    place that counts. `ClientToolsMismatch` lists what was found and names the package to install. Asks each program
    for its version, up to `TIMEOUT_S`: from an event loop, in a thread."""
    places = [bin_dir] if bin_dir is not None else list(_places(root))
    asked = [_ask(place) for place in places]
    found = [one for one in asked if isinstance(one, ClientTools)]
    fitting = [one for one in found if one.major >= server_major]
    if fitting:
        return min(fitting, key=lambda one: one.major)
    raise _mismatch(server_major, bin_dir, found, [one for one in asked if isinstance(one, _Unusable)])


def _places(root: Path) -> Iterator[Path]:
    seen = set()
    for place in _every_place(root):
        real = place.resolve()
        # Debian's /usr/bin/pg_dump chooses a version by itself, and tells another than it runs.
        if real not in seen and (place / _TOOLS[0]).resolve().name != "pg_wrapper":
            seen.add(real)
            yield place


def _every_place(root: Path) -> Iterator[Path]:
    yield from (one for one in embedded_directories() if (one / _TOOLS[0]).is_file())
    for entry in os.get_exec_path():
        if entry and (Path(entry) / _TOOLS[0]).is_file():
            yield Path(entry)
    for pattern in _FOLDERS:
        yield from (one for one in sorted(root.glob(pattern)) if (one / _TOOLS[0]).is_file())


def _ask(directory: Path) -> ClientTools | _Unusable:
    pg_dump, pg_restore, psql = (directory / tool for tool in _TOOLS)
    for program in (pg_dump, pg_restore, psql):
        if not os.access(program, os.X_OK) or not program.is_file():
            return _Unusable(directory, f"no {program.name}")
    try:
        ran = subprocess.run(
            [pg_dump, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _Unusable(directory, f"pg_dump did not answer within {TIMEOUT_S:g} s")
    except OSError as error:
        return _Unusable(directory, f"pg_dump cannot be run ({error.strerror})")
    told = _VERSION.search(ran.stdout)
    if ran.returncode != 0 or told is None:
        return _Unusable(directory, "pg_dump does not tell its version")
    return ClientTools(pg_dump, pg_restore, psql, told[1], int(told[2]))


def _mismatch(
    major: int, bin_dir: Path | None, found: list[ClientTools], unusable: list[_Unusable]
) -> ClientToolsMismatch:
    seen = [f"{one.version} in {one.pg_dump.parent}" for one in found]
    seen += [f"{one.directory} ({one.reason})" for one in unusable]
    where = f"STANDFAST_PG_BIN_DIR={bin_dir}" if bin_dir is not None else "this machine"
    return ClientToolsMismatch(
        f"the server is PostgreSQL {major}, and {where} has no pg_dump of version {major} or newer; "
        f"found: {', '.join(seen) or 'none'}",
        next_step=package_step(major),
        server_major=major,
        found=seen,
    )


def package_step(major: int) -> str:
    """Which package brings the client tools of a server's version."""
    return (
        f"Install PostgreSQL {major}'s client tools: 'apt-get install postgresql-client-{major}' (Debian, Ubuntu; from "
        f"apt.postgresql.org where the distribution has it not), 'dnf install postgresql{major}' (RHEL, Fedora), "
        f"'brew install postgresql@{major}' (macOS); or name their directory in STANDFAST_PG_BIN_DIR."
    )
