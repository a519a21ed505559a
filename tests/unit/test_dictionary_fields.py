"""Every field of the config is worded, or is known to mean nothing to a count or an alert: a new one cannot be forgotten."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from schemas.config import Config
from schemas.dictionary import Dictionary, Language
from streams.dictionary import dictionary
from streams.dictionary_diff import difference
from streams.dictionary_fields import FIELDS

BASE = yaml.safe_load(
    """
sources:
  - {name: web, topic: clicks}
  - {name: app, topic: taps}
funnels:
  - name: purchase
    source: web
    conversion_window: 30m
    windows: [5m, 1h]
    dimensions:
      channel: properties.channel
      device: {field: properties.device, allow: [ios, android]}
      both: {combine: [channel, device]}
    stages:
      - {name: view, event: product_view}
      - {name: cart, event: add_to_cart, where: {properties.a: {exists: true}}}
      - {name: checkout, event: begin_checkout}
      - {name: pay, event: purchase, target: 0.7}
    exclude: [{event: empty, from: view, to: cart}]
  - {name: other, source: web, conversion_window: 1h, windows: [1h], stages: [{name: a, event: a}, {name: view, event: b}, {name: pay, event: c}]}
alerts:
  - {name: low, funnel: purchase, stage: pay, window: 5m, below: 0.4, recover_above: 0.5, severity: warning, notify: [log]}
  - {name: leak, funnel: purchase, stage: pay, window: 5m, below: 0.4, detector: sequential}
  - {name: high, funnel: purchase, stage: pay, window: 5m, above: 0.8, recover_below: 0.7}
  - {name: fell, funnel: purchase, stage: pay, window: 5m, drop: {by: 0.3, from: median}}
channels:
  am: {type: alertmanager, url: "http://am:9093"}
  pd: {type: pagerduty, routing_key: key}
  hook: {type: webhook, url: "https://hooks.example/"}
  kafka: {type: kafka, topic: alerts}
  chat: {type: apprise, urls: ["json://chat.example"]}
  log: {type: log}
access:
  tokens: [{name: wall, hash: "sha256:%s"}]
