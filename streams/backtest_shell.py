"""What `funnelwatch backtest` reads and prints: a file or a topic as history, incidents, tables and JSON objects."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alerting.backtest import Backtest
from alerting.course import Trial, Watch
from alerting.incidents import Incident, Score, check, parse
from alerting.tuning import Advice, Tried, Tuning
from schemas.config import Config
from schemas.errors import FunnelwatchError, UsageError
from schemas.event import iso
from schemas.report import Transition
from schemas.rule import Rule
from schemas.settings import RegistrySettings
from streams.brokers import Where, options_of
from streams.console import Row, number, progress_bar, ratio
from streams.files import EventFile
from streams.history import History, history_of
from streams.reading import reading_of

INCIDENTS_BYTES_MAX = 1_000_000
FETCH_MS = 1_000
SILENCE_SECONDS_MAX = 30.0  # of a broker that should have records
HEADERS = ("at", "rule", "of", "state", "rate", "threshold", "users")
SUMMARY_HEADERS = ("rule", "pages", "a week", "found", "missed", "median time to find", "outside")
TUNING_HEADERS = ("rule", "threshold", "asks for", "false pages a month", "at most (95%)", "missed", "time to find", "a fall is found in")


@dataclass(frozen=True)
class Topic:
    """A Kafka topic between two event times: from the first to before the second (µs)."""

    brokers: Where
    name: str
    from_us: int
    to_us: int
    registry: RegistrySettings


@contextmanager
def history(config: Config, where: EventFile | Topic, source: str | None, at_us: int | None) -> Iterator[History]:
    """The history to go through. Raises UsageError, FunnelwatchError."""
    with _of_topic(config, where, source) if isinstance(where, Topic) else _of_file(config, where, source, at_us) as found:
        if not len(found):
            reasons = ", ".join(f"{fate} {count:,}" for fate, count in sorted(found.fates.items()))
            raise UsageError(
                f"{where.name if isinstance(where, Topic) else where.path}: none of {found.consumed:,} records is an event that a funnel "
                f"looks at{f' ({reasons})' if reasons else ''}; see `fields` of the source, and the stages"
            )
        yield found


def _of_file(config: Config, events: EventFile, source: str | None, at_us: int | None) -> History:
    with progress_bar(f"reading {events.path.name}", events.size) as advance:
        return history_of(config, _told(events, advance), source, at_us=at_us)


def _told(events: EventFile, advance: Any) -> Iterator[bytes]:
    for record in events.records():
        yield record
        advance(lambda: events.position)


def _of_topic(config: Config, topic: Topic, source: str | None) -> History:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it logs we say in one line ourselves
    found = History(config, source, since_us=topic.from_us, at_us=topic.to_us - 1)
    with progress_bar(f"reading {topic.name}", 0) as advance:

        async def fill() -> None:
            reading = reading_of(found.source, topic.registry)
            async for records in _records(topic, found.source.max_skew.micros):
                found.add(await reading.all(records))
                advance(lambda: found.consumed)
            await reading.close()

        asyncio.run(fill())
    found.sort()
    return found


async def _records(topic: Topic, skew_us: int) -> AsyncIterator[list[Any]]:
    """All records that may be events of the span: nothing is produced long before it happens, but it may be any time later."""
    from aiokafka import AIOKafkaConsumer, TopicPartition
    from aiokafka.errors import KafkaError

    since_ms = max(0, topic.from_us - skew_us) // 1000
    options: dict[str, Any] = {"enable_auto_commit": False, "auto_offset_reset": "earliest"}
    try:
        tps = [TopicPartition(topic.name, partition) for partition in await _partitions(topic)]
        async with AIOKafkaConsumer(**options_of(topic.brokers), **options) as consumer:
            consumer.assign(tps)
            since = await consumer.offsets_for_times(dict.fromkeys(tps, since_ms))
            ends = await consumer.end_offsets(tps)
            for tp, first in since.items():
                consumer.seek(tp, ends[tp] if first is None else first.offset)
            async for records in _up_to(consumer, ends):
                yield records
    except (KafkaError, OSError, TimeoutError, asyncio.TimeoutError) as error:
        raise FunnelwatchError(
            f"Kafka at {topic.brokers} does not give the records of {topic.name} ({error!r}); start it, or name it with --brokers"
        ) from None


async def _up_to(consumer: Any, ends: dict[Any, int]) -> AsyncIterator[list[Any]]:
    """What is in the log now: to its end as reported, or as the first fetch shows it, since reports can trail. Raises TimeoutError."""
    left, heard, shown = set(ends), time.monotonic(), set[Any]()
    while left:
        found = await consumer.getmany(*left, timeout_ms=FETCH_MS)
        for tp in list(left):
            records = found.get(tp, [])
            if tp not in shown and (end := consumer.highwater(tp)) is not None:
                shown.add(tp)
                ends[tp] = max(ends[tp], end)
            if records:
                heard = time.monotonic()
                yield [record for record in records if tp not in shown or record.offset < ends[tp]]
            elif await consumer.position(tp) >= ends[tp]:
                left.discard(tp)
        if time.monotonic() - heard > SILENCE_SECONDS_MAX:
            raise TimeoutError(f"no records for {SILENCE_SECONDS_MAX:.0f} s, though the log goes on")


async def _partitions(topic: Topic) -> list[int]:
    from aiokafka.admin import AIOKafkaAdminClient

    admin = AIOKafkaAdminClient(**options_of(topic.brokers))
    await admin.start()
    try:
        names = await admin.list_topics()
        if topic.name not in names:
            raise UsageError(f"Kafka at {topic.brokers} has no topic {topic.name!r}; there are: {', '.join(sorted(names)[:20]) or 'none'}")
        (described,) = await admin.describe_topics([topic.name])
    finally:
        await admin.close()
    return sorted(partition["partition"] for partition in described["partitions"])


@contextmanager
def passes(label: str, found: History, count: int = 1) -> Iterator[Watch]:
    """A bar over so many passes through a history; what to yield every evaluation to."""
    first_us = found.at(0) or 0
    span_us = max(1, found.time_us - first_us)
    done, newest_us = 0, first_us
    with progress_bar(label, count * span_us) as advance:

        def watch(_: Trial, at_us: int) -> None:
            nonlocal done, newest_us
            if at_us < newest_us:
                done += span_us
            newest_us = at_us
            advance(lambda: done + newest_us - first_us)

        yield watch


def incidents_of(path: Path, configs: Sequence[Config]) -> tuple[Incident, ...]:
    """A file of labelled incidents. Raises UsageError."""
    try:
        if path.stat().st_size > INCIDENTS_BYTES_MAX:
            raise UsageError(f"{path}: is over {INCIDENTS_BYTES_MAX:,} bytes long; is this a list of incidents?")
        text = path.read_text("utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); name a readable YAML or CSV file") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    found = parse(text, str(path))
    if not found:
        raise UsageError(f"{path}: holds no incident; write `- {{from: TIME, to: TIME}}`, one a line")
    for config in configs:
        check(found, config, str(path))
    return found


# Transitions


def row(told: Transition) -> Row:
    """A transition under HEADERS."""
    of = "" if told.dimension is None else f"{told.dimension} = {told.value}"
    parts = f"{number(told.numerator)} of {number(round(told.denominator, 2))}"
    return iso_text(told), told.rule, of, told.state, ratio(told.rate), ratio(told.threshold), parts


def iso_text(told: Transition) -> str:
    return f"{told.at:%Y-%m-%d %H:%M:%S}"


def line(told: Transition) -> dict[str, Any]:
    """A transition as one JSON line."""
    return told.model_dump(mode="json")


def passed(run: Backtest, seconds: float) -> str:
    """What was gone through, in one line."""
    found, fates = run.history, run.history.fates
    rejected = sum(count for fate, count in fates.items() if fate.startswith("rejected"))
    left = [
        f"{count:,} {what}"
        for what, count in (("filtered", fates.get("filtered", 0)), ("late", fates.get("late", 0)), ("rejected", rejected))
    ]
    when = f"{iso(run.first_us)} to {iso(run.last_us)}" if run.boundaries else "no boundary"
    rules = len(run.trials)
    return f"{found.consumed:,} records ({', '.join(left)}); {rules} rule{'s' * (rules != 1)} at {run.boundaries:,} boundaries, {when}, in {seconds:.1f} s"


def warnings(found: History) -> Iterator[str]:
    """What may make the history another than it was."""
    late = found.fates.get("late", 0)
    if late > found.consumed / 100:
        yield (
            f"{late:,} of {found.consumed:,} records are late: in the order of arrival they come more than {found.source.allowed_lateness} after "
            "a newer event of their entity, and are left out as the worker leaves them out; sort the file by time if that is not how they came"
        )


# Summary


@dataclass(frozen=True)
class Variant:
    """A rule of a config, and how it did."""

    config: str  # empty where there is only one
    rule: Rule
    score: Score

    @property
    def name(self) -> str:
        return f"{self.config}: {self.rule.name}" if self.config else self.rule.name


def summary_rows(variants: Sequence[Variant], *, labelled: bool) -> Iterator[Row]:
    for variant in variants:
        done = variant.score
        per_week = "–" if done.pages_per_week is None else f"{done.pages_per_week:,.2f}"
        measured = (
            (str(len(done.delays)), str(done.missed), lasting(done.median_delay_seconds), str(done.outside)) if labelled else ("–",) * 4
        )
        yield (variant.name, str(done.pages), per_week, *measured)


def summary_object(variants: Sequence[Variant], run: Backtest, *, labelled: bool) -> dict[str, Any]:
    """What `backtest --summary --json` prints; what needs labels is null without them."""
    return {
        "from": iso(run.first_us) if run.boundaries else None,
        "to": iso(run.last_us) if run.boundaries else None,
        "weeks": round(run.judged_us / (7 * 86_400_000_000), 4),
        "variants": [
            {
                "config": variant.config or None,
                "rule": variant.rule.name,
                "funnel": variant.rule.funnel,
                "stage": variant.rule.stage,
                "pages": variant.score.pages,
                "pages_per_week": _rounded(variant.score.pages_per_week),
                **_labelled(variant.score, labelled=labelled),
            }
            for variant in variants
        ],
    }


def _labelled(done: Score, *, labelled: bool) -> dict[str, Any]:
    if not labelled:
        return dict.fromkeys(("incidents", "found", "missed", "median_time_to_detect_seconds", "pages_outside"))
    return {
        "incidents": done.incidents,
        "found": len(done.delays),
        "missed": done.missed,
        "median_time_to_detect_seconds": done.median_delay_seconds,
        "pages_outside": done.outside,
    }


def _rounded(amount: float | None) -> float | None:
    return None if amount is None else round(amount, 3)


def lasting(seconds: float | None) -> str:
    """A time as a person reads it: 45s, 12m, 1h 30m, 2d 3h."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    parts = [(whole // 86_400, "d"), (whole % 86_400 // 3600, "h"), (whole % 3600 // 60, "m"), (whole % 60, "s")]
    shown = [f"{amount}{unit}" for amount, unit in parts if amount][:2]
    return " ".join(shown) or "0s"


