"""What is to become of a company, decided from what is there, what is known, and what was asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from standfast.authstate.company import Company
from standfast.authstate.creds import identity_key
from standfast.jobs.restore.node import Known, Standing
from standfast.jobs.restore.plan import Wish, decide, identity_to_be
from standfast.jobs.restore.present import Present, Target
from standfast.jobs.restore.source import Offer, Wished
from tests.support import made_up_creds

CREDS = made_up_creds()
IDENTITY = identity_key(CREDS)
OFFER = Offer(Company("acme"), CREDS, keys=10, epoch=1_000, sequence=50)
NODE = "11111111-1111-1111-1111-111111111111"
OTHER = "22222222-2222-2222-2222-222222222222"
NOW = Present(IDENTITY, has_creds=True, keys=12, epoch=2_000, sequence=70, claimed_by=NODE)
GONE = Present()


def standing(**more: object) -> Standing:
    known = Known("acme", 2_000, 70, True, IDENTITY.hex())
    return Standing(NODE, "one", None, [Known(**{**_fields(known), **more})])  # type: ignore[arg-type]


def _fields(known: Known) -> dict[str, object]:
    return {name: getattr(known, name) for name in known.__struct_fields__}


def action(
    now: Present, known: Standing | None = None, wish: Wish | None = None, offer: Offer = OFFER
) -> str:
    return decide(offer, now, known, wish or Wish(), is_ours=True).action


def test_what_the_replica_knows_beyond_the_backup_is_replayed() -> None:
    """With the database gone or going on; but never an incomplete replica, an older one, one of another pairing, one
    that another owner has overtaken, and not where it is not wanted."""
    assert action(GONE, standing()) == "replay"
    assert action(NOW, standing()) == "replay"
    assert action(GONE, standing(sequence=50)) == "replay"
    assert action(GONE, standing(complete=False)) == "rolled back"
    assert action(GONE, standing(sequence=49)) == "rolled back"
    assert action(GONE, standing(epoch=999)) == "rolled back"
    assert action(NOW, standing(identity="00")) == "rolled back"
    assert action(replace(NOW, epoch=3_000, claimed_by=OTHER), standing()) == "rolled back"
    assert action(replace(NOW, epoch=3_000), standing()) == "replay"
    assert action(GONE, standing(), Wish(replay=False)) == "rolled back"
    assert decide(OFFER, GONE, standing(), Wish(), is_ours=False).action == "rolled back"


def test_equal_content_is_left_alone_unless_the_replica_knows_more() -> None:
    """What PostgreSQL lacks of a journal is no reason to call it the same."""
    same = Wish(same={"acme"})
    assert action(NOW, None, same) == "same"
    assert action(NOW, standing(), same) == "same"
    assert action(NOW, standing(sequence=71), same) == "replay"
    assert action(NOW, standing(sequence=71), replace(same, replay=False)) == "rolled back"


def test_nothing_written_since_means_nothing_to_leave_out() -> None:
    """By the history's count; a history that was never counted proves nothing."""
    assert action(replace(NOW, sequence=50), None) == "unchanged"
    assert action(replace(NOW, sequence=50), standing(sequence=51), Wish(replay=False)) == "rolled back"
    assert action(replace(NOW, sequence=0), None, offer=replace(OFFER, sequence=0)) == "rolled back"
    assert action(GONE, None, offer=replace(OFFER, is_current=True)) == "unchanged"


def test_what_speaks_against_it_is_said_first() -> None:
    """Another identity, another living node, a client of the gateway: refused with what to do, unless overridden."""
    other = replace(NOW, identity=b"\x01" * 32)
    assert action(other) == "refused"
    assert action(other, None, Wish(replace_identity=frozenset({"acme"}))) == "rolled back"
    held = replace(NOW, holder=OTHER, holder_name="two")
    found = decide(OFFER, held, standing(), Wish(), is_ours=True)
    assert (found.action, "two" in found.why) == ("refused", True)
    assert action(replace(held, holder=NODE), standing()) == "replay"
    assert action(held, None, Wish(force=True)) == "rolled back"
    assert action(GONE, standing(client="a bot")) == "refused"
    assert action(GONE, None, offer=replace(OFFER, creds=b"{}")) == "refused"


def test_a_dead_device_is_named() -> None:
    """What WhatsApp had removed before the backup is restored as it was, and said to be dead."""
    dead = replace(OFFER, wished=Wished(wanted=False, unlinked_at="2026-11-22 10:00:00+00"))
    assert "paired anew" in decide(dead, GONE, None, Wish(), is_ours=True).why


@pytest.mark.parametrize(
    ("there", "source", "bound", "expected"),
    [
        (None, "a", None, "a"),
        ("b", "a", None, "a"),
        ("b", "a", "a", "a"),
        ("b", "a", "b", None),
        ("a", "a", "a", None),
        ("b", None, None, None),
    ],
)
def test_whose_database_an_empty_one_becomes(
    there: str | None, source: str | None, bound: str | None, expected: str | None
) -> None:
    """The backup's, so that its replicas stay its replicas; not where this node belongs to the empty one by now."""
    assert identity_to_be(Target(there, {}, {}), source, bound) == expected
    assert identity_to_be(Target(there, {"acme": NOW}, {}), source, bound) is None
