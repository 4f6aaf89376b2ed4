"""Counting rows in what pg_restore writes."""

from __future__ import annotations

import io
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standfast.errors import BackupDamaged
from standfast.jobs.backup.row_count import RowCount
from standfast.jobs.backup.validate import wrong_counts

SCRIPT = b"""--
-- Data for Name: whatsapp_keys
--
SET statement_timeout = 0;

COPY bot.whatsapp_keys (company_id, value) FROM stdin;
acme\tCOPY whatsapp_auth (x) FROM stdin;
acme\t\\\\.
acme\t
\\.


COPY public.empty (x) FROM stdin;
\\.

COPY "a ""quoted"" schema"."a.b" (x) FROM stdin;
1
\\.

SELECT pg_catalog.setval('x', 1);
"""
COUNTS = {"whatsapp_keys": 3, "empty": 0, "a.b": 1}


@given(st.lists(st.integers(0, len(SCRIPT)), max_size=30))
def test_rows_are_counted_however_the_pieces_are_cut(cuts: list[int]) -> None:
    """Values that look like the end of a table, or the beginning of one, count as what they are."""
    counted = RowCount(kept=frozenset({"a.b"}))
    places = [0, *sorted(cuts), len(SCRIPT)]
    for begin, end in itertools.pairwise(places):
        counted.take(SCRIPT[begin:end])
    assert counted.rows == COUNTS
    assert counted.texts["a.b"].strip() == b"1"


def test_a_table_that_is_cut_off_is_damage() -> None:
    """A count of what is there would look like one of what was written."""
    with pytest.raises(BackupDamaged, match="whatsapp_keys"):
        RowCount().read(io.BytesIO(SCRIPT[: SCRIPT.index(b"\\.\n")]))


def test_rows_of_a_partitioned_table_are_counted_by_their_sum() -> None:
    """They stand under the names of its parts."""
    expected = {"whatsapp_auth": 2, "whatsapp_keys": 5}
    assert wrong_counts(expected, {"whatsapp_auth": 2, "keys_1": 3, "keys_2": 2}) == []
    assert wrong_counts(expected, {"whatsapp_auth": 1, "keys_1": 3, "keys_2": 1}) == [
        "whatsapp_auth has 1 rows instead of 2",
        "whatsapp_keys have 4 rows instead of 5",
    ]
    assert wrong_counts(expected, {"whatsapp_auth": 2, "whatsapp_keys": 5}) == []
