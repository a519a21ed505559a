"""What one config changes in the meaning of another is said in words, and only what changes a meaning counts as that."""

from __future__ import annotations

import copy
from typing import Any

import yaml

from schemas.config import Config, parse
from schemas.dictionary import Change, Difference
from streams.dictionary_diff import difference
from streams.dictionary_markdown import difference_markdown

BASE: dict[str, Any] = {
    "sources": [{"name": "web", "topic": "clicks"}],
    "funnels": [
        {
            "name": "purchase", "source": "web", "conversion_window": "30m", "windows": ["5m", "1h"],
            "dimensions": {"channel": "properties.channel", "device": "properties.device"},
            "stages": [
                {"name": "view", "event": "product_view"},
                {"name": "cart", "event": "add_to_cart"},
                {"name": "pay", "event": "purchase", "where": {"properties.plan": "pro"}, "target": 0.7},
            ],
            "exclude": [{"event": "empty", "from": "cart", "to": "pay"}],
        }
    ],
    "alerts": [
        {"name": "PayLow", "funnel": "purchase", "stage": "pay", "window": "5m", "below": 0.4, "for": "2m", "severity": "page"},
        {"name": "UnderTarget", "funnel": "purchase", "stage": "pay", "window": "1h", "below_target": True},
    ],
}  # fmt: skip


def changed(**parts: Any) -> Config:
    """The base with `funnel`, `alert`, `source` updated, and whole keys replaced."""
    raw = copy.deepcopy(BASE)
    for key, at in (("funnel", raw["funnels"][0]), ("alert", raw["alerts"][0]), ("source", raw["sources"][0])):
        at.update(parts.pop(key, {}))
    return parse(yaml.safe_dump(raw | parts, sort_keys=False))


def stages(*of: dict[str, Any]) -> dict[str, Any]:
    return {"stages": [{**BASE["funnels"][0]["stages"][place], **part} for place, part in enumerate(of)]}


def told(**parts: Any) -> Difference:
    return difference(changed(), changed(**parts))


def only(found: Difference, kind: str) -> Change:
    (change,) = [change for change in found.changes if change.kind == kind]
    return change


def test_the_same_config_changes_nothing() -> None:
    found = told()
    assert (found.same, found.changes) == (True, ())
    assert difference_markdown(found) == "# What changes in meaning\n\nThe two configs are the same.\n"


def test_titles_descriptions_owners_and_runbooks_are_only_words() -> None:
    found = told(funnel={"title": "Shop", "owner": "shop", "description": "Buys"}, alert={"runbook": "https://wiki.example"})
    assert found.same
    assert {change.kind for change in found.changes} == {"words"}
    assert "Nothing changes in meaning." in difference_markdown(found)


def test_a_stage_that_matches_another_event_means_another_thing_and_its_funnel_counts_anew() -> None:
    found = told(funnel=stages({}, {}, {"event": ["purchase", "order_paid"]}))
    change = only(found, "meaning")
    assert change.subject == "funnel “purchase”, stage “pay”"
    assert change.text == "Events: “purchase” before, “purchase” and “order_paid” now."
    assert only(found, "anew").text == (
        "Counts begin at zero beside the old ones, because what it counts is another: stages. Reports say since when; "
        "“funnelwatch backfill purchase” has the topic counted from its beginning."
    )
    assert not found.same


def test_a_shorter_conversion_window_says_who_does_not_count_any_more() -> None:
    found = told(funnel={"conversion_window": "10m"})
    assert only(found, "meaning").text == (
        "Conversion window: 30 minutes before, 10 minutes now. Who takes longer than 10 minutes does not count any more: rates can only fall; "
        "entries are finished sooner."
    )
    assert "conversion window" in only(found, "anew").text


def test_a_target_that_moves_moves_the_rules_that_fire_under_it_and_counts_nothing_anew() -> None:
    found = told(funnel=stages({}, {}, {"target": 0.75}))
    assert [(change.kind, change.subject) for change in found.changes] == [
        ("meaning", "funnel “purchase”, stage “pay”"),
        ("meaning", "alert “UnderTarget”"),
    ]
    assert found.changes[0].text == "Target: 70% before, 75% now. More is wanted; what is counted stays the same."
    assert found.changes[1].text == "Its threshold is the target of “pay”: 70% before, 75% now. It fires earlier."


