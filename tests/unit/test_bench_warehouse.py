"""What is said of asking a warehouse again: where it is equal, where it differs, and where it is the cheaper one."""

from __future__ import annotations

from schemas.config import Config
from tests.bench.contenders import config
from tests.bench.warehouse import WINDOWS_SECONDS, Asked, Counted, agreement, break_even
from tests.bench.with_chdb import CONVERSION_MS, EVENTS, question
from tests.bench.workload import CONVERSION_MS as SAME_MS
from tests.bench.workload import EVENTS as SAME_EVENTS

COUNTS = {("u", 0, None): 5, ("u", 0, "ads"): 3, ("u", 0, "email"): 2, ("n", 0, None): 7}
ANSWER = [(604_800, 0, "", 5), (604_800, 0, "ads", 3), (604_800, 0, "email", 2), (60, 0, "", 1)]


def test_the_question_is_about_the_funnel_of_the_bench() -> None:
    """It runs where our modules are not, so it has its own constants."""
    assert (EVENTS, CONVERSION_MS) == (SAME_EVENTS, SAME_MS)
    (funnel,) = Config.model_validate(config("clicks")).funnels
    assert tuple(map(int, funnel.windows)) == WINDOWS_SECONDS


def test_the_question_reads_no_more_than_the_longest_window() -> None:
    assert "WHERE at_ms > 40000" in question("clicks.parquet", 100_000, [10, 60])


def test_equal_numbers_are_said_to_be_equal() -> None:
    assert "users of every stage are equal to the recount. By channel 0 of 2 numbers differ" in agreement(ANSWER, COUNTS)


def test_numbers_that_differ_are_counted() -> None:
    other = [(604_800, 0, "", 6), (604_800, 0, "ads", 6)]
    assert "users of every stage DIFFER in 1 stages. By channel 2 of 2 numbers differ, by 3 people at most" in agreement(other, COUNTS)


def test_where_the_warehouse_is_cheaper_is_said() -> None:
    small, large = Asked(1000, 2.0, 0.1, 0.05, 0.05), Asked(9000, 18.0, 0.9, 1.0, 1.0)
    slow, fast = Counted(500, 0.01, 0.01), Counted(20_000, 0.1, 0.1)
    said = list(break_even([small, large], [slow, fast]))
    assert any(line.startswith("| 1,000") and "2.5 s" in line and "0.2 s" in line for line in said)
    assert said[-1] == "Asked once a second, the warehouse is the cheaper one here: 1,000 rows at 20,000 events/s."
    assert said[-2] == "How long it takes until there are 9,000 rows: 0.0 h at 500 events/s, 0.0 h at 20,000 events/s."
    assert said[:-1] == list(break_even([small, large], [slow, fast]))[:-1]
    assert list(break_even([large], [slow]))[-1] == "Asked once a second, the warehouse is dearer in all of these cases."
