"""What else happens to a sequential rule in a year: days and nights, a slow drift, a silence, a lag, a fall in one device."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi
from statistics import median

from tests.alerts_study.contenders import SEQUENTIAL, WINDOWED, Naive, Ours
from tests.alerts_study.traffic import BROKEN, BUCKET_SECONDS, DAY_BUCKETS, HEALTHY, Traffic

PER_MINUTE = 10
HOUR_BUCKETS = 360
LAG_BUCKETS = 60  # 10 minutes
DEVICES = 5


@dataclass(frozen=True)
class Told:
    """What came of it, as a row of a table."""

    what: str
    days: float
    naive: int  # false pages
    windowed: int
    sequential: int
    delays: tuple[float, ...] = ()  # seconds from the falls there were to the sequential rule's page
    note: str = ""

    @property
    def minutes(self) -> float | None:
        return median(self.delays) / 60 if self.delays else None


class _Three:
    def __init__(self, traffic: Traffic, per_minute: float = PER_MINUTE, rate: float = HEALTHY) -> None:
        self.naive, self.windowed = Naive(300), Ours(WINDOWED)
        self.sequential = Ours(SEQUENTIAL).with_history(traffic, per_minute, rate)
        self.pages = [0, 0, 0]

    def bucket(self, converted: int, entered: int) -> None:
        for place, contender in enumerate((self.naive, self.windowed, self.sequential)):
            self.pages[place] += contender.bucket(converted, entered)


def days_and_nights(days: int, seed: int) -> Told:
    """Traffic swings between 2 and 50 a minute, the rate between 0.33 by night and 0.39 by day."""
    traffic = Traffic(("day", seed))
    three = _Three(traffic, 18, 0.36)
    for place in range(days * DAY_BUCKETS):
        day = (1 - cos(2 * pi * (place // 60 * 60) / DAY_BUCKETS)) / 2
        three.bucket(*traffic.bucket(round(2 * 25**day, 2), round(0.33 + 0.06 * day, 4)))
    return Told("days and nights: 2 to 50 a minute, 0.33 to 0.39", days, *three.pages)


def drift(seed: int, days: int = 60) -> Told:
    """From 0.40 down to 0.31 in two months, which is no reason to page; then on, at the same pace, to the page."""
    traffic = Traffic(("drift", seed))
    three = _Three(traffic, PER_MINUTE, 0.40)
    pace = 0.09 / days / DAY_BUCKETS
    place = 0
    while place < days * DAY_BUCKETS:
        three.bucket(*traffic.bucket(PER_MINUTE, round(0.40 - pace * place, 4)))
        place += 1
    well = list(three.pages)
    while not three.sequential.firing:
        three.bucket(*traffic.bucket(PER_MINUTE, round(0.40 - pace * place, 4)))
        place += 1
    return Told(f"a drift from 0.40 to 0.31 in {days} days", days, *well, note=f"going on, it pages at {0.40 - pace * place:.2f}")


def silence(days: int, seed: int) -> Told:
    """Every day the source brings nothing for an hour, while the funnel's time goes on."""
    traffic = Traffic(("silence", seed))
    three = _Three(traffic)
    for place in range(days * DAY_BUCKETS):
        quiet = place % DAY_BUCKETS < HOUR_BUCKETS
        three.bucket(*((0, 0) if quiet else traffic.bucket(PER_MINUTE, HEALTHY)))
    return Told("an hour of nothing every day", days, *three.pages)


def lag(days: int, seed: int) -> Told:
    """Every six hours counting is 10 minutes behind: no rule is judged, then all is there at once.

    The naive rule, outside, sees no new counts and then many. Every other lag hides a fall, half way through.
    """
    traffic = Traffic(("lag", seed))
    naive, windowed, sequential = Naive(300), Ours(WINDOWED), Ours(SEQUENTIAL).with_history(traffic, PER_MINUTE)
    pages, delays = [0, 0, 0], []
    for turn in range(days * 4):
        fallen = turn % 2 == 1
        for place in range(6 * HOUR_BUCKETS):
            lagging = place < LAG_BUCKETS
            broken = fallen and LAG_BUCKETS // 2 <= place < LAG_BUCKETS + HOUR_BUCKETS
            bucket = traffic.bucket(PER_MINUTE, BROKEN if broken else HEALTHY)
            calm = not fallen or not LAG_BUCKETS // 2 <= place < 4 * HOUR_BUCKETS
            told = sequential.bucket(*bucket, judged=not lagging)
            if told and broken:
                delays.append(float((place + 1 - LAG_BUCKETS // 2) * BUCKET_SECONDS))
            pages[2] += told and calm
            pages[1] += windowed.bucket(*bucket, judged=not lagging) and calm
            pages[0] += naive.bucket(*((0, 0) if lagging else bucket)) and calm
    return Told("10 minutes of lag every six hours, half of them hiding a fall for an hour", days, *pages, tuple(delays))


def one_device(incidents: int, seed: int) -> Told:
    """`by: [device]` of five alike; one falls to 0.15, which takes the total to 0.31."""
    delays: list[float] = []
    pages = [0, 0, 0]
    buckets = 0
    for number in range(incidents):
        traffic = Traffic(("device", seed, number))
        share = PER_MINUTE / DEVICES
        devices = [Ours(SEQUENTIAL).with_history(traffic, share) for _ in range(DEVICES)]
        windowed = [Ours(WINDOWED) for _ in range(DEVICES)]
        naive = [Naive(300) for _ in range(DEVICES)]
        total = Ours(SEQUENTIAL).with_history(traffic, PER_MINUTE)
        for place in range(10 * HOUR_BUCKETS):
            broken = place >= 4 * HOUR_BUCKETS
            counts = [traffic.bucket(share, BROKEN if broken and device == 0 else HEALTHY) for device in range(DEVICES)]
            buckets += 1
            for device, count in enumerate(counts):
                well = not (broken and device == 0)
                pages[0] += naive[device].bucket(*count) and well
                pages[1] += windowed[device].bucket(*count) and well
                fired = devices[device].bucket(*count)
                pages[2] += fired and well
                if fired and not well:
                    delays.append(float((place + 1 - 4 * HOUR_BUCKETS) * BUCKET_SECONDS))
            pages[2] += total.bucket(sum(k for k, _ in counts), sum(n for _, n in counts))
            if devices[0].firing and broken:
                break
    note = f"found in {len(delays)} of {incidents}; pages of the four others and of the total"
    return Told("one device of five at 2 a minute falls", round(buckets / DAY_BUCKETS, 1), *pages, tuple(delays), note)
