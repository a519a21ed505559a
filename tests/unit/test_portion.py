"""How large a chunk may be, by how long the ledger was at the ones before."""

from __future__ import annotations

import pytest

from streams.portion import FACTOR_MOST, RECORDS_FIRST, RECORDS_LEAST, RECORDS_MOST, SECONDS_MAX, Portion


def grown(portion: Portion, seconds_a_record: float, chunks: int = 50) -> int:
    """What it has come to after so many chunks, each as large as it may be."""
    for _ in range(chunks):
        portion.took(portion.records, portion.records * seconds_a_record)
    return portion.records


@pytest.mark.parametrize("microseconds", [20, 200, 2000])
def test_chunks_come_to_a_size_that_takes_no_longer_than_it_should(microseconds: float) -> None:
    each = microseconds / 1e6
    assert SECONDS_MAX / 2 <= grown(Portion(), each) * each <= SECONDS_MAX


def test_records_that_cost_nearly_nothing_come_in_chunks_that_memory_bounds() -> None:
    assert grown(Portion(), 1e-9) == RECORDS_MOST


def test_records_that_cost_ever_so_much_still_come_some_at_a_time() -> None:
    assert grown(Portion(), 1.0) == RECORDS_LEAST


def test_a_pause_shrinks_them_by_a_factor_and_no_further() -> None:
    portion = Portion()
    portion.took(RECORDS_FIRST, 3600)
    assert portion.records == RECORDS_FIRST // FACTOR_MOST


def test_a_rest_of_few_records_says_nothing_of_whole_chunks() -> None:
    portion = Portion()
    for seconds in (0.0, 2 * SECONDS_MAX):
        portion.took(RECORDS_FIRST // 2 - 1, seconds)
    assert portion.records == RECORDS_FIRST


def test_a_chunk_that_was_cut_before_it_shrank_does_not_make_it_grow() -> None:
    portion = Portion()
    portion.took(RECORDS_FIRST, 4 * SECONDS_MAX)
    less = portion.records
    portion.took(RECORDS_FIRST, 1.1 * SECONDS_MAX)
    assert portion.records == less
