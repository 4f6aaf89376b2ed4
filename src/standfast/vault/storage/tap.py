"""What of the vault's file is told to whoever keeps a history of it.

Invariant: a tap can have every change of a company's state, in the order in which it is read, from `Writing.recent`,
if it asks whenever it is told to; where the state became another one otherwise, it is told that. It never delays or
fails a write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from standfast.authstate.change import Change
from standfast.authstate.company import Company


@dataclass(frozen=True, slots=True)
class Recent:
    """What a company's batches `first` to `last` do together; `change` None: that is not known any more."""

    company: Company
    epoch: int
    first: int
    last: int
    change: Change | None


class Tap(Protocol):
    """Called on the event loop. Must be quick and must not raise, and leaves what it is given as it is."""

    def settling(self) -> None:
        """What was written since the last call is still known one by one, and may not be soon."""
        ...

    def replaced(self, company: Company) -> None:
        """The replica holds another state of the company, fetched from PostgreSQL; it is complete."""
        ...

    def claimed(self, company: Company, epoch: int) -> None:
        """The company is written under `epoch` from now on, what it holds being what it was."""
        ...

    def removed(self, company: Company, epoch: int, sequence: int) -> None:
        """The company's auth state was deleted, as its batch `sequence`."""
        ...

    def left(self, company: Company) -> None:
        """The vault holds the company no longer; somebody else may."""
        ...

    def rebuilt(self) -> None:
        """The file was damaged and replaced: nothing that was heard before is sure to be followed."""
        ...


class NoTap:
    """Hears everything and does nothing: for who wants to hear some of it."""

    def settling(self) -> None:
        pass

    def replaced(self, company: Company) -> None:
        pass

    def claimed(self, company: Company, epoch: int) -> None:
        pass

    def removed(self, company: Company, epoch: int, sequence: int) -> None:
        pass

    def left(self, company: Company) -> None:
        pass

    def rebuilt(self) -> None:
        pass


class Taps:
    """All who listen, each told in the order in which they came."""

    def __init__(self) -> None:
        self._all: tuple[Tap, ...] = ()

    def add(self, tap: Tap) -> None:
        self._all = (*self._all, tap)

    def remove(self, tap: Tap) -> None:
        self._all = tuple(one for one in self._all if one is not tap)

    def settling(self) -> None:
        for tap in self._all:
            tap.settling()

    def replaced(self, company: Company) -> None:
        for tap in self._all:
            tap.replaced(company)

    def claimed(self, company: Company, epoch: int) -> None:
        for tap in self._all:
            tap.claimed(company, epoch)

    def removed(self, company: Company, epoch: int, sequence: int) -> None:
        for tap in self._all:
            tap.removed(company, epoch, sequence)

    def left(self, company: Company) -> None:
        for tap in self._all:
            tap.left(company)

    def rebuilt(self) -> None:
        for tap in self._all:
            tap.rebuilt()
