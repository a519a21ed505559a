"""Whose states the bench weighs: the bench's mix, or everybody once as far as one stage."""

from __future__ import annotations

import json
from collections import Counter

from tests.bench.memory import CASES, PEOPLE, PROPERTIES, Case, _shard, _traffic, _value


def test_a_single_walk_leads_everybody_as_far_as_its_last_stage() -> None:
    stages: dict[str, list[int]] = {}
    for click in _traffic(Case("", walk=3)):
        stages.setdefault(click.entity, []).append(click.stage)
    assert Counter(map(tuple, stages.values())) == {(0, 1, 2): PEOPLE}


def test_in_the_mix_nearly_everybody_comes() -> None:
    assert len({click.entity for click in _traffic(Case(""))}) > 0.99 * PEOPLE


def test_a_record_has_every_property_that_a_dimension_asks_for() -> None:
    properties = json.loads(_value(next(_traffic(Case("")))))["properties"]
    assert properties.keys() >= {"channel", *PROPERTIES}


def test_funnels_that_are_counted_together_are_definitions_of_their_own() -> None:
    for case in CASES:
        funnels = _shard(case).plan.funnels
        assert len({funnel.definition for funnel in funnels}) == case.funnels
        assert {len(funnel.dimensions) for funnel in funnels} == {case.dimensions}
