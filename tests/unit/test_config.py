"""What a config file says, what is refused with its line, and what makes counts begin anew."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

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


def problems(text: str) -> list[str]:
    """What the text is refused with, a line a problem."""
    with pytest.raises(ConfigError) as refused:
        parse(text, "shop.yaml")
    return str(refused.value).splitlines()


def with_change(old: str, new: str) -> str:
    assert EXAMPLE.count(old) == 1
    return EXAMPLE.replace(old, new)


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
]


@pytest.mark.parametrize(("old", "new", "said"), REFUSED, ids=[said for _, _, said in REFUSED])
def test_a_mistake_is_refused_with_file_line_and_remedy(old: str, new: str, said: str) -> None:
    text = with_change(old, new)
    changed_on = EXAMPLE[: EXAMPLE.index(old)].count("\n") + 1
    found = [line for line in problems(text) if said in line]
    assert len(found) == 1
    assert found[0].startswith(tuple(f"shop.yaml:{changed_on + n}: " for n in range(new.count("\n") + 1)))


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


def test_every_mistake_is_told_at_once() -> None:
    text = with_change("stage: pay ", "stage: pya ").replace("source: web", "source: wbe").replace("[oncall]", "[oncal]")
    assert [line.split(" ")[0] for line in problems(text)] == ["shop.yaml:12:", "shop.yaml:24:", "shop.yaml:33:"]


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
        ("sources: " + "[" * 60 + "]" * 60, "is nested too deeply; a config needs six levels"),
        ("sources: " + "[" * 20_000 + "]" * 20_000, "is not YAML"),
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


def test_a_window_shorter_than_the_conversion_is_warned_of() -> None:
    (warning,) = warnings_of(parse(EXAMPLE))
    assert "'CheckoutToPayLow': its window (5m) is shorter than the conversion window of 'purchase' (30m)" in warning
    assert warnings_of(parse(with_change("    window: 5m\n", "    window: 30m\n"))) == []


def test_a_rule_that_notifies_nobody_is_warned_of() -> None:
    text = with_change("    notify: [oncall]\n", "").replace("    window: 5m\n", "    window: 1h\n")
    assert warnings_of(parse(text)) == ["alert 'CheckoutToPayLow' notifies nobody; name a channel in `notify`"]


Change = Callable[[dict[str, Any]], Any]

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


def test_a_definition_is_the_same_in_every_process() -> None:
    """It is part of the keys in Redis: another value here means that every deployed count begins anew."""
    assert parse(EXAMPLE).funnels[0].definition == 1438537553


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
