"""What a new backup is worth beside the last good one."""

from __future__ import annotations

import pytest

from standfast.jobs.backup.comparison import Judgement, judge
from standfast.jobs.backup.manifest import CompanyContent, Content, Manifest

FINE = Judgement()


def manifest(companies: int, keys: int, size: int, *, creds: bool = True, trash: int = 0) -> Manifest:
    """Of `companies` with `keys` each, in a file of `size` bytes."""
    content = Content("content.dump.zst", size, "", max(size, 5_000), "zstd")
    held = {
        f"company-{number}": CompanyContent(creds=creds, keys={"session": keys}, digest="")
        for number in range(companies)
    }
    tables = {"standfast_trash": trash}
    return Manifest(
        1, "n", ["daily"], 0, 0, 0, "n", "1", 6, "18", "18", "d", "s", content, tables, held, "", "m"
    )


LAST = manifest(10, 100, 1_000_000)


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (manifest(0, 0, 50_000), "no company"),
        (manifest(10, 100, 900_000, creds=False), "no creds"),
        (manifest(10, 100, 20), "of 20 bytes"),
    ],
)
def test_what_holds_nothing_is_no_backup(new: Manifest, told: str) -> None:
    """Where the last good one held something; twenty bytes never are one."""
    assert told in judge(new, LAST).fault


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (manifest(10, 45, 900_000), "460 rows instead of 1,010"),
        (manifest(10, 100, 400_000), "400.0 kB instead of 1.0 MB"),
        (manifest(5, 250, 900_000), "creds of 5 companies instead of 10"),
        (manifest(10, 100, 600_000_000), "600.0 MB"),
    ],
)
def test_a_sudden_change_is_odd(new: Manifest, told: str) -> None:
    """It is good all the same."""
    judgement = judge(new, LAST)
    assert judgement.fault == ""
    assert any(told in oddity for oddity in judgement.oddities)


def test_what_is_explained_is_not_odd() -> None:
    """A first one, slow growth and shrinking, and rows that a cleanup put into the trash."""
    assert judge(LAST, None) == FINE
    assert judge(manifest(10, 101, 1_010_000), LAST) == FINE
    assert judge(manifest(10, 60, 600_000), LAST) == FINE
    assert judge(manifest(10, 40, 900_000, trash=600), LAST) == FINE
    assert judge(manifest(2, 10, 2_000), manifest(3, 30, 5_000)) == FINE


def test_an_empty_database_that_never_held_anything_is_odd_only() -> None:
    assert judge(manifest(0, 0, 5_000), None).oddities == ("it holds no company",)
