"""The plan of a restore: for each company what is there, what the source has, and what is to become of it.

Invariant: deciding changes nothing and asks nobody; a company of which something speaks against a restore is never
planned to be written.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from standfast.authstate.creds import identity_key, parse_creds
from standfast.errors import AuthStateCorrupt
from standfast.jobs.restore.node import Known, Standing
from standfast.jobs.restore.present import Present, Target
from standfast.jobs.restore.source import Offer

Action = Literal["same", "replay", "change log", "unchanged", "rolled back", "refused", "returned"]
WORDS: Mapping[Action, str] = {
    "same": "nothing to do: the database has just that",
    "replay": "this node's replica knows all that came later: that is put in place, nothing is lost",
    "change log": "the change log knows what came until shortly before: that, less sessions and own sender keys",
    "unchanged": "nothing was written since: all of it is put in place",
    "rolled back": "what came later is lost: sessions and own sender keys are left out, contacts set up new ones",
    "refused": "it is not touched",
    "returned": "a node that lives has brought back what it knows: nothing to do",
}
WRITTEN = frozenset({"replay", "change log", "unchanged", "rolled back"})


class Planned(msgspec.Struct, omit_defaults=True):
    """One company. `why`: what speaks against it where it is refused, or what an operator should know."""

    company: str
    action: Action
    why: str = ""
    keys_now: int = 0
    written_at: float | None = None
    keys_then: int = 0
    epoch: int = 0
    sequence_now: int = 0
    sequence_then: int = 0
    sequence_known: int | None = None
    holder: str | None = None


class Plan(msgspec.Struct, omit_defaults=True):
    """`left_alone`: companies that the database has and the source lacks, or that were not asked for. `unusable`: ids
    that Standfast refuses. `identity`: what the database is to be known by from now on; None: it stays what it is.
    `without_creds`: companies that the source has keys of and nothing else."""

    source: str
    at: float
    target: str
    companies: list[Planned]
    left_alone: list[str] = []
    unusable: list[str] = []
    identity: str | None = None
    without_creds: list[str] = []

    def of(self, *actions: Action) -> list[Planned]:
        return [one for one in self.companies if one.action in actions]

    @property
    def writes(self) -> bool:
        return any(one.action in WRITTEN for one in self.companies)


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for. `companies`: those named, or none for all. `replay`: what the replica or the change log knows
    beyond the source is to be used. `same`: companies whose content in the database is the source's, by digest."""

    companies: frozenset[str] = frozenset()
    replay: bool = True
    force: bool = False
    replace_identity: frozenset[str] = frozenset()
    same: Collection[str] = ()
    logged: Collection[str] = field(default=())


def decide(offer: Offer, now: Present, standing: Standing | None, wish: Wish, *, is_ours: bool) -> Planned:
    """What is to become of one company. `is_ours`: the node's replica belongs to the database that is restored into."""
    known = _of(standing, offer.company) if is_ours else None
    planned = Planned(
        offer.company,
        "rolled back",
        keys_now=now.keys,
        written_at=now.written_at,
        keys_then=offer.keys,
        epoch=max(now.epoch, offer.epoch, known.epoch if known else 0),
        sequence_now=now.sequence,
        sequence_then=offer.sequence,
        sequence_known=known.sequence if known else None,
        holder=now.holder_name,
    )
    node = standing.node if standing is not None else None
    against = _against(offer, now, known, node, wish)
    if against:
        planned.action, planned.why = "refused", against
    elif offer.company in wish.same and _last(now, known) == now.sequence:
        planned.action = "same"
    elif wish.replay and known is not None and _knows_beyond(known, offer, now, node):
        planned.action = "replay"
    elif wish.replay and offer.company in wish.logged:
        planned.action = "change log"
    elif offer.is_current or (now.has_creds and 0 < offer.sequence == _last(now, known)):
        planned.action = "unchanged"
    if planned.action in WRITTEN and offer.wished is not None and offer.wished.unlinked_at:
        planned.why = "WhatsApp had removed the device already: it has to be paired anew"
    return planned


def is_empty(target: Target) -> bool:
    """Whether the database holds no company at all."""
    return not target.companies


def identity_to_be(target: Target, source: str | None, bound: str | None) -> str | None:
    """Under which identity an empty database goes on: the source's, so that replicas of the lost database remain its
    replicas, unless this node's replica belongs to the empty one by now. None: as it is."""
    if not is_empty(target) or source is None or source == target.identity:
        return None
    return source if bound in (None, source) else None


def _against(offer: Offer, now: Present, known: Known | None, node: str | None, wish: Wish) -> str:
    try:
        theirs = identity_key(offer.creds)
        parse_creds(offer.creds)
    except AuthStateCorrupt as error:
        return f"its creds in the source cannot be used: {error.message}"
    is_replaced = offer.company in wish.replace_identity
    if now.identity not in (None, theirs) and not is_replaced:
        return "it was paired anew since; --replace-identity names those whose new identity is to be given up"
    if now.holder is not None and now.holder != node and not wish.force:
        return f"the node {now.holder_name} holds it: stop it there, or --force takes it from that node"
    if known is not None and known.client is not None:
        return f"{known.client} has it open: stop that first"
    return ""


def _of(standing: Standing | None, company: str) -> Known | None:
    found = (one for one in standing.companies if one.company == company) if standing else ()
    return next((one for one in found), None)


def _last(now: Present, known: Known | None) -> int:
    """How far the history has come, in PostgreSQL or in a journal that it lacks."""
    return max(now.sequence, known.sequence if known is not None else 0)


def _knows_beyond(known: Known, offer: Offer, now: Present, node: str | None) -> bool:
    """Whether the replica has all that the source has and more, and nobody has written since it."""
    if not known.complete or known.sequence < offer.sequence or known.epoch < offer.epoch:
        return False
    is_latest = now.epoch <= known.epoch or now.claimed_by == node
    is_one_pairing = now.identity is None or now.identity.hex() == known.identity
    return is_latest and is_one_pairing
