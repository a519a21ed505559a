"""What a config file says, what is refused with its line, and what makes counts begin anew."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.condition import Condition
from schemas.config import CONFIG_BYTES_MAX, Config, load, parse, warnings_of
from schemas.duration import Duration, bucket_seconds
from schemas.errors import ConfigError

EXAMPLE = """\
sources:
  - name: web
    topic: clicks
    entity_key: true              # records are keyed by the entity; false: re-key through an internal topic
    start: earliest               # where a source begins that has no stored position
    allowed_lateness: 60s
    max_skew: 5m
    fields: {event: event, timestamp: timestamp, user_id: user_id}   # or a preset: segment, cloudevents
funnels:
  - name: purchase
    title: Browse to order
    source: web
    conversion_window: 30m
    windows: [1m, 5m, 1h, 24h]
    dimensions: {channel: properties.channel, device: {field: properties.device, allow: [ios, android, web]}}
    stages:
      - {name: view, event: product_view}
      - {name: cart, event: [add_to_cart, quick_add]}
      - {name: checkout, event: begin_checkout, target: 0.55}
      - {name: pay, event: purchase, value: properties.amount, target: 0.70, benchmark: 0.62}
alerts:
  - name: CheckoutToPayLow
    funnel: purchase
    stage: pay                    # the step into pay
    window: 5m
    below: 0.40
    for: 2m
    recover_above: 0.45
    min_entrants: 30              # least denominator
    confidence: 0.95              # one-sided
    by: [device]                  # judge every device too
    severity: page
    notify: [oncall]
channels:
  oncall: {type: alertmanager, url: "http://alertmanager:9093"}
"""

REFERENCE = Path(__file__).parents[2] / "deploy" / "reference.yaml"
FUNNEL = """\
sources: [{name: web, topic: clicks}]
funnels:
  - name: shop
    source: web
    conversion_window: 30m
    windows: [5m]
    order: ordered
    dimensions:
      country: properties.country
      device: {field: properties.device}
      both: {combine: [country, device]}
    stages:
      - name: view
        event: view
        where: {properties.plan: pro}
      - name: cart
        event: [add, quick_add]
        where:
          properties.country: [de, fr]
          properties.amount:
            ">": 100
            "<": 500
          properties.coupon: {exists: false}
          properties.page: {matches: "^/shop"}
      - {name: pay, event: pay}
    exclude:
      - event: leave
        from: view
        to: pay
      - event: [clear, sign_out]
        where: {properties.all: true}
        from: cart
        to: pay
    baseline: {half_life: 3d, by: hour_of_week, min_entries: 50}
