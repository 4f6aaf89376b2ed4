"""Where batches lie in the journal's table: against a plain list, and positions that are written to again."""

from __future__ import annotations

import random

import pytest

from standfast.vault.storage import rows, slots
from standfast.vault.storage.rows import Entry, Rows
from standfast.vault.storage.slots import Slots


def _same(found: Rows, model: list[Entry]) -> None:
    assert len(found) == len(model)
    assert found.size == sum(entry.size for entry in model)
    assert found.since == (model[0].at if model else None)
    assert found.last == (model[-1].last if model else 0)


@pytest.mark.parametrize("seed", range(5))
def test_rows_are_what_a_list_of_them_would_be(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Added at the end, dropped at the front, merged anywhere; also once the columns were shifted."""
    monkeypatch.setattr(rows, "_SHIFT_AT", 8)
    chance, found, last = random.Random(seed), Rows(), 0
    model: list[Entry] = []
    for position in range(400):
        last += chance.choice((1, 1, 3))
        entry = Entry(position, last, chance.randrange(1, 99), float(position))
        found.add(entry)
        model.append(entry)
        if chance.random() < 0.3:
            upto = chance.randrange(last + 2)
            oldest = found.oldest(upto, 4)
            assert oldest == [each for each in model if each.last <= upto][:4]
            found.drop(len(oldest))
            del model[: len(oldest)]
        if chance.random() < 0.1 and len(model) > 3:
            begin, end = model[0].last, model[-2].last
            merged = Entry(1_000 + position, end, 7, model[1].at)
            replaced = found.merge(merged, begin)
            assert replaced == model[1:-1]
            model[1:-1] = [merged]
        after = chance.randrange(last + 2)
        assert list(found.behind(after)) == [each.position for each in model if each.last > after]
        _same(found, model)


def test_a_position_is_given_out_once_until_it_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """New ones are above all there ever were; few small rows are kept, the others are to be deleted."""
    monkeypatch.setattr(slots, "KEPT", 2)
    found = Slots(highest=10)
    taken = [found.take() for _ in range(5)]
    assert taken == [11, 12, 13, 14, 15]
    found.give([Entry(11, 1, 100, 0.0), Entry(12, 2, 10**6, 0.0), Entry(13, 3, 1, 0.0), Entry(14, 4, 1, 0.0)])
    assert (found.has_garbage, found.garbage(9), found.garbage(1)) == (True, [12, 14], [12])
    found.deleted(2)
    assert not found.has_garbage
    assert sorted(found.take() for _ in range(3)) == [11, 13, 16]
