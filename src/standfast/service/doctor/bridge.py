"""Node.js and the bridge: found, new enough, with the pinned packages, and Baileys loads.

Invariant: what is called sound was run.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from standfast.errors import StandfastError
from standfast.node import bridge_directory, node_binary
from standfast.service.doctor.patient import Patient
from standfast.service.doctor.results import Result, command, ok, skipped, wrong

LOAD_TIMEOUT_S = 5.0
_LOAD = "await import('baileys'); await import('ws'); process.stdout.write('loaded')"
_NAMED = 3  # packages that a line names


def node(patient: Patient) -> Iterator[Result]:
    try:
        binary = node_binary(patient.settings.node_binary)
    except StandfastError as error:
        yield wrong("node.binary", "Node.js", error.message, error.next_step)
        yield skipped("node.baileys", "Baileys", "there is no Node.js to load it with")
        return
    version = _run([str(binary), "--version"], None).stdout.strip()
    yield ok("node.binary", "Node.js", f"{version}, {binary}")
    yield from _baileys(patient, binary)


def packages(patient: Patient) -> Iterator[Result]:
    """Whether node_modules holds what the lock file names, no more and no less of what is needed."""
    try:
        bridge = bridge_directory(patient.settings.bridge_dir)
    except StandfastError as error:
        yield wrong("node.packages", "bridge", error.message, error.next_step)
        return
    amiss = list(_amiss(bridge))
    if amiss:
        more = f" and {len(amiss) - _NAMED} more" if len(amiss) > _NAMED else ""
        yield wrong(
            "node.packages",
            "bridge",
            f"{bridge}: {'; '.join(amiss[:_NAMED])}{more}",
            f"{command('cd', bridge)} && npm ci --omit=dev",
        )
    else:
        pinned = _document(bridge / "package.json")["dependencies"]["baileys"]
        yield ok("node.packages", "bridge", f"{bridge}, Baileys {pinned} and all that it needs, as locked")


def _baileys(patient: Patient, binary: Path) -> Iterator[Result]:
    try:
        bridge = bridge_directory(patient.settings.bridge_dir)
    except StandfastError:
        yield skipped("node.baileys", "Baileys", "its packages are not there (see bridge)")
        return
    loaded = _run([str(binary), "--input-type=module", "-e", _LOAD], bridge)
    if loaded.stdout == "loaded":
        yield ok("node.baileys", "Baileys", "loads")
        return
    faults = [line for line in loaded.stderr.splitlines() if "Error" in line]
    said = (faults or loaded.stderr.splitlines() or [f"Node.js ended with {loaded.returncode}"])[0].strip()
    yield wrong(
        "node.baileys",
        "Baileys",
        f"does not load: {said[:200]}",
        f"{command('cd', bridge)} && npm ci --omit=dev",
    )


def _amiss(bridge: Path) -> Iterator[str]:
    """What the lock file wants and is not there. Optional packages are those of other platforms."""
    for place, wanted in _document(bridge / "package-lock.json").get("packages", {}).items():
        if not place or wanted.get("dev") or wanted.get("optional") or wanted.get("peer"):
            continue
        try:
            version = _document(bridge / place / "package.json").get("version")
        except (OSError, ValueError):
            version = None
        if version != wanted.get("version"):
            name = place.removeprefix("node_modules/")
            yield (
                f"{name} is missing"
                if version is None
                else f"{name} is {version}, locked is {wanted.get('version')}"
            )


def _document(file: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return document


def _run(command: list[str], directory: Path | None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LOAD_TIMEOUT_S,
        check=False,
    )
