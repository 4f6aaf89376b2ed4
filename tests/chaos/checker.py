"""`Checker`: what must hold, checked against all that was acknowledged, read, and committed in PostgreSQL.

Invariant: it believes nobody but the reports that it is given, and it raises `Violation` at the first of them that
no history without a fault of ours can explain.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from tests.chaos.model import Entry, Fate, Line, Operation, State


class Kind(StrEnum):
    LOST = "acknowledged write lost"
    READ = "read is not the last acknowledged write"
    PREFIX = "PostgreSQL holds no prefix of the history"
    EPOCH = "write under an old epoch"
    QUARANTINE = "quarantine incomplete"
    REFUSED = "refused without need"
    GRACE = "opened past the grace period"
    HUNG = "no answer"
    ERROR = "error of no kind of ours"


class Violation(AssertionError):
    """What must hold does not."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Committed:
    """A row of PostgreSQL's ledger: `kind` is claim, data, or rewound. `app` names the process that did it, `claimer`
    the one that holds the newest epoch; both begin with the node's name and a dash."""

    company: str
    kind: str
    app: str
    claimer: str
    epoch: int
    sequence: int
    state: str

    @property
    def node(self) -> str:
        return self.app.partition("-")[0]


@dataclass(slots=True)
class _Past:
    """What the checker knows of one company. `begun_at`: up to which claim, its node's own, a line knows of."""

    state: str
    epoch: int = 0
    claims: list[str] = field(default_factory=list)
    lines: dict[str, list[Line]] = field(default_factory=lambda: defaultdict(list))
    begun_at: dict[int, int] = field(default_factory=dict)
    forgiven: set[str] = field(default_factory=set)
    gnawed: set[str] = field(default_factory=set)