def test_a_rule_that_pages_earlier_or_later_says_so() -> None:
    assert only(told(alert={"for": "30s"}), "meaning").text == "Time before it fires: 2 minutes before, 30 seconds now. It pages earlier."
    assert only(told(alert={"below": 0.3}), "meaning").text.endswith("30% now. It pages later.")
    assert only(told(alert={"min_entrants": 10}), "meaning").text.endswith(
        "It pages on fewer entrants, and so earlier where traffic is thin."
    )
    assert only(told(alert={"confidence": 0.99}), "meaning").text.endswith("It must be surer, and pages later.")


def test_a_rate_too_high_fires_later_at_a_higher_threshold() -> None:
    high = {"name": "High", "funnel": "purchase", "stage": "pay", "window": "5m"}
    old, new = (changed(alerts=[high | {"above": at}]) for at in (0.8, 0.9))
    assert only(difference(old, new), "meaning").text == "Threshold: 80% before, 90% now. It fires later."


def test_a_threshold_of_another_kind_is_told_in_one_sentence() -> None:
    raw = copy.deepcopy(BASE)
    del raw["alerts"][0]["below"]
    raw["alerts"][0]["drop"] = {"by": 0.25, "from": "yesterday"}
    change = only(difference(changed(), parse(yaml.safe_dump(raw))), "meaning")
    assert change.text == (
        "Fires when the rate is surely more than 25% under that of the same hours a day earlier; before, when under 40%."
    )


def test_a_stage_in_between_changes_the_rate_of_the_step_after_it() -> None:
    new = [*BASE["funnels"][0]["stages"][:2], {"name": "checkout", "event": "begin"}, BASE["funnels"][0]["stages"][2]]
    found = told(funnel={"stages": new})
    assert [change.text for change in found.changes if change.kind == "meaning"] == [
        "A new stage, number 3: Those who came this far from “cart”, within 30 minutes of their beginning. It is matched by the event “begin”.",
        "The rate into “pay” is now that of those at “checkout”; before, of those at “cart”.",
    ]


def test_stages_in_another_order_are_told_and_so_are_their_rates() -> None:
    view, cart, pay = BASE["funnels"][0]["stages"]
    found = told(funnel={"stages": [cart, view, pay], "exclude": []})
    texts = [change.text for change in found.changes if change.kind == "meaning"]
    assert "The stages come in another order: “cart” → “view” → “pay”; before: “view” → “cart” → “pay”." in texts
    assert "The rate into “pay” is now that of those at “view”; before, of those at “cart”." in texts


def test_a_renamed_stage_is_words_with_its_rules_and_exclusions() -> None:
    raw = copy.deepcopy(BASE)
    raw["funnels"][0]["stages"][2]["name"] = "paid"
    raw["funnels"][0]["exclude"][0]["to"] = "paid"
    for rule in raw["alerts"]:
        rule["stage"] = "paid"
    found = difference(changed(), parse(yaml.safe_dump(raw)))
    assert found.same
    assert only(found, "words").text.startswith("Renamed, “pay” before. What it counts is the same")
    assert only(found, "running").text == "Excluded events: written otherwise, and means the same."


def test_a_renamed_funnel_counts_anew_and_its_rules_stay_what_they_were() -> None:
    raw = copy.deepcopy(BASE)
    raw["funnels"][0]["name"] = "buy"
    for rule in raw["alerts"]:
        rule["funnel"] = "buy"
    found = difference(changed(), parse(yaml.safe_dump(raw)))
    assert [(change.kind, change.funnel) for change in found.changes] == [("words", "buy"), ("anew", "buy")]
    assert not found.same


def test_a_renamed_rule_is_words_and_says_what_is_forgotten() -> None:
    found = told(alert={"name": "PayLower"})
    assert found.same
    assert "what fires under the old one is forgotten" in only(found, "words").text


