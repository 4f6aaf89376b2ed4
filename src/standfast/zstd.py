"""Zstandard: the standard library's where Python has it, its backport elsewhere.

Invariant: nothing else decides which.
"""

from __future__ import annotations

import sys

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["zstd"]
