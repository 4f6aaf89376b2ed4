"""A new backup against the last good one: what makes it no backup, and what is only odd.

Invariant: pure; a first backup is judged by itself alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from standfast.jobs.backup.manifest import Manifest
from standfast.jobs.backup.report import size

LEAST_BYTES = 1_000  # an archive's table of contents alone is longer
MOST_BYTES = 500_000_000
_FEW_ROWS, _FEW_COMPANIES = 100, 4  # below, half of them is no sudden loss


@dataclass(frozen=True, slots=True)
class Judgement:
    """`fault`: why it must not count as a backup; empty where nothing is wrong. `oddities` are for a look."""

    fault: str = ""
    oddities: tuple[str, ...] = ()


def judge(new: Manifest, last: Manifest | None) -> Judgement:
    """What `new` is worth, `last` being the newest good one of the same database."""
    fault = _fault(new, last)
    return Judgement(fault, () if fault else tuple(_oddities(new, last)))


def rows_in(manifest: Manifest) -> int:
    """Creds and keys."""
    return sum(one.creds + sum(one.keys.values()) for one in manifest.companies.values())


def _fault(new: Manifest, last: Manifest | None) -> str:
    if new.content.bytes < LEAST_BYTES or new.content.plain_bytes < LEAST_BYTES:
        return f"it is of {new.content.bytes} bytes, which holds no database"
    if last is None:
        return ""
    if not new.companies and last.companies:
        return f"it holds no company, and the last good one held {len(last.companies):,}"
    if not _paired(new) and _paired(last):
        return f"it holds no creds, and the last good one held those of {_paired(last):,} companies"
    return ""


def _oddities(new: Manifest, last: Manifest | None) -> list[str]:
    told = []
    if new.content.bytes > MOST_BYTES:
        told.append(f"it takes {size(new.content.bytes)}")
    if not new.companies:
        told.append("it holds no company")
    if last is None:
        return told
    rows, before = rows_in(new), rows_in(last)
    # What a cleanup took out lies in the trash: that is explained.
    explained = max(0, _trashed(new) - _trashed(last))
    if before >= _FEW_ROWS and rows + explained <= before / 2:
        told.append(f"{rows:,} rows instead of {before:,}")
    elif (
        _is_alike(new, last)
        and before >= _FEW_ROWS
        and new.content.bytes <= last.content.bytes / 2
        and not explained
    ):
        told.append(f"{size(new.content.bytes)} instead of {size(last.content.bytes)}")
    if _paired(last) >= _FEW_COMPANIES and _paired(new) <= _paired(last) / 2:
        told.append(f"creds of {_paired(new):,} companies instead of {_paired(last):,}")
    return told


def _paired(manifest: Manifest) -> int:
    return sum(one.creds for one in manifest.companies.values())


def _trashed(manifest: Manifest) -> int:
    return manifest.tables.get("standfast_trash", 0)


def _is_alike(new: Manifest, last: Manifest) -> bool:
    return (new.content.compression, new.content.encrypted) == (
        last.content.compression,
        last.content.encrypted,
    )