# Tuning


def tuning_lines(found: Tuning) -> Iterator[str]:
    """What is suggested, in words."""
    yield f"{iso(found.first_us)} to {iso(found.last_us)} ({found.judged_us / 86_400_000_000:.1f} days without long silences), {found.variants} variants, looked at every {lasting(found.stride_seconds)}, the best at every boundary."
    if found.note:
        yield f"Too short a history: {found.note}."
    for advice in found.advice:
        yield _suggestion(advice, found.wanted.pages_per_month)


def _suggestion(advice: Advice, wanted: float) -> str:
    name = advice.now.rule.name
    if advice.rate is None:
        return f"{name}: never had min_entrants ({advice.now.rule.min_entrants}) to judge by; widen its window (widen_to), or lower min_entrants."
    usual = f"usually {ratio(advice.rate)} of {advice.per_minute:,.2f} entrants a minute"
    best = advice.suggested
    if best is None:
        return f"{name} ({usual}): nothing that was tried pages {wanted:g} times a month or less; the quietest is in the table."
    if _settings(best.rule) == _settings(advice.now.rule):
        return f"{name} ({usual}): leave it as it is."
    finds = "would not find" if best.delay_seconds is None else f"finds in about {lasting(best.delay_seconds)}"
    change = "rise" if best.rule.rises else "fall"
    return f"{name} ({usual}): write {_written(best.rule)}; it {finds} a {change} by {ratio(advice.fall)} of the rate."


