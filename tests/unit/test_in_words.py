"""Times as people say them, and what the dictionary has on a word."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from schemas.errors import UsageError
from streams.dictionary import dictionary
from streams.in_words import meanings, moment
from tests.browser.shop import CONFIG

NOW = datetime(2026, 3, 2, 14, 30, tzinfo=timezone(timedelta(hours=1)))
TIMES = {
    "noon": "2026-03-02T12:00:00+01:00",
    " 14:29": "2026-03-02T14:29:00+01:00",
    "9:05": "2026-03-02T09:05:00+01:00",
    "15:00": "2026-03-01T15:00:00+01:00",  # the last one there was
    "today": "2026-03-02T00:00:00+01:00",
    "3h": "2026-03-02T11:30:00+01:00",
    "2d": "2026-02-28T14:30:00+01:00",
    "2026-03-02T12:00:00Z": "2026-03-02T12:00:00+00:00",
    "2026-03-02T12:00": "2026-03-02T12:00:00+01:00",
}


@pytest.mark.parametrize("said", TIMES)
def test_a_time_is_understood_as_people_say_it(said: str) -> None:
    assert moment(said, NOW) == datetime.fromisoformat(TIMES[said])


@pytest.mark.parametrize("said", ["", "soon", "25:00", "12:60", "2026-13-01", "3 h", "-1h", "99999999999d"])
def test_what_is_no_time_is_refused_with_examples(said: str) -> None:
    with pytest.raises(UsageError, match="no time; write noon, 14:30, 3h"):
        moment(said, NOW)


def test_a_word_is_explained_by_the_names_that_fit_best() -> None:
    words = dictionary(CONFIG)
    assert [(one.what, one.name) for one in meanings(words, "checkout", None).found[:1]] == [("stage", "checkout")]
    assert meanings(words, "Adds to cart", None).found[0].title == "Adds to cart"
    assert meanings(words, "CheckoutToPayLow", None).found[0].what == "alert"
    assert meanings(words, "users", None).found[0].what == "term"
    told = meanings(words, "rate", "signup")
    assert {one.funnel for one in told.found} <= {"signup", ""}
    assert len(told.found) <= 8
    with pytest.raises(UsageError, match="nothing on 'xyzzy'"):
        meanings(words, "xyzzy", None)
    with pytest.raises(UsageError, match="name what is to be explained"):
        meanings(words, "?!", None)
