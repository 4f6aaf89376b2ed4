"""What memory this process's control group leaves it, where it has a limit.

Invariant: where nothing can be read there is no limit known; page cache that can be dropped counts as available.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/sys/fs/cgroup")
_SELF = Path("/proc/self/cgroup")
_NO_LIMIT_BYTES = 1 << 60  # version 1 has no word for "none"


def memory_available_bytes(root: Path = _ROOT, own: Path = _SELF) -> int | None:
    """The least that any group above this process leaves; None where none has a limit."""
    left = [room for place in _places(root, own) if (room := _room(place)) is not None]
    return min(left, default=None)


def _places(root: Path, own: Path) -> Iterator[Path]:
    """The directories of this process's groups, versions 2 and 1, with those above them."""
    try:
        lines = own.read_text("utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base = root / "memory" if controllers else root
        inner = PurePosixPath(path.lstrip("/"))
        # Within a container the path is that of the machine, and what can be seen begins at the container's group.
        yield from (base / one for one in (inner, *inner.parents))


def _room(place: Path) -> int | None:
    for limit, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        with contextlib.suppress(OSError, ValueError):
            limit_bytes = int((place / limit).read_text("ascii"))
            if limit_bytes < _NO_LIMIT_BYTES:
                droppable = _stat(place / "memory.stat").get(cache, 0)
                return max(0, limit_bytes - int((place / used).read_text("ascii")) + droppable)
    return None


def _stat(file: Path) -> dict[str, int]:
    pairs = (line.split() for line in file.read_text("ascii").splitlines())
    return {name: int(value) for name, value in pairs}