"""


def problems(text: str) -> list[str]:
    """What the text is refused with, a line a problem."""
    with pytest.raises(ConfigError) as refused:
        parse(text, "shop.yaml")
    return str(refused.value).splitlines()


def with_change(old: str, new: str, of: str = EXAMPLE) -> str:
    assert of.count(old) == 1
    return of.replace(old, new)


def test_the_example_is_a_config() -> None:
    config = parse(EXAMPLE)
    web, purchase, rule = config.source("web"), config.funnel("purchase"), config.alerts[0]
    assert (web.topic, web.entity_key, web.start, web.allowed_lateness, web.max_skew) == ("clicks", True, "earliest", 60, 300)
    assert (purchase.conversion_window, [str(w) for w in purchase.windows]) == (1800, ["1m", "5m", "1h", "24h"])
    assert [stage.event for stage in purchase.stages] == [
        ("product_view",),
        ("add_to_cart", "quick_add"),
        ("begin_checkout",),
        ("purchase",),
    ]
    assert {name: (d.field, d.allow) for name, d in purchase.dimensions.items()} == {
        "channel": ("properties.channel", None),
        "device": ("properties.device", ("ios", "android", "web")),
    }
    assert purchase.stages[3].value == "properties.amount"
    assert (rule.for_, rule.below, rule.recovery, rule.by, rule.notify) == (120, 0.4, 0.45, ("device",), ("oncall",))
    assert config.channels["oncall"].type == "alertmanager"


def test_a_funnel_says_order_conditions_exclusions_combinations_and_baseline() -> None:
    shop = parse(FUNNEL).funnel("shop")
    view, cart, pay = shop.stages
    assert (shop.order, shop.dimensions["both"].combine) == ("ordered", ("country", "device"))
    assert view.where == {"properties.plan": Condition(equals="pro")}
    assert cart.where == {
        "properties.country": Condition(in_=("de", "fr")),
        "properties.amount": Condition(above=100, below=500),
        "properties.coupon": Condition(exists=False),
        "properties.page": Condition(matches="^/shop"),
    }
    assert pay.where == {}
    assert [(e.event, e.from_, e.to) for e in shop.exclude] == [(("leave",), "view", "pay"), (("clear", "sign_out"), "cart", "pay")]
    assert shop.exclude[1].where == {"properties.all": Condition(equals=True)}
    assert (str(shop.baseline.half_life), shop.baseline.by, shop.baseline.min_entries) == ("3d", "hour_of_week", 50)


def test_a_funnel_that_says_none_of_it_is_ordered_and_has_no_conditions() -> None:
    purchase = parse(EXAMPLE).funnels[0]
    assert (purchase.order, purchase.exclude, [stage.where for stage in purchase.stages]) == ("ordered", (), [{}] * 4)
    assert (str(purchase.baseline.half_life), purchase.baseline.by, purchase.baseline.min_entries) == ("7d", "all", 200)


def test_a_file_is_read_as_its_text(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(EXAMPLE, "utf-8")
    assert load(file) == parse(EXAMPLE)


def test_what_is_left_out_has_its_documented_default() -> None:
    source = parse(with_change("    allowed_lateness: 60s\n    max_skew: 5m\n", "")).source("web")
    assert (str(source.allowed_lateness), str(source.max_skew)) == ("60s", "5m")
    assert (source.dead_letter_topic, source.keyed_topic) == ("clicks.dead-letter", "clicks")
    assert source.model_copy(update={"entity_key": False}).keyed_topic == "clicks.by-entity"


def test_the_windows_of_rules_are_counted_beside_the_funnels_own() -> None:
    config = parse(with_change("    window: 5m\n", "    window: 10m\n"))
    assert [str(w) for w in config.windows_of(config.funnels[0])] == ["1m", "5m", "1h", "24h", "10m"]
    twice = parse(with_change("    window: 5m\n", "    window: 300s\n"))
    assert [int(w) for w in twice.windows_of(twice.funnels[0])] == [60, 300, 3600, 86_400]


THRESHOLD = "    below: 0.40\n    for: 2m\n    recover_above: 0.45\n"
SEQUENTIAL = "    detector: sequential\n"
RULES = [
    (
        THRESHOLD,
        "    above: 0.9\n    recover_above: 0.45\n",
        "recover_above: a rate above a threshold recovers by falling; write recover_below",
    ),
    (THRESHOLD, "    above: 0.9\n    recover_below: 0.95\n", "recover_below: 0.95 is over `above` (0.9); it must be at most `above`"),
    ("recover_above: 0.45", "recover_below: 0.35", "recover_below: a rate below a threshold recovers by rising; write recover_above"),
    (
        THRESHOLD,
        "    below_target: true\n    recover_above: 0.6\n",
        "recover_above: 0.6 is under the target (0.7); it must be at least the",
    ),
    (THRESHOLD, "    drop: {by: 0.2, recover_by: 0.3}\n", "drop.recover_by: 0.3 is over `by` (0.2); it must be at most `by`"),
    (THRESHOLD, "    drop: {by: 0.2, from: yesterday, over: 7d}\n", "drop.over: `over` is of a median, not of yesterday; leave it out"),
    (THRESHOLD, "    drop: {by: 0.2, over: 31d}\n", "drop.over: 31d is out of range; write 1d to 30d"),
    (THRESHOLD, "    drop: {by: 0.2, over: 12h}\n", "drop.over: 12h is out of range; write 1d to 30d"),
    (THRESHOLD, "    drop: {by: 20}\n", "drop.by: input should be less than 1 (given: 20)"),
    (THRESHOLD, "    drop: {by: 0.2, since: 7d}\n", "drop: unknown key 'since'; there are: by, from, over, recover_by"),
    (THRESHOLD, "    drop: {by: 0.2, recover_by: 0.1}\n    recover_above: 0.5\n", "drop.recover_by: the rule says `recover_above` too"),
    ("    window: 5m\n", "    window: 5m\n    long_window: 5m\n", "long_window: 5m is no longer than the window (5m); write a longer one"),
    ("    window: 5m\n", "    window: 5m\n    widen_to: 1m\n", "widen_to: 1m is no longer than the window (5m); write a longer one"),
    ("    window: 5m\n", "    window: 5m\n    widen_to: 301s\n", "widen_to: 301s is no multiple of its bucket (10 s); write 300s"),
    ("    window: 5m\n", "    window: 5m\n    widen_to: 31d\n", "widen_to: 31d is out of range; write 10s to 30d"),
    (
        "    for: 2m\n",
        "    for: 2m\n    effect: 0.3\n",
        "effect: `effect` is of a sequential detector; leave it out, or write detector: seq",
    ),
    ("    for: 2m\n", "    for: 2m\n    run_length: 30d\n", "run_length: `run_length` is of a sequential detector"),
    ("    for: 2m\n", SEQUENTIAL + "    run_length: 30m\n", "run_length: 30m is out of range; write 1h to 3650d"),
    ("    for: 2m\n", SEQUENTIAL + "    long_window: 1h\n", "long_window: a sequential detector has no windows to compare"),
    ("    for: 2m\n", SEQUENTIAL + "    effect: 0.01\n", "effect: input should be greater than or equal to 0.05 (given: 0.01)"),
    (THRESHOLD, SEQUENTIAL + "    below: 0\n", "below: 0.0 leaves nothing to add up; write a rate between 0 and 1"),
    (
        THRESHOLD,
        SEQUENTIAL + "    basis: users\n    above: 0.8\n    effect: 0.4\n",
        "effect: 0.8 and 40% more is no rate under 1; write less than 0.25",
    ),
    ("CheckoutToPayLow", "FunnelwatchDeadMan", "name: 'FunnelwatchDeadMan' is the name of an alert that is always there; give the rule"),
    ("channels:\n", "pipeline: {notify: [me]}\nchannels:\n", "pipeline.notify[0]: there is no channel 'me'; there are: oncall"),
    ("channels:\n", "pipeline: {for: soon}\nchannels:\n", "pipeline.for: 'soon' is no duration; write a whole number and s, m, h or d"),
]
REFUSED = [
    ("topic: clicks", "topci: clicks", "unknown key 'topci'; did you mean 'topic'?"),
    ("topic: clicks", "topic: clicks/new", "sources[0].topic: string should match pattern"),
    ("topic: clicks", "name2: x\n    topic: clicks", "unknown key 'name2'; did you mean 'name'?"),
    ("user_id: user_id}", "user: user_id}", "sources[0].fields: unknown key 'user'; did you mean 'user_id'?"),
    ("title: Browse to order", "titel: Browse to order", "unknown key 'titel'; did you mean 'title'?"),
    ("min_entrants: 30", "min_entrance: 30", "alerts[0]: unknown key 'min_entrance'; did you mean 'min_entrants'?"),
    ("target: 0.55}", "targt: 0.55}", "stages[2]: unknown key 'targt'; did you mean 'target'?"),
    ("start: earliest", "start: yesterday", "input should be 'earliest' or 'latest' (given: 'yesterday')"),
    ("source: web", "source: wbe", "there is no source 'wbe'; did you mean 'web'?"),
    ("funnel: purchase", "funnel: purchases", "there is no funnel 'purchases'; did you mean 'purchase'?"),
    ("stage: pay ", "stage: pya ", "funnel 'purchase' has no stage 'pya'; did you mean 'pay'?"),
    ("stage: pay ", "stage: xyz ", "has no stage 'xyz'; there are: view, cart, checkout, pay"),
    ("stage: pay ", "stage: view ", "'view' is the first stage: no step leads into it; name one of cart, checkout, pay"),
    ("by: [device]", "by: [devcie]", "has no dimension 'devcie'; did you mean 'device'?"),
    ("notify: [oncall]", "notify: [on-call]", "there is no channel 'on-call'; did you mean 'oncall'?"),
    ("name: cart,", "name: view,", "funnels[0].stages[1].name: 'view' is there already; give each a name of its own"),
    ("windows: [1m, 5m,", "windows: [1m, 15s,", "windows[1]: 15s is no multiple of its bucket (10 s); write 10s"),
    ("1h, 24h]", "1h, 3601s]", "windows[3]: 3601s is no multiple of its bucket (60 s); write 3600s"),
    ("1h, 24h]", "1h, 90001s]", "windows[3]: 90001s is no multiple of its bucket (3600 s); write 90000s"),
    ("1h, 24h]", "1h, 31d]", "31d is out of range; write 10s to 30d"),
    ("windows: [1m,", "windows: [5s,", "5s is out of range; write 10s to 30d"),
    ("1h, 24h]", "1h, 60m]", "60m is there already; name each window once"),
    ("conversion_window: 30m", "conversion_window: 91d", "91d is out of range; write 1s to 90d"),
    ("conversion_window: 30m", "conversion_window: 0s", "0s is out of range; write 1s to 90d"),
    ("conversion_window: 30m", "conversion_window: half an hour", "'half an hour' is no duration; write a whole number and s, m, h or d"),
    ("    window: 5m", "    window: 300", "'300' is no duration; write a whole number and s, m, h or d"),
    ("    window: 5m", "    window: 15s", "alerts[0].window: 15s is no multiple of its bucket (10 s); write 10s"),
    ("below: 0.40", "below: 1.40", "alerts[0].below: input should be less than or equal to 1 (given: 1.4)"),
    ("below: 0.40", "below: -0.40", "alerts[0].below: input should be greater than or equal to 0 (given: -0.4)"),
    ("target: 0.55", "target: 55", "stages[2].target: input should be less than or equal to 1 (given: 55)"),
    ("recover_above: 0.45", "recover_above: 0.35", "0.35 is under `below` (0.4); it must be at least `below`"),
    *RULES,
    ("event: product_view}", "event: product_view, target: 0.5}", "no step into it, so no target or benchmark; put it on a later stage"),
    ("event: product_view}", "event: []}", "funnels[0].stages[0].event"),
    ("event: product_view}", 'event: ""}', "an event name cannot be empty"),
    ("event: product_view}", "title: See}", "funnels[0].stages[0]: 'event' is missing; add it"),
    ("value: properties.amount", "value: amount", "'amount' is no event property; write properties.amount"),
    ("channel: properties.channel", "channel: channel", "'channel' is no event property; write properties.channel"),
    ("name: purchase\n", 'name: "pur/chase"\n', "not a name; write letters, digits, _ - . : or spaces, 64 at most"),
    ("type: alertmanager", "type: pager", "channels.oncall"),
    ('url: "http', 'adress: "http', "unknown key 'adress'"),
    ("severity: page", "severity: page\n    severity: mail", "key 'severity' is there twice; keep one of them"),
    ("event: product_view}", "event: 404}", "stages[0].event[0]: input should be a valid string (given: 404); write a text, in quotes"),
    ("windows: [1m, 5m, 1h, 24h]", "windows: 5m", "windows: input should be a valid list (given: '5m'); write a list, as in [a, b]"),
    ("by: [device]", "by: device", "alerts[0].by: input should be a valid list (given: 'device'); write a list, as in [a, b]"),
    ("for: 2m", "for_: 2m", "alerts[0]: unknown key 'for_'; did you mean 'for'?"),
]
BOTH = "both: {combine: [country, device]}"
TWO = "both.combine: a combination is of two different dimensions; write combine: [DIMENSION, DIMENSION]"
EITHER = "both: a dimension is either a `field` or `combine: [DIMENSION, DIMENSION]`; write one of them"
WRONG_FUNNEL = [
    ("order: ordered", "order: loose", "order: input should be 'ordered', 'any' or 'strict' (given: 'loose')"),
    (BOTH, "both: {combine: [country, devcie]}", "both.combine[1]: funnel 'shop' has no dimension 'devcie'; did you mean 'device'?"),
    (
        BOTH,
        BOTH + "\n      all: {combine: [both, country]}",
        "all.combine[0]: 'both' is itself a combination; combine dimensions that have",
    ),
    (BOTH, "both: {combine: [both, country]}", "both.combine[0]: 'both' is itself a combination; combine dimensions that have a `field`"),
    (BOTH, "both: {combine: [country, country]}", TWO),
    (BOTH, "both: {combine: [country]}", TWO),
    (BOTH, "both: {combine: [country, device, both]}", TWO),
    (BOTH, "both: {combine: country}", TWO),
    (BOTH, "both: {field: properties.a, combine: [country, device]}", EITHER),
    (BOTH, "both: {max_values: 10}", EITHER),
    (BOTH, 'both: {field: ""}', EITHER),
    (BOTH, "both: {combined: [country, device]}", "both: unknown key 'combined'; did you mean 'combine'?"),
    (BOTH, "both: a b", "both.field: not a path; write words with dots between them, as in properties.channel (given: 'a b')"),
    (BOTH, "both: 5", "both: input should be a valid dictionary (given: 5); write KEY: VALUE pairs"),
    (BOTH, "bo/th: properties.a", "dimensions.bo/th: not a name; write letters, digits, _ - . : or spaces, 64 at most (given: 'bo/th')"),
    ("{field: properties.device}", "{field: device}", "dimensions.device: 'device' is no event property; write properties.device"),
    ("properties.all: true", "all: true", "exclude[1].where.all: 'all' is no event property; write properties.all"),
    ("properties.all: true", "properties.all: on", "exclude[1].where.properties.all.equals: on is read as true; write true"),
    ("from: cart", "from: crat", "exclude[1].from: funnel 'shop' has no stage 'crat'; did you mean 'cart'?"),
    (
        "from: cart\n        to: pay",
        "from: cart\n        to: pays",
        "exclude[1].to: funnel 'shop' has no stage 'pays'; did you mean 'pay'?",
    ),
    (
        "from: cart\n",
        "from: pay\n",
        "exclude[1].from: `from` does not come before `to`; name them in the order of the stages: view, cart, pay",
    ),
    (
        "from: cart\n        to: pay",
        "from: pay\n        to: view",
        "exclude[1].from: `from` does not come before `to`; name them in the order",
    ),
    (
        "event: leave\n        from: view",
        "event: leave\n        after: view",
        "exclude[0]: unknown key 'after'; there are: event, from, to, where",
    ),
    ("event: leave\n        from: view", "event: leave\n        from_: view", "exclude[0]: unknown key 'from_'; did you mean 'from'?"),
    ("event: leave\n        from: view", "event: leave", "exclude[0]: 'from' is missing; add it"),
    ("event: leave", "event: []", "exclude[0].event: list should have at least 1 item, not 0"),
    ("event: leave", 'event: ["", leave]', "exclude[0].event: an event name cannot be empty"),
    ("half_life: 3d", "half_life: 3 days", "baseline.half_life: '3 days' is no duration; write a whole number and s, m, h or d"),
    ("min_entries: 50", "min_entries: 0", "baseline.min_entries: input should be greater than or equal to 1 (given: 0)"),
    ("by: hour_of_week", "by: day", "baseline.by: input should be 'all' or 'hour_of_week' (given: 'day')"),
    ('">": 100\n', ">: 100\n", 'is not YAML: expected chomping or indentation indicators, but found \':\'; write ">" and ">=" in quotes'),
    (
        'amount:\n            ">": 100\n',
        'amount:\n            ">": 600\n',
        "stages[1].where.properties.amount: no value meets all of this; leave out what contradicts the rest",
    ),
    ('">": 100\n', "'>': no\n", "stages[1].where.properties.amount.>: false is no number; write a number"),
]
MISTAKES = [
    *((EXAMPLE, old, new, said) for old, new, said in REFUSED),
    *((FUNNEL, old, new, said) for old, new, said in WRONG_FUNNEL),
]


@pytest.mark.parametrize(("of", "old", "new", "said"), MISTAKES, ids=[said for *_, said in MISTAKES])
def test_a_mistake_is_refused_with_file_line_and_remedy(of: str, old: str, new: str, said: str) -> None:
    text = with_change(old, new, of)
    changed_on = of[: of.index(old)].count("\n") + 1
    found = [line for line in problems(text) if said in line]
    assert len(found) == 1
    assert found[0].startswith(tuple(f"shop.yaml:{changed_on + n}: " for n in range(new.count("\n") + 1)))


@pytest.mark.parametrize(
    ("threshold", "has"),
    [
        ("", "has no threshold"),
        ("    below: 0.4\n    above: 0.9\n", "has `below` and `above`"),
        ("    below: 0.4\n    drop: {by: 0.2}\n    below_target: true\n", "has `below` and `drop` and `below_target`"),
        ("    below_target: false\n", "has no threshold"),
    ],
)
def test_a_rule_has_exactly_one_threshold(threshold: str, has: str) -> None:
    assert problems(with_change(THRESHOLD, threshold)) == [
        f"shop.yaml:22: alerts[0]: a rule {has}; write exactly one of `below`, `above`, `drop`, `below_target`"
    ]


def test_a_rule_under_the_target_needs_one() -> None:
    text = with_change("target: 0.70, benchmark", "benchmark").replace(THRESHOLD, "    below_target: true\n")
    assert problems(text) == ["shop.yaml:26: alerts[0].below_target: stage 'pay' has no target; give the stage one, or write `below: RATE`"]
    certain = with_change("target: 0.70", "target: 1.0").replace(THRESHOLD, SEQUENTIAL + "    below_target: true\n")
    assert "nothing is less likely than at a target of 1.0" in problems(certain)[0]


@pytest.mark.parametrize(
    ("conversion", "drop", "refused"),
    [
        ("22h", "from: yesterday", False),
        ("23h", "from: yesterday", True),  # and the lateness, until the hour of yesterday is finished
        ("6d", "from: last_week", False),
        ("7d", "from: last_week", True),
        ("2d", "over: 2d", True),
        ("1d", "over: 2d", False),
    ],
)
def test_a_drop_is_measured_from_what_is_finished(conversion: str, drop: str, refused: bool) -> None:
    text = with_change("conversion_window: 30m", f"conversion_window: {conversion}")
    text = text.replace(THRESHOLD, f"    drop: {{by: 0.2, {drop}}}\n")
    if refused:
        assert "are not all finished: that takes the conversion window; look back further, or write basis: users" in problems(text)[0]
    else:
        parse(text)
    parse(text.replace("    window: 5m\n", "    basis: users\n    window: 5m\n"))


def test_a_sequential_rule_says_what_it_looks_for() -> None:
    text = with_change("    for: 2m\n", SEQUENTIAL + "    effect: 0.5\n    run_length: 30d\n    keep_firing_for: 5m\n")
    rule = parse(text).alerts[0]
    assert (rule.detector, rule.effect, str(rule.run_length), str(rule.keep_firing_for)) == ("sequential", 0.5, "30d", "5m")
    plain = parse(EXAMPLE).alerts[0]
    assert (plain.detector, plain.basis, plain.condition, plain.rises) == ("windowed", "adjusted", "below", False)
    assert (plain.long_window, plain.widen_to, str(plain.keep_firing_for)) == (None, None, "0s")


@pytest.mark.parametrize(
    ("threshold", "condition", "fixed", "recovery"),
    [
        ("    below: 0.4\n", "below", 0.4, 0.4),
        ("    below: 0\n", "below", 0.0, 0.0),
        ("    above: 0.9\n", "above", 0.9, 0.9),
        ("    above: 0.9\n    recover_below: 0.8\n", "above", 0.9, 0.8),
        ("    drop: {by: 0.25}\n", "drop", None, None),
        ("    below_target: true\n", "below_target", None, None),
        ("    below_target: true\n    recover_above: 0.8\n", "below_target", None, 0.8),
    ],
)
def test_a_rule_knows_its_threshold_where_it_says_it(threshold: str, condition: str, fixed: float | None, recovery: float | None) -> None:
    rule = parse(with_change(THRESHOLD, threshold)).alerts[0]
    assert (rule.condition, rule.fixed, rule.recovery, rule.rises) == (condition, fixed, recovery, condition == "above")


@pytest.mark.parametrize(("more", "kept"), [("30m", []), ("1h", []), ("2h", []), ("3d", ["3d"])])
@pytest.mark.parametrize("key", ["widen_to", "long_window"])
def test_what_a_rule_may_look_back_on_is_counted_where_buckets_of_that_width_are_not(key: str, more: str, kept: list[str]) -> None:
    config = parse(with_change("    window: 5m\n", f"    window: 5m\n    {key}: {more}\n"))
    assert [str(w) for w in config.windows_of(config.funnels[0])] == ["1m", "5m", "1h", "24h", *kept]


@pytest.mark.parametrize(("section", "item"), [("sources", 0), ("funnels", 0), ("alerts", 0)])
def test_a_name_given_twice_is_refused(section: str, item: int) -> None:
    document = yaml.safe_load(EXAMPLE)
    document[section].append(copy.deepcopy(document[section][item]))
    assert any(f"{section}[1].name:" in line and "give each a name of its own" in line for line in problems(yaml.safe_dump(document)))


def test_two_sources_cannot_read_one_topic() -> None:
    text = with_change("funnels:\n", "  - {name: app, topic: clicks}\nfunnels:\n")
    assert problems(text) == [
        "shop.yaml:9: sources[1].topic: topic 'clicks' is read by another source already; put the funnels on one source"
    ]


def test_an_exclusion_is_refused_where_no_stage_comes_before_another() -> None:
    assert problems(with_change("order: ordered", "order: any", FUNNEL)) == [
        "shop.yaml:26: funnels[0].exclude: with `order: any` no stage comes before another; leave `exclude` out, or write order: ordered"
    ]


def test_every_mistake_is_told_at_once() -> None:
    text = with_change("stage: pay ", "stage: pya ").replace("source: web", "source: wbe").replace("[oncall]", "[oncal]")
    assert [line.split(" ")[0] for line in problems(text)] == ["shop.yaml:12:", "shop.yaml:24:", "shop.yaml:33:"]
    several = FUNNEL.replace("from: cart", "from: crat").replace("to: pay", "to: paid").replace("plan: pro", "plan: off")
    assert [line.split(" ")[0] for line in problems(several)] == [f"shop.yaml:{n}:" for n in (29, 32, 33, 15)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "shop.yaml:1: 'sources' is missing; add it"),
        ("- 1", "shop.yaml:1: input should be a valid dictionary"),
        ("just words", "shop.yaml:1: input should be a valid dictionary"),
        ("sources: [\n", "shop.yaml:2: is not YAML: expected the node content"),
        ("a: b\n c: d\n", "shop.yaml:2: is not YAML: mapping values are not allowed here"),
        ("sources: \x01", "is not YAML"),
        ("sources: *nowhere", "is an alias; a config has none"),
        ("sources: !!python/object/apply:os.system [id]", "is not YAML: could not determine a constructor"),
        ("sources: " + "[" * 60 + "]" * 60, "shop.yaml:1: is nested too deeply; a config needs eight levels"),
        ("sources:\n " + "[" * 20_000 + "]" * 20_000, "shop.yaml:2: is nested too deeply; a config needs eight levels"),
        ("sources: &a [*a]", "is an alias; a config has none"),
        ("sources: 1\nsources: 2", "shop.yaml:2: key 'sources' is there twice; keep one of them"),
        ("1: 2", "keys should be strings"),
        ("#" * (CONFIG_BYTES_MAX + 1), "shop.yaml:1: is over 1000000 characters long; split it"),
    ],
    ids=range(14),
)
def test_what_is_no_config_at_all_is_refused_in_a_sentence(text: str, said: str) -> None:
    assert any(said in line for line in problems(text))


@pytest.mark.parametrize("text", ["? [a]\n: 1\n", "? {a: 1}\n: 1\n"])
def test_a_key_that_is_no_word_is_refused(text: str) -> None:
    assert problems(text)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "missing.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"title: gr\xf6\xdfer")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load(tmp_path / "latin.yaml")


USERS = with_change("    window: 5m\n", "    basis: users\n    window: 5m\n")


def test_a_window_shorter_than_the_conversion_is_warned_of() -> None:
    (warning,) = warnings_of(parse(USERS))
    assert "'CheckoutToPayLow': its window (5m) is shorter than the conversion window of 'purchase' (30m)" in warning
    assert warnings_of(parse(USERS.replace("    window: 5m\n", "    window: 30m\n"))) == []
    assert warnings_of(parse(EXAMPLE)) == []  # adjusted


def test_a_rule_that_sees_a_fall_only_once_entries_are_finished_is_warned_of() -> None:
    (warning,) = warnings_of(parse(USERS.replace("basis: users", "basis: entries")))
    assert warning == (
        "alert 'CheckoutToPayLow': on basis entries it sees a fall once the entries are finished, 30m after they opened; "
        "basis adjusted sees it as it comes"
    )


def test_a_median_over_too_few_weeks_is_warned_of() -> None:
    relative = with_change("    below: 0.40\n", "    drop: {by: 0.25, over: 7d}\n")
    assert warnings_of(parse(relative)) == [
        "alert 'CheckoutToPayLow': within 7d there are too few weeks to tell the hours of the week apart; over: 21d or more does"
    ]
    assert warnings_of(parse(relative.replace("over: 7d", "over: 21d"))) == []
    assert warnings_of(parse(relative.replace("over: 7d", "from: last_week"))) == []


def test_a_rule_that_notifies_nobody_is_warned_of() -> None:
    text = with_change("    notify: [oncall]\n", "")
    assert warnings_of(parse(text)) == ["alert 'CheckoutToPayLow' notifies nobody; name a channel in `notify`"]


def test_an_excluded_event_that_reaches_a_stage_on_the_way_is_warned_of() -> None:
    (warning,) = warnings_of(parse(with_change("event: leave", "event: [leave, quick_add]", FUNNEL)))
    assert warning == (
        "funnel 'shop': 'quick_add' is excluded from 'view' to 'pay', and is an event of 'cart' between them: "
        "a chain that it takes there goes on; exclude another event, or add a `where`"
    )


A, B = {"properties.a": 1}, {"properties.b": 1}


@pytest.mark.parametrize(
    ("stage", "exclusion", "warned"),
    [
        ({}, {}, True),
        ({}, A, True),  # whatever is excluded reaches the stage
        (A, {}, True),  # whatever reaches the stage is excluded
        (A, A, True),
        (A, A | B, True),
        (A | B, A, True),
        (A, B, False),
        (A, {"properties.a": 2}, False),
    ],
)
def test_an_exclusion_with_other_conditions_than_the_stage_is_not_warned_of(stage: Any, exclusion: Any, warned: bool) -> None:
    document = yaml.safe_load(FUNNEL)
    funnel = document["funnels"][0]
    funnel["stages"][1]["where"] = stage
    funnel["exclude"] = [{"event": "add", "from": "view", "to": "pay", "where": exclusion}]
    assert bool(warnings_of(Config.model_validate(document))) == warned


@pytest.mark.parametrize("event", ["view", "pay", "leave"])
def test_an_exclusion_of_a_stage_at_either_end_is_not_warned_of(event: str) -> None:
    """It begins the chain anew, or ends it where it arrives."""
    assert warnings_of(parse(with_change("event: leave", f"event: {event}", FUNNEL))) == []


@pytest.mark.parametrize("order", ["ordered", "any", "strict"])
def test_stages_that_match_the_same_are_not_warned_of(order: str) -> None:
    """Each is reached by an event of its own, or in any order by one: none is out of reach."""
    document = yaml.safe_load(EXAMPLE)
    del document["alerts"]
    document["funnels"][0] |= {"order": order, "stages": [{"name": name, "event": "order"} for name in ("first", "second")]}
    assert warnings_of(parse(yaml.safe_dump(document))) == []


def test_a_conversion_window_longer_than_any_window_is_not_warned_of() -> None:
    assert warnings_of(parse(with_change("conversion_window: 30m", "conversion_window: 60d", FUNNEL))) == []


TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


def fits(value: Any, schema: dict[str, Any], defs: dict[str, Any]) -> bool:
    """Whether a value is what a JSON Schema says, of the keywords that ours has."""
    if "$ref" in schema:
        return fits(value, defs[schema["$ref"].removeprefix("#/$defs/")], defs)
    ways = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    return (
        (not ways or any(fits(value, way, defs) for way in ways))
        and ("type" not in schema or type(value) in TYPES[schema["type"]])
        and value in schema.get("enum", [value])
        and value == schema.get("const", value)
        and (not isinstance(value, str) or re.search(schema.get("pattern", ""), value) is not None)
        and (not isinstance(value, list) or _items_fit(value, schema, defs))
        and (not isinstance(value, dict) or _keys_fit(value, schema, defs))
    )


def _items_fit(items: list[Any], schema: dict[str, Any], defs: dict[str, Any]) -> bool:
    within = schema.get("minItems", 0) <= len(items) <= schema.get("maxItems", len(items))
    return within and all(fits(item, schema.get("items", {}), defs) for item in items)


def _keys_fit(keys: dict[str, Any], schema: dict[str, Any], defs: dict[str, Any]) -> bool:
    known = schema.get("properties", {})
    for key, value in keys.items():
        asked = [known[key]] if key in known else [s for p, s in schema.get("patternProperties", {}).items() if re.search(p, key)]
        rest = schema.get("additionalProperties", True)
        if not all(fits(value, one, defs) for one in asked) or (not asked and rest is False):
            return False
    return set(schema.get("required", ())) <= set(keys) and len(keys) <= schema.get("maxProperties", len(keys))


def fits_the_schema(text: str) -> bool:
    schema = json.loads(json.dumps(Config.model_json_schema()))
    return fits(yaml.safe_load(text), schema, schema["$defs"])


@pytest.mark.parametrize("text", [EXAMPLE, FUNNEL, REFERENCE.read_text("utf-8")], ids=["example", "funnel", "reference"])
def test_a_config_fits_the_schema_in_its_short_forms(text: str) -> None:
    assert fits_the_schema(text)


@pytest.mark.parametrize(
    "written", ["pro", "1", "1.5", "true", "[de, 1, false]", "{equals: pro}", "{in: [1]}", '{">": 1, "<=": 2.5}', "{exists: false}"]
)
def test_the_schema_knows_every_form_of_a_condition(written: str) -> None:
    assert fits_the_schema(with_change("plan: pro", f"plan: {written}", FUNNEL))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("plan: pro", "plan: ~"),
        ("plan: pro", "plan: [~]"),
        ("plan: pro", "plan: []"),
        ("plan: pro", "plan: [[pro]]"),
        ("plan: pro", "plan: {gt: 1}"),
        ("plan: pro", 'plan: {">": many}'),
        ("plan: pro", "plan: {exists: maybe}"),
        ("event: view", "event: []"),
        ("event: view", "event: 1"),
        ("country: properties.country", "country: 5"),
        ("country: properties.country", "country: a b"),
        ("combine: [country, device]", "combine: [country]"),
        ("combine: [country, device]", "combine: country"),
        ("order: ordered", "order: loose"),
        ("from: cart", "form: cart"),
        ("      both:", "".join(f"      d{n}: properties.d{n}\n" for n in range(6)) + "      both:"),
        ("half_life: 3d", "half_life: 3 days"),
    ],
)
def test_the_schema_refuses_what_the_config_refuses(old: str, new: str) -> None:
    text = with_change(old, new, FUNNEL)
    assert problems(text)
    assert not fits_the_schema(text)


Change = Callable[[dict[str, Any]], Any]


def asked(number: int, where: Any) -> Change:
    """A stage with conditions."""
    return lambda f: f["stages"][number].update(where=where)


def excluded(*exclusions: dict[str, Any]) -> Change:
    return lambda f: f.update(exclude=[{"event": "x", "from": "view", "to": "pay"} | exclusion for exclusion in exclusions])


COUNTED: dict[str, Change] = {
    "its name": lambda f: f.update(name="order"),
    "its source": lambda f: f.update(source="app"),
    "the conversion window": lambda f: f.update(conversion_window="31m"),
    "an event of a stage": lambda f: f["stages"][0].update(event="view"),
    "one event more": lambda f: f["stages"][0].update(event=["product_view", "view"]),
    "the order of stages": lambda f: f["stages"].reverse(),
    "one stage less": lambda f: f["stages"].pop(),
    "a stage's value": lambda f: f["stages"][3].update(value="properties.total"),
    "no value": lambda f: f["stages"][3].pop("value"),
    "one dimension less": lambda f: f["dimensions"].pop("channel"),
    "a dimension's name": lambda f: f["dimensions"].update(kanal=f["dimensions"].pop("channel")),
    "a dimension's field": lambda f: f["dimensions"].update(channel="properties.medium"),
    "the values allowed": lambda f: f["dimensions"]["device"]["allow"].append("tv"),
    "the order": lambda f: f.update(order="strict"),
    "a condition": asked(0, {"properties.plan": "pro"}),
    "an exclusion": excluded({}),
    "a combination": lambda f: f["dimensions"].update(both={"combine": ["channel", "device"]}),
    "how many values": lambda f: f["dimensions"].update(channel={"field": "properties.channel", "max_values": 7}),
}
SHOWN: dict[str, Change] = {
    "its title": lambda f: f.update(title="Shop"),
    "its description and owner": lambda f: f.update(description="what it says", owner="shop team"),
    "a stage's name and title": lambda f: f["stages"][0].update(name="look", title="Look"),
    "targets": lambda f: f["stages"][2].update(target=0.6, benchmark=0.5),
    "the order of a stage's events": lambda f: f["stages"][1]["event"].reverse(),
    "how a duration is written": lambda f: f.update(conversion_window="1800s"),
    "the order of allowed values": lambda f: f["dimensions"]["device"]["allow"].reverse(),
    "one event as a list": lambda f: f["stages"][0].update(event=["product_view"]),
    "the baseline": lambda f: f.update(baseline={"half_life": "1d", "by": "hour_of_week", "min_entries": 5}),
    "no conditions": asked(0, {}),
    "no exclusions": excluded(),
}
# What counts the same, and what does not, once there are conditions and exclusions.
ALIKE: dict[str, tuple[Change, Change]] = {
    "a value and a list of it": (asked(0, {"properties.a": "x"}), asked(0, {"properties.a": ["x"]})),
    "a value and `equals`": (asked(0, {"properties.a": 1}), asked(0, {"properties.a": {"equals": 1}})),
    "a number and its text": (asked(0, {"properties.a": [1, 2]}), asked(0, {"properties.a": ["1", 2.0]})),
    "the order of values": (asked(0, {"properties.a": ["x", "y"]}), asked(0, {"properties.a": ["y", "x", "y"]})),
    "the order of conditions": (
        asked(0, {"properties.a": 1, "properties.b": {">": 1, "<": 3}}),
        asked(0, {"properties.b": {"<": 3, ">": 1.0}, "properties.a": 1}),
    ),
    "the order of exclusions": (excluded({}, {"event": ["y", "z"]}), excluded({"event": ["z", "y"]}, {})),
}
OTHER: dict[str, tuple[Change, Change]] = {
    "a condition's stage": (asked(0, {"properties.a": 1}), asked(1, {"properties.a": 1})),
    "a condition's property": (asked(0, {"properties.a": 1}), asked(0, {"properties.b": 1})),
    "a condition's value": (asked(0, {"properties.a": "x"}), asked(0, {"properties.a": "y"})),
    "a condition's operator": (asked(0, {"properties.a": {">": 1}}), asked(0, {"properties.a": {">=": 1}})),
    "that it exists": (asked(0, {"properties.a": {"exists": True}}), asked(0, {"properties.a": {"exists": False}})),
    "the event of an exclusion": (excluded({}), excluded({"event": "y"})),
    "where an exclusion begins": (excluded({}), excluded({"from": "cart"})),
    "where an exclusion ends": (excluded({}), excluded({"to": "checkout"})),
    "a condition of an exclusion": (excluded({}), excluded({"where": {"properties.a": 1}})),
}


def definition_after(change: Change) -> int:
    document = yaml.safe_load(EXAMPLE)
    del document["alerts"]
    document["sources"].append({"name": "app", "topic": "taps"})
    change(document["funnels"][0])
    return Config.model_validate(document).funnels[0].definition


@pytest.mark.parametrize("what", COUNTED)
def test_the_definition_changes_with_what_is_counted(what: str) -> None:
    assert definition_after(COUNTED[what]) != definition_after(lambda _: None)


@pytest.mark.parametrize("what", SHOWN)
def test_the_definition_does_not_change_with_how_it_is_shown(what: str) -> None:
    assert definition_after(SHOWN[what]) == definition_after(lambda _: None)


@pytest.mark.parametrize("what", ALIKE)
def test_the_definition_does_not_change_with_how_a_condition_is_written(what: str) -> None:
    one, other = ALIKE[what]
    assert definition_after(one) == definition_after(other)


@pytest.mark.parametrize("what", OTHER)
def test_the_definition_changes_with_what_a_condition_asks(what: str) -> None:
    one, other = OTHER[what]
    assert definition_after(one) != definition_after(other)


def test_a_definition_is_the_same_in_every_process() -> None:
    """It is part of the keys in Redis: another value here means that every deployed count begins anew."""
    assert parse(EXAMPLE).funnels[0].definition == 1697693344
    assert parse(FUNNEL).funnels[0].definition == 1008193853


@pytest.mark.parametrize(("text", "seconds"), [("10s", 10), ("5m", 300), ("1h", 3600), ("7d", 604_800), ("0s", 0)])
def test_a_duration_is_seconds_that_remember_how_they_were_written(text: str, seconds: int) -> None:
    duration = Duration(text)
    assert (int(duration), duration.micros, str(duration)) == (seconds, seconds * 1_000_000, text)


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "1.5h", "5M", "5min", "1h30m", "9999999999s", " 5m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        Duration(text)


@pytest.mark.parametrize("text", ["5m\n", "٥m"])
def test_a_duration_has_nothing_after_it_and_plain_digits(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        Duration(text)


@pytest.mark.parametrize(("window", "bucket"), [("10s", 10), ("1h", 10), ("61m", 60), ("24h", 60), ("25h", 3600), ("30d", 3600)])
def test_wider_windows_have_wider_buckets(window: str, bucket: int) -> None:
    assert bucket_seconds(Duration(window)) == bucket


@pytest.mark.parametrize("text", ["sources: &a [*a, *a]\n", "a: &a [x]\nb: &b [*a, *a]\nsources: [*b, *b]\n"])
def test_an_alias_is_refused_before_it_can_grow(text: str) -> None:
    with pytest.raises(ConfigError, match="is an alias; a config has none; write the value out"):
        parse(text)


@pytest.mark.parametrize("value", ["x" * 65, "a\x1eb", "a\nb", ""])
def test_an_allowed_value_that_no_event_can_have_is_refused(value: str) -> None:
    dimensions = {"d": {"field": "properties.d", "allow": ["fine", value]}}
    stages = [{"name": "a", "event": "a"}, {"name": "b", "event": "b"}]
    funnel = {"name": "f", "source": "s", "conversion_window": "1m", "windows": ["1m"], "stages": stages, "dimensions": dimensions}
    with pytest.raises(ConfigError, match="can be no value"):
        parse(yaml.safe_dump({"sources": [{"name": "s", "topic": "t"}], "funnels": [funnel]}))


def test_of_very_many_problems_the_first_hundred_are_told() -> None:
    with pytest.raises(ConfigError) as refused:
        parse(f"funnels: [{'{name: x},' * 60}]")
    lines = str(refused.value).splitlines()
    assert len(lines) == 101
    assert lines[-1] == "config:1: and 141 more problems; mend these first"
