"""The dictionary says what a config counts, correctly for each order, in both languages, and as Markdown that stays text."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.config import Config, load, parse
from schemas.dictionary import Dictionary, FunnelEntry
from schemas.report import Adjusted, AlertState, FunnelReport, StageReport
from streams.dictionary import dictionary, terms
from streams.dictionary_markdown import escaped, markdown
from streams.dictionary_terms import TERMS
from streams.dictionary_texts import TEXTS
from streams.dictionary_words import Words
from streams.plan import Plan

REFERENCE = Path(__file__).parents[2] / "deploy" / "reference.yaml"


def config(order: str = "ordered", **funnel: Any) -> Config:
    stages = [
        {"name": "view", "title": "Product page", "event": "product_view"},
        {"name": "cart", "event": ["add", "quick_add"], "where": {"properties.list": "shop", "properties.amount": {">": 0, "<=": 50}}},
        {"name": "pay", "event": "purchase", "value": "properties.amount", "target": 0.7, "benchmark": 0.62},
    ]
    whole = {
        "sources": [{"name": "web", "topic": "clicks", "fields": {"user_id": "context.user"}}],
        "funnels": [
            {
                "name": "purchase", "title": "Browse to order", "description": "To a paid order.", "owner": "shop team", "source": "web",
                "order": order, "conversion_window": "30m", "windows": ["1h", "1m", "24h"], "stages": stages, **funnel,
            }
        ],
        "alerts": [
            {"name": "PayLow", "funnel": "purchase", "stage": "pay", "basis": "users", "window": "5m", "below": 0.4, "for": "2m", "recover_above": 0.45}
        ],
    }  # fmt: skip
    return parse(yaml.safe_dump(whole, sort_keys=False))


def funnel(order: str = "ordered", **parts: Any) -> FunnelEntry:
    (found,) = dictionary(config(order, **parts)).funnels
    return found


def alert(**parts: Any) -> str:
    """All that is said of a rule over the step into pay."""
    raw = config().model_dump(mode="json", by_alias=True, exclude={"channels", "pipeline"}, exclude_none=True)
    rule = {"name": "r", "funnel": "purchase", "stage": "pay", "window": "5m", **parts}
    (entry,) = dictionary(parse(yaml.safe_dump(raw | {"alerts": [rule]}))).funnels[0].alerts
    return "\n".join((entry.meaning, *entry.counted))


# What is told of whom


def test_a_funnel_has_its_name_title_description_owner_and_what_it_asks() -> None:
    found = funnel()
    assert (found.name, found.title, found.description, found.owner) == ("purchase", "Browse to order", "To a paid order.", "shop team")
    assert found.meaning == "How many of those at ‘Product page’ go on, stage by stage, to “pay” within 30 minutes of their beginning."


def test_stages_steps_dimensions_and_rules_stand_below_their_funnel_in_its_order() -> None:
    found = funnel(dimensions={"channel": "properties.channel"})
    assert [stage.name for stage in found.stages] == ["view", "cart", "pay"]
    assert [(step.from_stage, step.stage, step.alerts) for step in found.steps] == [("view", "cart", ()), ("cart", "pay", ("PayLow",))]
    assert [dimension.name for dimension in found.dimensions] == ["channel"]
    assert [rule.name for rule in found.alerts] == ["PayLow"]


def test_target_and_benchmark_are_of_the_step_into_the_stage() -> None:
    found = funnel()
    assert [(step.target, step.benchmark) for step in found.steps] == [(None, None), (0.7, 0.62)]
    assert all(stage.target is None for stage in found.stages)


def test_everything_in_a_funnel_has_its_owner() -> None:
    found = funnel(dimensions={"channel": "properties.channel"})
    assert {one.owner for one in (*found.stages, *found.steps, *found.dimensions, *found.alerts)} == {"shop team"}


def test_the_definition_is_the_one_that_the_counts_belong_to() -> None:
    loaded = config()
    (plan,) = Plan(loaded, loaded.sources[0]).funnels
    assert dictionary(loaded).funnels[0].definition == plan.definition


def test_an_entity_is_told_by_the_fields_of_the_source() -> None:
    assert funnel().counted[0] == (
        "What is counted are entities of the source “web”, each told by “context.user”, or by “anonymous_id” where that is absent."
    )


def test_every_condition_is_worded() -> None:
    assert funnel().stages[1].counted[0] == (
        "It is matched by one of the events “add” and “quick_add” (where “properties.list” is “shop”, “properties.amount” is over 0 and "
        "“properties.amount” is 50 or less)."
    )


def test_windows_are_told_with_the_width_of_their_buckets() -> None:
    (said,) = [sentence for sentence in funnel().counted if sentence.startswith("Windows")]
    assert said.startswith("Windows: 1 minute and 1 hour in buckets of 10 seconds; 24 hours in buckets of 1 minute.")


def test_an_entry_is_finished_after_conversion_window_and_allowed_lateness() -> None:
    assert "finished (mature) 31 minutes after its bucket of opening ends" in "\n".join(funnel().counted)


# The three orders


def test_ordered_needs_a_chain_at_the_stage_before_and_lets_other_events_be() -> None:
    found = funnel("ordered")
    assert "Other events in between do not matter." in found.counted[2]
    assert "exactly 30 minutes included" in found.counted[2]
    assert (
        found.stages[2].counted[1]
        == "Such an event reaches it when the newest chain that got to “cart” began no more than 30 minutes earlier."
    )


def test_strict_says_that_any_other_event_ends_the_chains() -> None:
    found = funnel("strict")
    assert found.meaning.endswith("and with nothing else in between, to “pay” within 30 minutes of their beginning.")
    assert "Any other event of the entity, one that no stage names too, ends the chains" in found.counted[2]
    assert "no event of the entity that does not match “cart” came since" in found.stages[2].counted[1]


def test_any_says_that_the_order_does_not_matter_and_that_the_first_stage_needs_an_event_of_its_own() -> None:
    found = funnel("any", dimensions={"channel": "properties.channel"})
    assert "in whatever order" in found.meaning
    assert "‘Product page’ needs an event of its own" in found.counted[2]
    assert found.stages[0].counted[1] == "Every such event reaches it."
    assert "when the newest events of all stages up to it lie within 30 minutes" in found.stages[2].counted[1]
    assert "over the events that match it" in found.stages[2].counted[2]
    assert "the newest event of ‘Product page’" in found.dimensions[0].counted[0]


def test_an_exclusion_is_told_of_the_funnel_and_of_the_stages_that_it_keeps_from_being_reached() -> None:
    found = funnel(exclude=[{"event": "empty_cart", "from": "view", "to": "cart"}])
    assert found.counted[3].startswith(
        "The event “empty_cart” ends the chains that got to ‘Product page’ or further, but not yet to “cart”"
    )
    assert ["empty_cart" in "\n".join(stage.counted) for stage in found.stages] == [False, True, False]


def test_the_last_stage_converts_to_nothing() -> None:
    said = ["\n".join(stage.counted) for stage in funnel().stages]
    assert ["nothing to convert to" in one for one in said] == [False, False, True]


# Rates, dimensions, rules


def test_every_rate_is_told_on_its_three_bases() -> None:
    for step in funnel().steps:
        assert [basis in "\n".join(step.counted) for basis in ("“users”", "“entries”", "“adjusted”")] == [True] * 3


def test_a_dimension_with_an_allow_list_names_its_values_and_another_how_many_it_takes() -> None:
    listed, open_ = funnel(
        dimensions={"device": {"field": "properties.d", "allow": ["ios", "web"]}, "from": {"field": "properties.f", "max_values": 7}}
    ).dimensions
    assert listed.counted[1] == "By name are counted “ios” and “web”; any other value counts as “__other__”."
    assert open_.counted[1] == "The first 7 values that come are counted by name; the rest count as “__other__”."


def test_a_rule_says_when_it_fires_for_how_long_and_when_it_resolves() -> None:
    (rule,) = funnel().alerts
    assert rule.meaning == "Fires when the rate of “cart” → “pay” is surely under 40%, for 2 minutes."
    assert "It resolves when the rate is back at 45% or more." in rule.counted


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"above": 0.9}, "surely over 90%"),
        ({"above": 0.9}, "back at 90% or less"),
        ({"below_target": True}, "surely under its target of 70%"),
        ({"drop": {"by": 0.25, "from": "last_week"}}, "surely more than 25% under that of the same hours a week earlier"),
        ({"drop": {"by": 0.25}}, "more than 25% under the median of the hours of the 28 days before"),
        ({"drop": {"by": 0.25, "recover_by": 0.1}}, "when the rate is no more than 10% under that"),
        ({"below": 0.4, "detector": "sequential"}, "a rate lower than the threshold by 40%"),
        ({"below": 0.4, "long_window": "1h"}, "So it must be over 1 hour too."),
        ({"below": 0.4, "widen_to": "1h"}, "While fewer than 30 entered within it, the window doubles, up to 1 hour."),
        ({"below": 0.4, "window": "24h"}, "It is judged every 1 minute of event time."),
        ({"below": 0.4, "keep_firing_for": "5m"}, "back at 40% or more and has been for 5 minutes."),
        ({"below": 0.4, "basis": "entries"}, "of the newest 5 minutes whose entries are all finished, which takes 31 minutes"),
        ({"below": 0.4}, "while nothing is usual yet, the conversions of finished entries"),
        ({"below": 0.4}, "it tells nobody"),
    ],
)  # fmt: skip
def test_what_a_rule_asks_is_in_its_sentences(parts: dict[str, Any], said: str) -> None:
    assert said in alert(**parts)


def test_the_alert_that_no_rule_asks_for_is_told_too() -> None:
    found = dictionary(load(REFERENCE)).pipeline
    assert found.name == "FunnelwatchPipeline"
    assert found.notify == ("oncall",)


# The glossary, the languages


def test_the_glossary_explains_the_fields_that_a_reader_of_the_api_meets() -> None:
    known = set(TERMS) | {"name", "title", "source", "at", "by", "values", "stages", "low", "high", "ready", "reason", "capped"}
    renamed = {"step": "rate", "time_to_convert": "time_to_convert"}
    met = {*FunnelReport.model_fields, *StageReport.model_fields, *Adjusted.model_fields}
    assert {renamed.get(field, field) for field in met} - known == set()


def test_the_glossary_explains_every_state_of_an_alert() -> None:
    said = f"{AlertState.model_fields['state'].description} {AlertState.model_fields['data'].description}"
    assert [state for state in ("firing", "recovering", "low_sample", "no_data", "stale") if state in said and state not in TERMS] == []
    assert "Of an alert" in TERMS["pending"][1]


def test_the_terms_asked_for_are_there() -> None:
    asked = {"event", "entity", "reach", "users", "entries", "conversions", "adjusted", "T", "window", "mature", "pending"}
    assert asked <= {term.key for term in terms()}


@pytest.mark.parametrize("key", list(TEXTS))
def test_a_sentence_has_the_same_gaps_in_both_languages(key: str) -> None:
    english, chinese = ({gap for _, gap, _, _ in string.Formatter().parse(text) if gap is not None} for text in TEXTS[key])
    assert english == chinese


def test_every_sentence_that_is_not_empty_in_english_is_in_chinese() -> None:
    alike = {"comma", "semicolon"}
    for key, (english, chinese) in TEXTS.items():
        assert chinese or not english or key == "space"
        assert english != chinese or key in alike, key


def test_the_chinese_dictionary_has_the_same_parts_and_no_english_sentence() -> None:
    english, chinese = (dictionary(load(REFERENCE), language) for language in ("en", "zh"))  # type: ignore[arg-type]  # literals in a loop

    def shape(found: Dictionary) -> list[tuple[str, int]]:
        return [(one.name, len(one.counted)) for f in found.funnels for one in (f, *f.stages, *f.steps, *f.dimensions, *f.alerts)]

    assert shape(english) == shape(chinese)
    for f in chinese.funnels:
        for one in (f, *f.stages, *f.steps, *f.dimensions, *f.alerts):
            assert all(any("一" <= c <= "鿿" for c in sentence) for sentence in (one.meaning, *one.counted))


def test_a_span_is_in_the_unit_it_was_written_in_and_a_sum_in_the_longest_that_fits() -> None:
    words = Words()
    assert [words.span(n) for n in (1, 60, 90, 3600, 86_400, 1860)] == [
        "1 second",
        "1 minute",
        "90 seconds",
        "1 hour",
        "1 day",
        "31 minutes",
    ]
    assert "24 hours" in "\n".join(funnel().counted)


# Markdown


def test_the_markdown_has_every_part_under_a_heading() -> None:
    text = markdown(dictionary(load(REFERENCE)))
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings[:3] == ["# What the numbers mean", "## Funnel: Browse to order", "### How it is counted"]
    assert {"### Stages", "### Rates", "### Dimensions", "### Alerts", "## Sources", "## Words", "#### checkout → pay"} <= set(headings)
    assert "- Target: 70%\n- Benchmark: 62%\n- Alerts: `CheckoutToPayLow`" in text
    assert "- Owner: shop team" in text


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("<script>alert(1)</script>", "\\<script\\>alert(1)\\</script\\>"),
        ("a\n# b", "a \\# b"),
        ("- a", "\\- a"),
        ("1. a", "1\\. a"),
        ("[a](javascript:b)", "\\[a\\](javascript:b)"),
        ("“a`b”", "“a\\`b”"),
        ("the event “add_*_cart”", "the event `add_*_cart`"),
    ],
)
def test_whatever_the_config_says_stays_text(written: str, shown: str) -> None:
    assert escaped(written) == shown


def test_a_hostile_title_makes_no_heading_and_no_markup() -> None:
    text = markdown(dictionary(config(title="x\n# y <b>", description="---", owner="|")))
    assert "## Funnel: x \\# y \\<b\\>" in text
    assert "> \\---" in text
    assert "\n# y" not in text