def test_what_is_written_otherwise_but_means_the_same_is_no_change_in_meaning() -> None:
    found = told(
        funnel={"windows": ["60m", "5m"], **stages({}, {}, {"where": {"properties.plan": ["pro"]}})}, source={"allowed_lateness": "1m"}
    )
    assert found.same
    assert [change.text for change in found.changes] == [
        "Allowed lateness: written otherwise, and means the same.",
        "Windows: written otherwise, and means the same.",
        "Conditions: written otherwise, and means the same.",
    ]


def test_dimensions_in_another_order_count_anew_and_mean_the_same() -> None:
    found = told(funnel={"dimensions": {"device": "properties.device", "channel": "properties.channel"}})
    assert [change.kind for change in found.changes] == ["anew"]
    assert "the order of the dimensions" in found.changes[0].text
    assert not found.same


def test_a_window_of_another_length_counts_anew_and_one_of_the_same_does_not() -> None:
    assert [change.kind for change in told(funnel={"windows": ["5m", "10m", "1h"]}).changes] == ["meaning"]
    found = told(funnel={"windows": ["5m", "1h", "24h"]})
    assert [change.kind for change in found.changes] == ["meaning", "anew"]
    assert "needs buckets of a width" in found.changes[1].text


def test_a_rule_with_a_window_of_another_length_makes_its_funnel_count_anew() -> None:
    assert "needs buckets of a width" in only(told(alert={"window": "12h"}), "anew").text


def test_another_field_of_the_record_changes_counts_that_go_on_and_so_mix() -> None:
    found = told(source={"fields": {"user_id": "account"}})
    assert [change.text for change in found.changes] == [
        "Where a record has the user id: “user_id” before, “account” now.",
        "The counts of “purchase” go on: until a window has left the change behind, its numbers mix both meanings.",
    ]


def test_nothing_is_said_of_mixing_where_the_funnel_counts_anew_anyway() -> None:
    found = told(source={"fields": {"user_id": "account"}}, funnel={"conversion_window": "10m"})
    assert not any("mix" in change.text for change in found.changes)


def test_new_and_lost_things_are_told_with_what_they_mean() -> None:
    other = {
        "name": "signup",
        "source": "web",
        "conversion_window": "1d",
        "windows": ["1h"],
        "stages": [{"name": "a", "event": "a"}, {"name": "b", "event": "b"}],
    }
    rule = {"name": "Signup", "funnel": "signup", "stage": "b", "window": "1h", "above": 0.9}
    old, new = changed(), parse(yaml.safe_dump(BASE | {"funnels": [*BASE["funnels"], other], "alerts": [*BASE["alerts"], rule]}))
    added = [change.text for change in difference(old, new).changes]
    assert added == [
        "A new funnel, counted from its beginning on: How many of those at “a” go on, stage by stage, to “b” within 1 day of their beginning.",
        "A new rule: Fires when the rate of “a” → “b” is surely over 90%.",
    ]
    assert [change.text for change in difference(new, old).changes] == ["It is there no longer."] * 2


def test_channels_and_dead_letters_change_no_number() -> None:
    found = told(source={"dead_letter": "bad"}, channels={"log": {"type": "log"}})
    assert found.same
    assert {change.kind for change in found.changes} == {"running"}


def test_the_chinese_difference_says_as_much_in_chinese() -> None:
    new = changed(funnel={"conversion_window": "10m"}, alert={"for": "30s"})
    english, chinese = difference(changed(), new), difference(changed(), new, "zh")
    assert [change.kind for change in chinese.changes] == [change.kind for change in english.changes]
    assert chinese.changes[-1].text == "触发前的持续时长：原为 2 分钟，现为 30 秒。会更早呼叫。"
    assert "## 重新开始计数" in difference_markdown(chinese)


def test_the_graver_changes_come_first_in_markdown() -> None:
    text = difference_markdown(told(funnel={"conversion_window": "10m", "title": "Shop"}, source={"dead_letter": "bad"}))
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "## Means something else",
        "## Starts counting anew",
        "## Changes only words",
        "## Changes how it runs, and no number",
    ]
    assert "- **funnel `purchase`**: Conversion window: 30 minutes before" in text
