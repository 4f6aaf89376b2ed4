"""Who is newer, files or PostgreSQL: decided by epoch and sequence alone."""

from __future__ import annotations

from typing import Any

import pytest

from standfast.jobs.emergency.comparison import (
    Compared,
    Kept,
    Preferred,
    Wish,
    compare,
    compare_folder,
    needs_content,
)
from standfast.jobs.restore.present import Present

OURS, OTHERS = b"\x01" * 32, b"\x02" * 32
KEPT = Kept("acme", 100, 50, is_whole=True, identity=OURS.hex())


def there(**fields: Any) -> Present:
    given: dict[str, Any] = {"identity": OURS, "has_creds": True, "keys": 9, "epoch": 100, "sequence": 40}
    return Present(**given | fields)


def verdict(now: Present, prefer: Preferred | None = None, **more: Any) -> tuple[str, str]:
    wish = Wish(prefer)
    found = compare(KEPT, now, "node-1", wish, **({"is_ours": True} | more))
    return found.verdict, found.action


@pytest.mark.parametrize(
    "now",
    [
        there(),
        there(epoch=90, sequence=99),
        Present(),
        Present(epoch=100, sequence=40),
        there(epoch=200, base=100, sequence=40),
        there(epoch=200, base=100, sequence=40, holder="node-1"),
    ],
    ids=["behind", "gone back", "empty", "rows deleted", "claimed only", "claimed by us"],
)
def test_a_former_state_is_older(now: Present) -> None:
    """Whatever its rows' times say."""
    assert verdict(now) == ("files newer", "import")


def test_what_has_everything_is_equal() -> None:
    """And is brought back all the same: its rows may have been deleted by hand."""
    assert verdict(there(sequence=50)) == ("equal", "import")


@pytest.mark.parametrize(
    "now",
    [
        there(epoch=200, base=200, sequence=41),
        there(epoch=200, base=150, sequence=40),
        there(sequence=51),
        there(identity=OTHERS),
        there(identity=OTHERS, epoch=90),
        there(epoch=0, sequence=0),
        there(identity=None, is_damaged=True),
        Present(epoch=200, base=200, sequence=41),
    ],
    ids=["written", "owned twice", "beyond", "paired anew", "older pairing", "legacy", "damaged", "removed"],
)
def test_what_may_be_newer_is_never_decided_here(now: Present) -> None:
    """It waits for an operator, whose word counts for that company."""
    assert verdict(now) == ("conflict", "decide")
    assert verdict(now, "files") == ("conflict", "keep files")
    assert verdict(now, "postgresql") == ("conflict", "keep postgresql")


def test_a_decision_counts_for_those_named() -> None:
    """And for no other company."""
    now = there(identity=OTHERS)
    assert compare(KEPT, now, "n", Wish("files", {"bolt"}), is_ours=True).is_undecided
    assert not compare(KEPT, now, "n", Wish("files", {"acme"}), is_ours=True).is_undecided


def test_the_same_content_is_no_conflict() -> None:
    """It is looked at only where it can tell something: never for another identity."""
    now = there(epoch=200, base=200, sequence=41)
    assert needs_content(KEPT, now, "n", is_ours=True)
    assert not needs_content(KEPT, there(identity=OTHERS), "n", is_ours=True)
    assert not needs_content(KEPT, there(), "n", is_ours=True)
    assert verdict(now, is_same=True) == ("equal", "import")


def test_another_database_is_a_conflict_unless_it_lacks_the_company() -> None:
    """Epochs of two databases say nothing of each other."""
    assert verdict(there(epoch=90), is_ours=False) == ("conflict", "decide")
    assert verdict(Present(), is_ours=False) == ("files newer", "import")


def test_a_living_node_is_never_overtaken() -> None:
    """Not even where files are preferred."""
    held = there(epoch=200, base=100, holder="node-2", holder_name="two")
    assert verdict(held) == ("held", "decide")
    assert verdict(held, "files") == ("held", "decide")
    assert verdict(held, "postgresql") == ("held", "keep postgresql")


def test_what_is_done_is_not_done_again() -> None:
    """While nobody has taken it since."""
    assert verdict(there(), is_done=True) == ("done", "none")
    assert verdict(there(epoch=200, base=200, sequence=60), is_done=True) == ("conflict", "decide")


def test_a_folder_that_is_undecided_is_no_state_to_take() -> None:
    """Which of both files are is decided by 'take', never by the way back; PostgreSQL's may be had all the same."""
    kept = Kept("acme", 100, 50, is_whole=True, identity=OURS.hex(), withheld="its folder was changed")
    undecided: tuple[Preferred | None, ...] = (None, "files")
    for prefer in undecided:
        found = compare(kept, there(), "n", Wish(prefer), is_ours=True)
        assert (found.verdict, found.action, found.why) == ("conflict", "decide", "its folder was changed")
    assert compare(kept, there(), "n", Wish("postgresql"), is_ours=True).action == "keep postgresql"


def test_without_a_whole_state_nothing_is_written() -> None:
    """There is nothing to write."""
    kept = Kept("acme", 100, 50, is_whole=False)
    assert compare(kept, Present(), "n", Wish("files"), is_ours=True).action == "none"


def folder(now: Present, prefer: Preferred | None = None, *, is_same: bool = False) -> Compared:
    return compare_folder(KEPT, now, Wish(prefer), is_same=is_same)


def test_a_folder_never_passes_for_newer() -> None:
    """It tells no epoch: whatever PostgreSQL has or had of the company is for an operator to decide."""
    assert folder(Present()).action == "import"
    assert folder(there(), is_same=True).action == "none"
    for now in (there(), there(epoch=0, sequence=0), Present(epoch=1, sequence=5), there(identity=OTHERS)):
        assert folder(now).action == "decide"
        assert folder(now, "files").action == "keep files"
        assert folder(now, "postgresql").action == "none"
    assert folder(there(holder="x"), "files").action == "decide"
