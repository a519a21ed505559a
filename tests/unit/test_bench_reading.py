"""What `--read` says of what it measured."""

from __future__ import annotations

import json
from itertools import islice

from schemas.config import Config
from tests.bench.readers import Load
from tests.bench.reading import Span, claims, many, slowed, visits


def span(rate: float, cpu: float = 10.0, **took_ms: list[float]) -> Span:
    return Span(rate, cpu, {"took_ms": took_ms, "delays_ms": []})


def test_a_span_with_readers_is_compared_with_those_around_it() -> None:
    spans = [("", span(100)), ("r", span(88, 11, funnel=[3.0])), ("", span(80)), ("p", span(81)), ("", span(82))]
    said = list(slowed("r", spans))
    assert "r: 2.2% slower" in said[0]
    assert "10.0% more CPU an event" in said[1]
    assert "- claim: by at most 3%: held" in said[2]
    assert any(line.startswith("| funnel |") and "3.0" in line for line in said)


def test_a_claim_that_does_not_hold_is_said() -> None:
    said = list(claims({"funnel": [19.0] * 98 + [30.0] * 2, "scrape": [90.0], "tick to client": [500.0]}))
    assert said == [
        "- claim: p99 of funnel under 20 ms: 30.0 ms, NOT HELD",
        "- claim: p99 of scrape under 100 ms: 90.0 ms, held",
    ]


def test_every_visit_is_in_a_funnel_of_the_config_and_times_ascend() -> None:
    config = many("visits")
    assert Config.model_validate(config)
    events = {stage["event"] for funnel in config["funnels"] for stage in funnel["stages"]}
    found = list(islice(visits(), 2000))
    assert {json.loads(visit.value())["event"] for visit in found} <= events
    assert [visit.at_ms for visit in found] == sorted(visit.at_ms for visit in found)
    assert len({visit.channel.partition("/")[0] for visit in found}) == 100


def test_a_load_goes_to_another_process_as_it_is() -> None:
    load = Load(1.5, requests=10, clients=3, funnels=("a",), windows=("5m",), by="channel")
    sent = json.loads(load.text())
    assert (sent["seconds"], sent["clients"], sent["funnels"]) == (1.5, 3, ["a"])
