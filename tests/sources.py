"""Standfast's own sources, parsed: for tests that hold what is written to a rule."""

from __future__ import annotations

import ast
import gc
from pathlib import Path

import standfast

SOURCE = Path(standfast.__file__).parent


def parsed(path: Path) -> ast.Module:
    """A file's syntax tree. Nothing is collected meanwhile: what a finalizer runs (an event loop that reports a task of
    an earlier test) confuses the parser of Python 3.11 (python/cpython#106905)."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(path.read_text("utf-8"))
    finally:
        if was_enabled:
            gc.enable()
