"""At steady traffic: false pages while all is well, and how long a fall goes on until the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import floor, inf

from alerting.detectors import Evidence, Run, evidence, fold, limit
from tests.alerts_study.chain import mean_time, one_bucket
from tests.alerts_study.contenders import SEQUENTIAL, WINDOWED, Contender, Naive, Ours
from tests.alerts_study.optimum import Optimum
from tests.alerts_study.traffic import BUCKET_SECONDS, DAY_BUCKETS, HEALTHY, THRESHOLD, Traffic

LEVELS = (2, 10, 50, 500)  # entrants a minute
RATES = (0.35, 0.32, 0.30, 0.27, 0.24, 0.20, 0.15, 0.0)
NAIVE, NAIVE_FOR, WINDOW, SEQUENCE, COLD = "rate < 0.30", "rate < 0.30 for 5m", "windowed", "sequential", "sequential, its first day"
SIMPLE = (NAIVE, NAIVE_FOR, WINDOW)
CONTENDERS = (*SIMPLE, COLD, SEQUENCE)
RUN_IN_ENTRANTS, RUN_IN_SECONDS = 500, 3600
GIVEN_UP_SECONDS = 7 * 86_400

Maker = Callable[[Traffic, float], Contender]


def maker(name: str) -> Maker:
    made: dict[str, Maker] = {
        NAIVE: lambda traffic, per_minute: Naive(),
        NAIVE_FOR: lambda traffic, per_minute: Naive(300),
        WINDOW: lambda traffic, per_minute: Ours(WINDOWED),
        COLD: lambda traffic, per_minute: Ours(SEQUENTIAL),
        SEQUENCE: lambda traffic, per_minute: Ours(SEQUENTIAL).with_history(traffic, per_minute),
    }
    return made[name]


@dataclass(frozen=True)
class Pages:
    """Pages while all was well."""

    name: str
    per_minute: float
    days: float
    pages: int


def false_pages(name: str, per_minute: float, days: float, seed: int) -> Pages:
    traffic = Traffic(("well", name, per_minute, seed))
    contender = maker(name)(traffic, per_minute)
    pages = 0
    for _ in range(round(days * DAY_BUCKETS)):
        pages += contender.bucket(*traffic.bucket(per_minute, HEALTHY))
    return Pages(name, per_minute, days, pages)


def false_pages_of_the_first_day(per_minute: float, days: int, seed: int) -> Pages:
    """Every day a rule that knows nothing yet."""
    found = [false_pages(COLD, per_minute, 1, seed * 1000 + day) for day in range(days)]
    return Pages(COLD, per_minute, days, sum(each.pages for each in found))


def mean_seconds(per_minute: float, rate: float) -> float:
    """The exact mean time to a page at a steady rate, where 0.35 is usual."""
    of, at = at_its_limit(per_minute)
    return mean_time(one_bucket(of, rate, per_minute * BUCKET_SECONDS / 60), at) * BUCKET_SECONDS


def at_its_limit(per_minute: float) -> tuple[Evidence, float]:
    of = evidence(THRESHOLD, SEQUENTIAL["effect"], rises=False, poisson=False)
    return of, limit(of, HEALTHY, per_minute * BUCKET_SECONDS / 60, BUCKET_SECONDS, 100 * 86_400)


def false_pages_of_the_detector(per_minute: float, days: float, seed: int) -> Pages:
    """Of the detector's own folding alone, at its limit for what is usual: quick, so of many days."""
    of, at = at_its_limit(per_minute)
    traffic, run, pages = Traffic(("detector", per_minute, seed)), Run(0), 0
    for _ in range(round(days * DAY_BUCKETS)):
        run = fold(of, run, BUCKET_SECONDS, (traffic.bucket(per_minute, HEALTHY),), inf)
        if run.score >= at:
            pages, run = pages + 1, Run(run.at_us)
    return Pages("detector", per_minute, days, pages)


@dataclass(frozen=True)
class Delays:
    """Seconds from the fall to the page, of one incident after the other; by contender."""

    per_minute: float
    of: dict[str, list[float]] = field(default_factory=dict)


OPTIMUM = "optimum"


def incident(traffic: Traffic, per_minute: float, contenders: dict[str, Contender]) -> dict[str, float]:
    """All see the same entrants, whose rate falls at 0 s, somewhere within a bucket."""
    before = max(RUN_IN_ENTRANTS / per_minute * 60, RUN_IN_SECONDS)
    phase = traffic.phase()
    start = -floor((before + phase) / BUCKET_SECONDS) * BUCKET_SECONDS - phase
    best = Optimum(per_minute)
    found: dict[str, float] = {}
    for converted, entered, end, own in _buckets(traffic.entrants(per_minute, start, 0.0), start, best):
        if own is not None and own > 0:
            found.setdefault(OPTIMUM, own)
        for name, contender in contenders.items():
            contender.bucket(converted, entered)
            if contender.firing and end > 0:
                found.setdefault(name, end)
        if len(found) > len(contenders) or end > GIVEN_UP_SECONDS:
            return found
    return found


def _buckets(entrants: Iterator[tuple[float, bool]], start: float, best: Optimum) -> Iterator[tuple[int, int, float, float | None]]:
    """Conversions and entrants of each bucket, its end, and when the optimum paged within it."""
    end, converted, entered, paged = start + BUCKET_SECONDS, 0, 0, None
    for moment, converts in entrants:
        while moment >= end:
            yield converted, entered, end, paged
            end, converted, entered, paged = end + BUCKET_SECONDS, 0, 0, None
        converted += converts
        entered += 1
        if best.entrant(converted=converts):
            paged = moment


def delays(per_minute: float, incidents: int, seed: int) -> Delays:
    """How long each contender takes; ours learned what is usual before."""
    found = Delays(per_minute, {name: [] for name in (OPTIMUM, *CONTENDERS)})
    for number in range(incidents):
        traffic = Traffic(("fall", per_minute, seed, number))
        contenders = {name: maker(name)(traffic, per_minute) for name in CONTENDERS}
        for name, seconds in incident(traffic, per_minute, contenders).items():
            found.of[name].append(seconds)
    return found