"""
    % ("0" * 64)
)
CONDITION = "funnels.0.stages.1.where.properties/a"
LIMIT = {"per": "5m", "most": 3}

# Model.field: the places that another value of it is written at, and the value.
OTHER: dict[str, dict[str, Any]] = {
    "Source.name": {"sources.1.name": "phone"},
    "Source.topic": {"sources.0.topic": "hits"},
    "Source.entity_key": {"sources.0.entity_key": False},
    "Source.trust_key": {"sources.0.trust_key": True},
    "Source.start": {"sources.0.start": "latest"},
    "Source.allowed_lateness": {"sources.0.allowed_lateness": "2m"},
    "Source.max_skew": {"sources.0.max_skew": "6m"},
    "Source.format": {"sources.0.format": "avro"},
    "Source.preset": {"sources.0.preset": "segment"},
    "Source.dead_letter": {"sources.0.dead_letter": "bad"},
    "Source.record_bytes_max": {"sources.0.record_bytes_max": 2_000_000},
    "Source.reject_ratio_max": {"sources.0.reject_ratio_max": 0.5},
    "Source.rejects_in_a_row_max": {"sources.0.rejects_in_a_row_max": 5},
    **{f"Fields.{name}": {"sources.0.fields": {name: "elsewhere"}} for name in FIELDS["Fields"]},
    "Funnel.name": {"funnels.1.name": "another"},
    "Funnel.title": {"funnels.0.title": "Shop"},
    "Funnel.description": {"funnels.0.description": "To buy"},
    "Funnel.owner": {"funnels.0.owner": "shop team"},
    "Funnel.source": {"funnels.0.source": "app"},
    "Funnel.order": {"funnels.0.order": "strict"},
    "Funnel.conversion_window": {"funnels.0.conversion_window": "45m"},
    "Funnel.windows": {"funnels.0.windows": ["5m", "10m", "1h"]},
    "Funnel.exclude": {"funnels.0.exclude": []},
    "Stage.name": {"funnels.0.stages.2.name": "till"},
    "Stage.event": {"funnels.0.stages.2.event": "begin"},
    "Stage.where": {"funnels.0.stages.2.where": {"properties.a": 1}},
    "Stage.title": {"funnels.0.stages.2.title": "At the till"},
    "Stage.value": {"funnels.0.stages.2.value": "properties.amount"},
    "Stage.target": {"funnels.0.stages.3.target": 0.8},
    "Stage.benchmark": {"funnels.0.stages.3.benchmark": 0.6},
    "Exclusion.event": {"funnels.0.exclude.0.event": "leave"},
    "Exclusion.where": {"funnels.0.exclude.0.where": {"properties.a": 1}},
    "Exclusion.from_": {"funnels.0.exclude.0": {"event": "empty", "from": "cart", "to": "pay"}},
    "Exclusion.to": {"funnels.0.exclude.0.to": "pay"},
    "Condition.equals": {CONDITION: {"equals": "x"}},
    "Condition.in_": {CONDITION: {"in": ["x", "y"]}},
    "Condition.exists": {CONDITION: {"exists": False}},
    "Condition.above": {CONDITION: {">": 1}},
    "Condition.at_least": {CONDITION: {">=": 1}},
    "Condition.below": {CONDITION: {"<": 1}},
    "Condition.at_most": {CONDITION: {"<=": 1}},
    "Condition.matches": {CONDITION: {"matches": "x"}},
    "Dimension.field": {"funnels.0.dimensions.channel": "properties.from"},
    "Dimension.combine": {"funnels.0.dimensions.both": {"combine": ["device", "channel"]}},
    "Dimension.allow": {"funnels.0.dimensions.device.allow": ["ios"]},
    "Dimension.max_values": {"funnels.0.dimensions.channel": {"field": "properties.channel", "max_values": 9}},
    "Baseline.half_life": {"funnels.0.baseline": {"half_life": "14d"}},
    "Baseline.by": {"funnels.0.baseline": {"by": "hour_of_week"}},
    "Baseline.min_entries": {"funnels.0.baseline": {"min_entries": 500}},
    "Rule.name": {"alerts.0.name": "lower"},
    "Rule.funnel": {"alerts.0.funnel": "other"},
    "Rule.stage": {"alerts.0.stage": "cart"},
    "Rule.basis": {"alerts.0.basis": "entries"},
    "Rule.window": {"alerts.0.window": "10m"},
    "Rule.long_window": {"alerts.0.long_window": "1h"},
    "Rule.widen_to": {"alerts.0.widen_to": "1h"},
    "Rule.below": {"alerts.0.below": 0.45},
    "Rule.above": {"alerts.2.above": 0.9},
    "Rule.below_target": {"alerts.1.below": None, "alerts.1.below_target": True},
    "Rule.detector": {"alerts.0.detector": "sequential"},
    "Rule.effect": {"alerts.1.effect": 0.5},
    "Rule.run_length": {"alerts.1.run_length": "30d"},
    "Rule.for_": {"alerts.0.for": "2m"},
    "Rule.keep_firing_for": {"alerts.0.keep_firing_for": "2m"},
    "Rule.recover_above": {"alerts.0.recover_above": 0.6},
    "Rule.recover_below": {"alerts.2.recover_below": 0.6},
    "Rule.min_entrants": {"alerts.0.min_entrants": 50},
    "Rule.confidence": {"alerts.0.confidence": 0.99},
    "Rule.by": {"alerts.0.by": ["device"]},
    "Rule.severity": {"alerts.0.severity": "page"},
    "Rule.notify": {"alerts.0.notify": ["log", "am"]},
    "Rule.runbook": {"alerts.0.runbook": "https://wiki.example"},
    "Drop.by": {"alerts.3.drop.by": 0.2},
    "Drop.from_": {"alerts.3.drop.from": "yesterday"},
    "Drop.over": {"alerts.3.drop.over": "21d"},
    "Drop.recover_by": {"alerts.3.drop.recover_by": 0.1},
    "Pipeline.for_": {"pipeline": {"for": "5m"}},
    "Pipeline.notify": {"pipeline": {"notify": ["am"]}},
    "Pipeline.severity": {"pipeline": {"severity": "info"}},
    "Pipeline.runbook": {"pipeline": {"runbook": "https://wiki.example"}},
    "Config.channels": {"channels.more": {"type": "log"}},
    "Limit.per": {"channels.log.limit": {"per": "5m"}},
    "Limit.most": {"channels.log.limit": {"most": 3}},
    "AlertmanagerChannel.type": {"channels.am": {"type": "log"}},
    "AlertmanagerChannel.limit": {"channels.am.limit": LIMIT},
    "AlertmanagerChannel.allow": {"channels.am.allow": ["localhost"]},
    "AlertmanagerChannel.url": {"channels.am.url": "http://other:9093"},
    "AlertmanagerChannel.resend": {"channels.am.resend": "2m"},
    "AlertmanagerChannel.heartbeat": {"channels.am.heartbeat": "1m"},
    "PagerdutyChannel.type": {"channels.pd": {"type": "log"}},
    "PagerdutyChannel.limit": {"channels.pd.limit": LIMIT},
    "PagerdutyChannel.allow": {"channels.pd.allow": ["localhost"]},
    "PagerdutyChannel.routing_key": {"channels.pd.routing_key": "sesame"},
    "PagerdutyChannel.url": {"channels.pd.url": "http://pd.example"},
    "PagerdutyChannel.heartbeat": {"channels.pd.heartbeat": "1m"},
    "WebhookChannel.type": {"channels.hook": {"type": "log"}},
    "WebhookChannel.limit": {"channels.hook.limit": LIMIT},
    "WebhookChannel.allow": {"channels.hook.allow": ["localhost"]},
    "WebhookChannel.url": {"channels.hook.url": "https://sesame.example"},
    "WebhookChannel.headers": {"channels.hook.headers": {"Authorization": "Bearer sesame"}},
    "WebhookChannel.secret": {"channels.hook.secret": "sesame"},
    "WebhookChannel.heartbeat": {"channels.hook.heartbeat": "1m"},
    "KafkaChannel.type": {"channels.kafka": {"type": "log"}},
    "KafkaChannel.limit": {"channels.kafka.limit": LIMIT},
    "KafkaChannel.topic": {"channels.kafka.topic": "told"},
    "KafkaChannel.brokers": {"channels.kafka.brokers": "other:9092"},
    "KafkaChannel.heartbeat": {"channels.kafka.heartbeat": "1m"},
    "AppriseChannel.type": {"channels.chat": {"type": "log"}},
    "AppriseChannel.limit": {"channels.chat.limit": LIMIT},
    "AppriseChannel.allow": {"channels.chat.allow": ["localhost"]},
    "AppriseChannel.urls": {"channels.chat.urls": ["json://sesame.example"]},
    "AppriseChannel.picture": {"channels.chat.picture": False},
    "LogChannel.type": {"channels.log": {"type": "kafka", "topic": "t"}},
    "LogChannel.limit": {"channels.log.limit": LIMIT},
    "Access.tokens": {"access.tokens": []},
    "Access.cors": {"access.cors": ["https://wiki.example"]},
    "Access.metrics": {"access.metrics": "token"},
    "Token.name": {"access.tokens.0.name": "sesame"},
    "Token.hash": {"access.tokens.0.hash": f"sha256:{'1' * 64}"},
    "Token.scopes": {"access.tokens.0.scopes": ["read", "entities"]},
    "Token.funnels": {"access.tokens.0.funnels": ["purchase"]},
    "Token.limit": {"access.tokens.0.limit": LIMIT},
    "Token.concurrent": {"access.tokens.0.concurrent": 9},
    "Token.expires": {"access.tokens.0.expires": "2100-01-01"},
    "Quota.per": {"access.tokens.0.limit": {"per": "5m"}},
    "Quota.most": {"access.tokens.0.limit": {"most": 3}},
}
RENAMED = {"Stage.name", "Rule.name"}  # names are all that changes


@cache
def config(field: str = "") -> Config:
    """The base, or the base with another value of a field."""
    raw = copy.deepcopy(BASE)
    for place, value in OTHER.get(field, {}).items():
        put(raw, [part.replace("/", ".") for part in place.split(".")], value)
    return Config.model_validate(raw, by_name=False)


def put(raw: Any, path: list[str], value: Any) -> None:
    for part in path[:-1]:
        raw = raw[int(part)] if isinstance(raw, list) else raw[part]
    last: Any = int(path[-1]) if isinstance(raw, list) else path[-1]
    if value is None:
        del raw[last]
    else:
        raw[last] = value


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    """All models that a config is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models(field.annotation)
            for extra in field.metadata:
                yield from models(getattr(extra, "annotation", None))
    for part in get_args(annotation):
        yield from models(part)