class Checker:
    """Reports must come in the order in which things happened, as far as the controller can know it."""

    def __init__(self, initial: Mapping[str, State]) -> None:
        self._pasts = {company: _Past(state.text()) for company, state in initial.items()}

    def line(self, node: str, company: str) -> Line | None:
        """The one that the node writes now, or wrote last."""
        lines = self._pasts[company].lines[node]
        return lines[-1] if lines else None

    def tenure(self, company: str) -> tuple[str | None, int]:
        """Who owns the company, and how often that has changed."""
        claims = self._pasts[company].claims
        return self.owner(company), sum(one != other for one, other in itertools.pairwise(claims))

    def was_taken(self, node: str, company: str) -> bool:
        """Whether another node has claimed the company since this one took it."""
        past, line = self._pasts[company], self.line(node, company)
        if line is None:
            return self.owner(company) not in (None, node)
        return self._taken_since(past, line, node)

    def is_whole(self, node: str, company: str) -> bool:
        """Whether the node must have a replica that it can open the company from."""
        return (
            self.line(node, company) is not None
            and not self.was_taken(node, company)
            and node not in self._pasts[company].forgiven
        )

    def owner(self, company: str) -> str | None:
        """The node that claimed the company last."""
        claims = self._pasts[company].claims
        return claims[-1] if claims else None

    def sent(self, node: str, company: str, operation: Operation) -> Entry:
        """It was asked for: from now on it may be found. Its answer sets the entry's fate."""
        line = self.line(node, company)
        assert line is not None, f"{node} writes {company} and has not opened it"
        return line.add(operation)

    def opened(self, node: str, company: str, state: str) -> None:
        """All that a node reads right after it has opened the company."""
        past, line = self._pasts[company], self.line(node, company)
        if line is not None and line.settle(state):
            return
        if node in past.forgiven:
            past.forgiven &= past.gnawed
        elif state != past.state:
            own = f", nor its own line after {_last(line)}" if line else ""
            raise Violation(
                Kind.READ, f"{node} opened {company} as [{state}], not PostgreSQL's [{past.state}]{own}"
            )
        elif line is not None and line.owed() and not self._taken_since(past, line, node):
            owed = [operation.number for operation in line.owed()]
            raise Violation(
                Kind.LOST, f"{node} reopened {company} without its own {owed}, and nobody took it over"
            )
        self._begin_line(past, node, state)

    @staticmethod
    def _begin_line(past: _Past, node: str, state: str) -> None:
        fresh = Line(State.parse(state))
        # From its own last claim: what it opens without PostgreSQL may have been taken by others already.
        since = [number for number, claimer in enumerate(past.claims, 1) if claimer == node]
        past.begun_at[id(fresh)] = since[-1] if since else 0
        fresh.forgiven = node in past.gnawed
        past.lines[node].append(fresh)

    @staticmethod
    def _taken_since(past: _Past, line: Line, node: str) -> bool:
        return any(claimer != node for claimer in past.claims[past.begun_at.get(id(line), 0) :])

    def read(self, node: str, company: str, state: str, *, is_rebuilt: bool = False) -> None:
        """All that a node that has the company open reads back. `is_rebuilt`: it said that its file was damaged."""
        line = self.line(node, company)
        assert line is not None
        if line.settle(state):
            return
        if is_rebuilt and node in self._pasts[company].forgiven:
            self._begin_line(self._pasts[company], node, state)
        else:
            raise Violation(Kind.READ, f"{node} reads {company} as [{state}] after {_last(line)}")

    def damaged(self, node: str, company: str) -> None:
        """The node's only copy of what PostgreSQL does not have was damaged: that much may be gone."""
        line = self.line(node, company)
        if line is not None and any(e.fate is not Fate.ABSENT for e in line.entries[line.position :]):
            self.forgive(node, company)

    def gnawed(self, node: str, company: str) -> None:
        """The node's files were damaged while it used them: nobody knows what of its later writes they still hold."""
        self._pasts[company].gnawed.add(node)
        self.forgive(node, company)

    def forgive(self, node: str, company: str) -> None:
        """Whatever the node has, and writes until it opens the company again, may be gone."""
        self._pasts[company].forgiven.add(node)
        for kept in self._pasts[company].lines[node]:
            kept.forgiven = True

    def committed(self, row: Committed) -> None:
        """PostgreSQL's ledger, row by row."""
        past = self._pasts[row.company]
        if row.kind == "claim":
            self._claimed(past, row)
        elif row.kind == "data":
            self._written(past, row)
        else:
            past.epoch = row.epoch
            for lines in past.lines.values():
                for line in lines:
                    line.rewind(row.state)
        past.state = row.state

    def _claimed(self, past: _Past, row: Committed) -> None:
        if row.epoch <= past.epoch:
            raise Violation(
                Kind.EPOCH, f"{row.app} claimed {row.company} under {row.epoch} after {past.epoch}"
            )
        if row.state != past.state:
            raise Violation(
                Kind.EPOCH, f"a claim of {row.company} changed it: [{past.state}] to [{row.state}]"
            )
        past.epoch = row.epoch
        past.claims.append(row.node)

    def _written(self, past: _Past, row: Committed) -> None:
        if row.app != row.claimer:
            raise Violation(
                Kind.EPOCH, f"{row.app} wrote {row.company}, which is {row.claimer}'s: [{row.state}]"
            )
        lines = past.lines[row.node]
        if not any(line.reach(row.state) or line.forgiven for line in reversed(lines)):
            known = [f"{line.position} of {_last(line)}" for line in lines]
            raise Violation(
                Kind.PREFIX,
                f"{row.company} became [{row.state}] after [{past.state}] by {row.app}; known: {known}",
            )

    def at_its_end(self, company: str, node: str, state: str) -> None:
        """Everything is mended, `node` has the company and has brought it to PostgreSQL, which is at `state`."""
        past, line = self._pasts[company], self.line(node, company)
        if past.state != state:
            raise Violation(Kind.PREFIX, f"{company} is [{state}], and its last commit left [{past.state}]")
        if line is None or not line.settle(state):
            raise Violation(Kind.LOST, f"PostgreSQL has {company} as [{state}] after {node}'s {_last(line)}")

    def kept(self, company: str, node: str, quarantined: Sequence[str]) -> None:
        """All that the node has of the company in quarantine, by `change_text`, after it was opened there again."""
        for line in self._pasts[company].lines[node]:
            owed = [operation.number for operation in line.owed()]
            if not owed or line.forgiven or line is self.line(node, company):
                continue
            acceptable = {text for start, text in line.tails() if start <= line.latest}
            if not acceptable.intersection(quarantined):
                raise Violation(
                    Kind.QUARANTINE,
                    f"{node} keeps {list(quarantined)} of {company}; acknowledged were {owed}",
                )


def _last(line: Line | None) -> str:
    if line is None:
        return "nothing"
    shown = [
        f"{entry.operation.number}{'' if entry.fate is Fate.SURE else '?'}" for entry in line.entries[-12:]
    ]
    return f"[{line.base.text()}] + {' '.join(shown) or 'nothing'}"