def _settings(rule: Rule) -> dict[str, Any]:
    if rule.detector == "sequential":
        said: dict[str, Any] = {"effect": rule.effect, "run_length": str(rule.run_length)}
    else:
        said = {"for": str(rule.for_), "window": str(rule.window)}
    if rule.drop is not None:
        return {"drop": rule.drop.by, **said}
    return said if rule.fixed is None else {"above" if rule.rises else "below": rule.fixed, **said}


def _written(rule: Rule) -> str:
    return ", ".join(f"{'drop by' if key == 'drop' else key}: {value}" for key, value in _settings(rule).items())


def tuning_rows(found: Tuning) -> Iterator[Row]:
    """For each rule: as it is, the suggestion, and what else is worth a choice, from the quietest to the quickest."""
    for advice in found.advice:
        yield _tuning_row(f"{advice.now.rule.name}, as it is", advice.now)
        for tried in advice.choices:
            if tried is not advice.now:
                yield _tuning_row("  suggested" if tried is advice.suggested else "  or", tried)
        if advice.suggested is not None and advice.suggested not in advice.choices:
            yield _tuning_row("  suggested", advice.suggested)


def _tuning_row(name: str, tried: Tried) -> Row:
    done, settings = tried.score, _settings(tried.rule)
    threshold = next((str(settings.pop(key)) for key in ("below", "above", "drop") if key in settings), "target")
    asks = ", ".join(f"{key} {value}" for key, value in settings.items())
    missed = f"{done.missed} of {done.incidents}" if done.incidents else "–"
    figures = f"{tried.false_per_month:,.1f}", f"{tried.false_per_month_high:,.1f}"
    return name, threshold, asks, *figures, missed, lasting(done.median_delay_seconds), lasting(tried.delay_seconds)