def worded(found: Dictionary) -> dict[str, Any]:
    """All that it says; the number of a definition is no word."""
    return found.model_dump(exclude={"funnels": {"__all__": {"definition"}}})


def test_every_field_of_every_model_of_the_config_has_a_role_and_no_other_has() -> None:
    fields = {model.__name__: set(model.model_fields) for model in models(Config)}
    assert fields == {model: set(named) for model, named in FIELDS.items()}


def test_the_config_holds_the_models_that_one_would_expect() -> None:
    assert {"Source", "Fields", "Funnel", "Stage", "Condition", "Rule", "Drop", "Limit", "LogChannel"} <= {
        m.__name__ for m in models(Config)
    }


def test_every_field_is_tried_with_another_value_below() -> None:
    roles = {f"{model}.{name}": field[0] for model, named in FIELDS.items() for name, field in named.items()}
    assert {name for name, role in roles.items() if role != "parts"} == set(OTHER)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("field", [name for name in OTHER if FIELDS[name.split(".")[0]][name.split(".")[1]][0] in ("meaning", "words")])
def test_another_value_of_a_field_with_a_meaning_or_words_is_another_dictionary(field: str, language: Language) -> None:
    assert worded(dictionary(config(field), language)) != worded(dictionary(config(), language))


@pytest.mark.parametrize("field", [name for name in OTHER if FIELDS[name.split(".")[0]][name.split(".")[1]][0] == "running"])
def test_another_value_of_a_field_without_meaning_is_the_same_dictionary(field: str) -> None:
    assert dictionary(config(field)) == dictionary(config())


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("field", list(OTHER))
def test_the_difference_tells_of_every_field_by_what_it_is(field: str, language: Language) -> None:
    model, name = field.split(".")
    found = difference(config(), config(field), language)
    kinds = {change.kind for change in found.changes}
    role = "words" if field in RENAMED else FIELDS[model][name][0]
    if role == "meaning":
        assert not found.same
        assert kinds <= {"meaning", "anew", "words"}
    else:
        assert found.same
        assert kinds == {role}


@pytest.mark.parametrize("field", list(OTHER))
def test_a_definition_that_is_another_is_told_and_nothing_else_is(field: str) -> None:
    old, new = config(), config(field)
    before, after = ({f.name: f.definition for f in dictionary(one).funnels} for one in (old, new))
    renamed = {"another"} if field == "Funnel.name" else set()
    told = {change.funnel for change in difference(old, new).changes if change.kind == "anew"}
    assert told == {name for name in after if name in before and before[name] != after[name]} | renamed


def test_no_value_of_a_channel_is_told_since_it_may_be_a_secret() -> None:
    for field in OTHER:
        if field.split(".")[0].endswith("Channel"):
            assert "sesame" not in difference(config(), config(field)).model_dump_json()
    assert "sesame" not in dictionary(config("WebhookChannel.headers")).model_dump_json()
