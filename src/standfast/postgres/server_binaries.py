"""Which server programs a throwaway server of a given version runs from.

Invariant: a program counts only after it has told its version, and never one older than was asked for: PostgreSQL takes
over upwards, never back.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from standfast.errors import ClientToolsMismatch, SettingsError
from standfast.postgres.binaries import EMBEDDED_MAJOR, embedded_binaries

TIMEOUT_S = 5.0
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
_FOLDERS = (  # of Debian and Ubuntu; RHEL, Fedora and SUSE; Homebrew; Postgres.app
    "usr/lib/postgresql/{major}/bin",
    "usr/pgsql-{major}/bin",
    "usr/lib/postgresql{major}/bin",
    "opt/homebrew/opt/postgresql@{major}/bin",
    "usr/local/opt/postgresql@{major}/bin",
    "Applications/Postgres.app/Contents/Versions/{major}/bin",
)


@dataclass(frozen=True, slots=True)
class ServerBinaries:
    """The directory of `initdb` and `postgres`, and their major version."""

    directory: Path
    major: int


def server_binaries(major: int, bin_dir: Path | None = None, *, root: Path = Path("/")) -> ServerBinaries:
    """Those of that very version where the machine has them, or else the embedded ones if they are newer. `bin_dir` is
    looked at first. `ClientToolsMismatch` names the package to install. Asks programs for their version: from an event
    loop, in a thread."""
    embedded = _embedded()
    if embedded is not None and embedded.major == major:
        return embedded
    for place in _places(major, bin_dir, root):
        if _major_of(place) == major:
            return ServerBinaries(place, major)
    if embedded is not None and embedded.major > major:
        return embedded
    raise ClientToolsMismatch(
        f"a server of PostgreSQL {major} is needed, and this machine has none of that version or newer",
        next_step=f"Install the server's package: 'apt-get install postgresql-{major}' (Debian, Ubuntu), "
        f"'dnf install postgresql{major}-server' (RHEL, Fedora), 'brew install postgresql@{major}' (macOS).",
        server_major=major,
    )


def _embedded() -> ServerBinaries | None:
    try:
        return ServerBinaries(embedded_binaries(), EMBEDDED_MAJOR)
    except SettingsError:
        return None


def _places(major: int, bin_dir: Path | None, root: Path) -> Iterator[Path]:
    if bin_dir is not None:
        yield bin_dir
    yield from (root / folder.format(major=major) for folder in _FOLDERS)


def _major_of(directory: Path) -> int | None:
    if not (directory / "initdb").is_file():
        return None
    try:
        ran = subprocess.run(
            [directory / "postgres", "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    told = _VERSION.search(ran.stdout)
    return int(told[1]) if told else None
