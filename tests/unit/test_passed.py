"""How many users there were at each boundary is what marks say that move from bucket to bucket."""

from __future__ import annotations

import random

import pytest

from schemas.config import Config
from schemas.duration import MICROS, bucket_seconds
from streams.passed import PassedUsers, Reach
from streams.plan import Plan
from streams.retention import BUCKET_US, USERS
from streams.windows import FunnelCounts, cell

HOUR = 3600
BEGAN_US = 1_767_312_000 * MICROS
FUNNEL = {
    "name": "shop", "source": "web", "conversion_window": "10m", "windows": ["5m", "24h"],
    "stages": [{"name": "view", "event": "view"}, {"name": "pay", "event": "pay"}],
}  # fmt: skip
WINDOWS = [10, 300, HOUR, 2 * HOUR, 24 * HOUR]


def reaches(seed: int, hours: float, silence: tuple[float, float] = (0, 0)) -> list[Reach]:
    """Of people who come back, now and then in the same bucket, at a boundary, or at once."""
    luck, found, at = random.Random(seed), [], 0.0
    while (at := at + luck.choice([0, 1, 9.5, 40, 300])) < hours * HOUR:
        if not silence[0] * HOUR <= at < silence[1] * HOUR:
            found.append((f"u{luck.randrange(60)}", luck.randrange(2), BEGAN_US + round(at * MICROS)))
    return found


def marked(found: list[Reach], place: int, seconds: int, boundaries_us: range) -> list[int]:
    """By marks, boundary by boundary."""
    config = Config.model_validate({"sources": [{"name": "web", "topic": "clicks"}], "funnels": [FUNNEL]})
    counts, marks, told, taken = FunnelCounts(Plan(config, config.sources[0]).funnels[0]), {}, [], 0
    width, name, own = bucket_seconds(seconds), cell(USERS, place), [each for each in found if each[1] == place]
    for boundary_us in boundaries_us:
        while taken < len(own) and own[taken][2] < boundary_us:
            entity, _, at_us = own[taken]
            if entity in marks:
                counts.add(width, marks[entity], {name: -1})
            marks[entity] = at_us // (width * MICROS)
            counts.add(width, marks[entity], {name: 1})
            taken += 1
        told.append(counts.count(USERS, place, seconds, boundary_us - 1))
    return told


@pytest.mark.parametrize("seconds", WINDOWS)
@pytest.mark.parametrize("silence", [(0, 0), (2, 5)])
def test_users_at_each_boundary_of_stretches_are_those_of_marks(seconds: int, silence: tuple[float, float]) -> None:
    """Stretches of any length, from one boundary on, and one that begins long after the last."""
    found, luck = reaches(seconds, 8, silence), random.Random(3)
    passed = PassedUsers([(place, asked) for place in (0, 1) for asked in WINDOWS])
    first_us, taken = BEGAN_US + BUCKET_US, 0
    while first_us < BEGAN_US + 8 * HOUR * MICROS:
        last_us = first_us + luck.choice([0, 1, 7, 180, 360]) * BUCKET_US
        end = next((n for n, (*_, at_us) in enumerate(found) if at_us >= last_us), len(found))
        passed.follow(found[taken:end], first_us, last_us)
        taken = end
        boundaries_us = range(first_us, last_us + 1, BUCKET_US)
        for place in (0, 1):
            assert passed.users(place, seconds, boundaries_us) == marked(found, place, seconds, boundaries_us)
        first_us = last_us + luck.choice([1, 1, 30]) * BUCKET_US


def test_people_who_are_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.passed.FORGET_MIN", 50)
    passed = PassedUsers([(0, 60)])
    for hour in range(20):
        first_us = BEGAN_US + hour * HOUR * MICROS
        passed.follow([(f"u{hour}-{n}", 0, first_us + n) for n in range(20)], first_us + BUCKET_US, first_us + 10 * BUCKET_US)
        assert passed.users(0, 60, range(first_us + BUCKET_US, first_us + 2 * BUCKET_US, BUCKET_US)) == [20]
    assert len(passed._windows[0][60]._lasts) <= 100
