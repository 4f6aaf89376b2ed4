"""`Expectations`: when a node may say no, and when it must.

Invariant: a refusal counts as a finding unless a fault that is on, or was a moment ago, calls for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.chaos.checker import Checker, Kind, Violation
from tests.chaos.node import Node
from tests.chaos.schedule import GRACE_S
from tests.chaos.server import Server

_MOMENT_S = 6.0  # in which a node finds out what has changed
_GRACE_MARGIN_S = 60
_AWAY = frozenset({"database_unavailable", "database_rejected"})


@dataclass(slots=True)
class _Seen:
    disturbed_at: float = -_MOMENT_S
    disk_changed_at: float = -_MOMENT_S
    jumped_s: int = 0
    jumped_apart_s: int = 0  # while PostgreSQL could not be reached at all
    is_doubtful: bool = False
    has_set_wall: bool = False
    has_rebooted: bool = False
    is_damaged: bool = False
    is_confirmed: bool = False


class Expectations:
    def __init__(self, checker: Checker, server: Server) -> None:
        self._checker = checker
        self._server = server
        self._seen: dict[str, _Seen] = {}

    def _of(self, node: Node) -> _Seen:
        return self._seen.setdefault(node.name, _Seen())

    # -- what happened

    def disturb(self, nodes: Iterable[Node]) -> None:
        """The way to PostgreSQL changes."""
        for node in nodes:
            self._of(node).disturbed_at = time.monotonic()
            self._of(node).jumped_apart_s = 0

    def disk_changed(self, node: Node) -> None:
        self._of(node).disk_changed_at = time.monotonic()

    def damaged(self, node: Node) -> None:
        self._of(node).is_damaged = True

    def clock_moved(self, node: Node, which: str, seconds: int) -> None:
        seen = self._of(node)
        if which == "wall":
            seen.has_set_wall = True
            seen.is_doubtful |= seen.has_rebooted
            return
        seen.jumped_s += seconds
        if self._is_severed(node):
            seen.jumped_apart_s += seconds
        seen.is_doubtful |= seen.jumped_s >= GRACE_S - _GRACE_MARGIN_S

    def rebooted(self, node: Node) -> None:
        seen = self._of(node)
        # Over a reboot only the wall clock tells.
        seen.has_rebooted = True
        seen.is_doubtful |= seen.has_set_wall or seen.jumped_s > 0

    def is_connected(self, node: Node) -> bool:
        """Whether nothing stands between the node and a PostgreSQL that works."""
        return self._server.is_well and node.link.is_clean and not node.is_detached

    def _is_severed(self, node: Node) -> bool:
        return not self._server.is_there or node.link.is_severed

    # -- what may be said then

    def may_open(self, node: Node, company: str, answer: dict[str, Any]) -> None:
        """The node opened the company. Raises `Violation` where it should not have."""
        seen = self._of(node)
        seen.is_confirmed |= bool(answer["confirmed"])
        if seen.jumped_apart_s > GRACE_S and self._is_severed(node) and not node.is_detached:
            raise Violation(
                Kind.GRACE,
                f"{node.name} opened {company} without PostgreSQL, {seen.jumped_apart_s} s after it was gone",
            )

    def may_refuse_opening(self, node: Node, company: str, answer: dict[str, Any]) -> None:
        """Raises `Violation` where the node should have opened the company."""
        seen, code = self._of(node), answer["error"]
        if code == "grace_expired":
            allowed = not node.is_detached and (seen.is_doubtful or seen.is_damaged or not seen.is_confirmed)
        elif code in _AWAY:
            allowed = self._was_disturbed(node) and not self._must_open(node, company)
        else:
            allowed = self._may_refuse(node, company, code)
        if not allowed:
            raise _without_need(node, company, "opening", answer)

    def _must_open(self, node: Node, company: str) -> bool:
        """Whether it has all that it takes to open the company without PostgreSQL."""
        seen = self._of(node)
        # Who stands on files has no limit of grace to think of.
        in_grace = node.is_detached or (seen.is_confirmed and not seen.is_doubtful)
        trusted = in_grace and not seen.is_damaged
        return trusted and self._checker.is_whole(node.name, company)

    def may_refuse_writing(self, node: Node, company: str, answer: dict[str, Any]) -> None:
        """Raises `Violation` where the node should have done what it was asked in a company that it has open."""
        if not self._may_refuse(node, company, answer["error"]):
            raise _without_need(node, company, "writing or reading", answer)

    def may_be_fenced(self, node: Node, company: str) -> None:
        """The node says that it lost the company. Raises `Violation` where nobody took it."""
        if not self._checker.was_taken(node.name, company):
            raise Violation(Kind.REFUSED, f"{node.name} gave {company} up, and no other node has claimed it")

    def _may_refuse(self, node: Node, company: str, code: str) -> bool:
        seen = self._of(node)
        match code:
            case "died":
                return True
            case "company_in_use":
                # A node that lost its file is another node to PostgreSQL, until the lease of the one it was runs out.
                return self._checker.was_taken(node.name, company) or seen.is_damaged
            case "journal_unwritable":
                recently = time.monotonic() - seen.disk_changed_at < _MOMENT_S
                return node.is_disk_full or recently or seen.is_damaged
            case "database_unavailable":
                return seen.is_damaged and self._was_disturbed(node)
            case "auth_state_corrupt":
                return seen.is_damaged
            case _:
                return False

    def _was_disturbed(self, node: Node) -> bool:
        recently = time.monotonic() - self._of(node).disturbed_at < _MOMENT_S
        return recently or not self.is_connected(node)


def _without_need(node: Node, company: str, what: str, answer: dict[str, Any]) -> Violation:
    kind = Kind.ERROR if answer["error"] in ("unexpected", "damaged_value") else Kind.REFUSED
    return Violation(kind, f"{node.name}, {what} {company}: {answer['error']}: {answer.get('message')}")