def tuning_object(found: Tuning) -> dict[str, Any]:
    """What `backtest --tune --json` prints."""
    return {
        "from": iso(found.first_us),
        "to": iso(found.last_us),
        "days": round(found.judged_us / 86_400_000_000, 3),
        "wanted_pages_per_month": found.wanted.pages_per_month,
        "enough": not found.note,
        "note": found.note or None,
        "variants": found.variants,
        "rules": [
            {
                "rule": advice.now.rule.name,
                "usual_rate": _rounded(advice.rate),
                "entrants_per_minute": _rounded(advice.per_minute),
                "fall": advice.fall,
                "now": _tried_object(advice.now),
                "suggested": None if advice.suggested is None else _tried_object(advice.suggested),
                "choices": [_tried_object(tried) for tried in advice.choices],
            }
            for advice in found.advice
        ],
    }


def _tried_object(tried: Tried) -> dict[str, Any]:
    return {
        **_settings(tried.rule),
        "pages": tried.score.pages,
        "pages_outside": tried.score.outside,
        "pages_per_month": _rounded(tried.false_per_month),
        "pages_per_month_at_most": _rounded(tried.false_per_month_high),
        "incidents": tried.score.incidents,
        "missed": tried.score.missed,
        "median_time_to_detect_seconds": tried.score.median_delay_seconds,
        "fall_found_in_seconds": tried.delay_seconds,
    }
