"""Records of well-known kinds are read by a preset, by the engine and by its second opinion alike."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from schemas.config import Config, parse
from schemas.errors import ConfigError
from schemas.event import Batch, iso
from schemas.presets import PRESETS
from streams.audit import Audit
from streams.counting import ShardCount
from streams.dictionary import dictionary
from streams.plan import Plan
from streams.records import carried_headers, to_json_of
from streams.recount import recount
from streams.replay import replay

CONFIG = """
sources: [{{name: web, topic: clicks, entity_key: false, preset: {preset}{more}}}]
funnels:
  - name: buy
    source: web
    conversion_window: 1h
    windows: [1h]
    dimensions: {{campaign: properties.context.campaign.source, plan: properties.plan}}
    stages:
      - {{name: home, event: [page, com.shop.viewed], where: {{properties.name: Home}}}}
      - {{name: pay, event: [Order Completed, com.shop.paid], value: properties.revenue}}
"""
NEVER_US = 10**18


@dataclass
class Record:
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


def config(preset: str, more: str = "") -> Config:
    return parse(CONFIG.format(preset=preset, more=more))


def decoded(found: Config, *records: Record) -> Batch:
    source = found.sources[0]
    to_json = to_json_of(source)
    values = [r.value for r in records] if to_json is None else to_json(records, {})
    return Plan(found, source).decoder.decode(values, [None] * len(records), NEVER_US, 0)


def said(**more: Any) -> Record:
    return Record(json.dumps(more).encode())


def call(kind: str, **more: Any) -> bytes:
    usual = {
        "type": kind,
        "timestamp": "2026-05-01T10:00:00.000Z",
        "anonymousId": "a-1",
        "messageId": f"m-{len(str(more))}",
        "userId": None,
    }
    return json.dumps({**usual, **more}).encode()


@pytest.mark.parametrize("preset", ["segment", "rudderstack"])
def test_a_track_call_is_the_event_of_its_name_and_any_other_call_that_of_its_type(preset: str) -> None:
    batch = decoded(
        config(preset),
        Record(call("track", event="Order Completed", userId="u-1", properties={"revenue": 12.5})),
        Record(call("page", name="Home")),
        Record(call("screen", name="Cart", event="")),
        Record(call("identify", userId="u-1", traits={"plan": "pro"})),
        Record(call("group", userId=7, groupId="g", traits={})),
    )
    assert not batch.rejected
    assert batch.names == ["Order Completed", "page", "screen", "identify", "group"]
    assert batch.entities == ["u-1", "a-1", "a-1", "u-1", "7"]
    assert batch.ids[0].startswith("m-")
    assert iso(batch.times[0]) == "2026-05-01T10:00:00Z"


def test_what_a_call_says_beside_its_properties_is_found_among_them() -> None:
    context = {"campaign": {"source": "mail"}, "page": {"path": "/"}}
    lines = [
        call("page", name="Home", context=context),
        call("page", name="Home", anonymousId="a-2", properties={"name": "Shop"}),
        call("page", anonymousId="a-3", properties={"name": "Home", "context": {"campaign": {"source": "ads"}}}, context=context),
        call("page", name="Home", anonymousId="a-4", context=None, properties=None),
        call("page", name="Home", anonymousId="a-5", context="odd"),
        call("track", event="Order Completed", properties={"revenue": 5}),
    ]
    found = replay(config("segment"), lines).to_json()
    stages = found["funnels"]["buy"]["stages"]  # all is of one moment, where the lower stage comes first
    assert [stage["reached"] for stage in stages] == [3, 1]
    assert {v: d["stages"][0]["reached"] for v, d in found["funnels"]["buy"]["dimensions"]["campaign"].items()} == {
        "mail": 1,
        "ads": 1,
        "__none__": 1,
    }
    assert found["rejected"] == {"bad_type": 1}


@pytest.mark.parametrize("preset", ["segment", "rudderstack"])
def test_the_second_opinion_reads_calls_as_the_engine_does(preset: str) -> None:
    lines = [
        *(call("page", name="Home", timestamp=1_777_000_000_000 + n, anonymousId=f"a-{n % 7}", messageId=f"v{n}") for n in range(40)),
        *(
            call("track", event="Order Completed", timestamp=1_777_000_001_000 + n, anonymousId=f"a-{n}", messageId=f"b{n}",
                 properties={"revenue": n}, context={"campaign": {"source": "mail"}})
            for n in range(9)
        ),
        *(call(kind, **odd) for kind in ("page", "track") for odd in ODD),
    ]  # fmt: skip
    setup = config(preset)
    ours, theirs = replay(setup, lines).to_json(), recount(setup, "web", [(None, line) for line in lines], keyed=False)
    fates = {**{name: ours[name] for name in ("applied", "filtered", "late", "duplicate")}, "rejected": sum(ours["rejected"].values())}
    assert {name: count for name, count in fates.items() if count} == {name: count for name, count in theirs.fates.items() if count}
    assert fates["rejected"] > 8
    cells = theirs.cells()
    assert (
        ours["funnels"]["buy"]["stages"][1]["reached"] == 7 == next(n for cell, n in cells.items() if "pay" in cell and "reached" in cell)
    )


@pytest.mark.parametrize("preset", ["segment", "cloudevents"])
def test_the_self_audit_of_a_worker_finds_nothing_in_records_of_a_preset(preset: str) -> None:
    """What the engine counts of every person in a chunk, good and bad records, held against its second opinion."""
    setup = config(preset)
    source, plan = setup.sources[0], Plan(setup, setup.sources[0])
    calls = [call("page", name="Home", timestamp=1_777_000_000_000 + n, anonymousId=f"a-{n % 7}", messageId=f"v{n}") for n in range(40)]
    calls += [
        call("track", event="Order Completed", timestamp=1_777_000_001_000, anonymousId=f"a-{n}", messageId=f"b{n}") for n in range(9)
    ]
    calls += [call("page", anonymousId="a-1", **odd) for odd in ODD if "anonymousId" not in odd]
    binary = [
        Record(b'{"name": "Home"}', tuple({**dict(BINARY), "ce_subject": b"u%d" % (n % 5), "ce_id": b"%d" % n}.items())) for n in range(30)
    ]
    records = [Record(line) for line in calls] if preset == "segment" else [*binary, Record(b"{", BINARY), Record(b"{}", BINARY[:-2])]
    to_json = to_json_of(source)
    values = [record.value for record in records] if to_json is None else to_json(records, {})
    audit = Audit(plan, 1.0)
    count = ShardCount(plan, -1, audit)
    pending = count.decode(0, len(values), values, [None] * len(values), 1_778_000_000_000_000)
    while pending.unknown:
        count.learn(pending, {registry: dict.fromkeys(texts, True) for registry, texts in pending.unknown.items()})
    count.fold(pending)
    found = audit.check(1_778_000_100_000_000, count.watermark_us)
    assert found is not None
    assert (found.events > 25, found.more, found.differing) == (True, 0, ())


ODD: tuple[dict[str, Any], ...] = (
    {"context": 5}, {"traits": []}, {"type": 5}, {"type": None, "event": None}, {"event": 3}, {"properties": "x"},
    {"name": {"deep": 1}}, {"context": {"campaign": "x"}}, {"timestamp": None}, {"anonymousId": None}, {"messageId": True},
)  # fmt: skip


def test_a_structured_cloud_event_is_read_as_it_is() -> None:
    batch = decoded(
        config("cloudevents"),
        said(
            specversion="1.0",
            id="1",
            source="/shop",
            type="com.shop.viewed",
            time="2026-05-01T10:00:00Z",
            subject="u-1",
            data={"name": "Home"},
        ),
        Record(
            json.dumps({"id": "2", "type": "com.shop.paid", "time": "2026-05-01T10:00:00.5+02:00", "subject": "u-2"}).encode(),
            (("content-type", b"application/cloudevents+json; charset=UTF-8"),),
        ),
    )
    assert (batch.names, batch.entities, batch.ids) == (["com.shop.viewed", "com.shop.paid"], ["u-1", "u-2"], ["1", "2"])
    assert [iso(at) for at in batch.times] == ["2026-05-01T10:00:00Z", "2026-05-01T08:00:00.500000Z"]


BINARY = (
    ("ce_specversion", b"1.0"), ("ce_id", b"7"), ("ce_type", b"com.shop.paid"), ("ce_source", b"/shop"),
    ("ce_time", b"2026-05-01T10:00:00Z"), ("ce_subject", "u-ü".encode()),
)  # fmt: skip


@pytest.mark.parametrize("kind", [b"application/json", b"application/vnd.shop+json; charset=utf-8", None])
def test_a_binary_cloud_event_has_its_attributes_in_headers_and_its_data_as_the_payload(kind: bytes | None) -> None:
    headers = BINARY if kind is None else (*BINARY, ("content-type", kind), ("trace", b"\xff"))
    batch = decoded(config("cloudevents"), Record(b'{"plan": "pro", "revenue": 3}', headers))
    assert (batch.names, batch.entities, batch.ids) == (["com.shop.paid"], ["u-ü"], ["7"])
    assert json.loads(batch.raws[0])["data"] == {"plan": "pro", "revenue": 3}


@pytest.mark.parametrize(("value", "kind"), [(None, b"application/json"), (b"", b"application/json"), (b"<order/>", b"application/xml")])
def test_a_binary_cloud_event_counts_without_data_that_can_be_looked_into(value: bytes | None, kind: bytes) -> None:
    batch = decoded(config("cloudevents"), Record(value, (*BINARY, ("content-type", kind))))
    assert batch.names == ["com.shop.paid"]
    assert "data" not in json.loads(batch.raws[0])


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (Record(b'1}, {"subject": "victim"', BINARY), "bad_json"),
        (Record(b'1,"subject":"victim"', BINARY), "bad_json"),
        (Record(b"{", BINARY), "bad_json"),
        (Record(b"{}", (*BINARY[:-1], ("ce_subject", b"\xff"))), "bad_encoding"),
        (Record(b"{}", BINARY[:-1]), "no_entity"),
        (Record(b"{}", BINARY[:4]), "no_timestamp"),
        (Record(b"[{}]", (("content-type", b"application/cloudevents-batch+json"),)), "bad_type"),
        (Record(b'"' + b"x" * 1_000_000 + b'"', BINARY), "too_large"),
        (Record(None), "null_value"),
    ],
)
def test_what_is_no_cloud_event_is_rejected_and_the_others_are_not(record: Record, reason: str) -> None:
    batch = decoded(config("cloudevents"), Record(b"{}", BINARY), record, Record(b"{}", BINARY))
    assert [(r.index, r.reason) for r in batch.rejected] == [(1, reason)]
    assert len(batch) == 2


def test_fields_go_over_those_of_the_preset() -> None:
    found = config("cloudevents", ", fields: {user_id: data.customer}")
    assert found.sources[0].fields.event == "type"
    batch = decoded(found, Record(b'{"customer": 9}', BINARY))
    assert batch.entities == ["9"]


def test_a_copy_of_a_binary_cloud_event_keeps_its_attributes() -> None:
    source = config("cloudevents").sources[0]
    record = Record(b"{}", (*BINARY, ("content-type", b"application/json"), ("trace", b"1")))
    copy = Record(b"{}", tuple(carried_headers(source, record)))
    assert decoded(config("cloudevents"), copy).raws == decoded(config("cloudevents"), record).raws
    assert carried_headers(config("segment").sources[0], record) == []


def test_plain_json_passes_untouched() -> None:
    assert to_json_of(parse(CONFIG.format(preset="segment", more="")).sources[0]) is None


def test_an_unknown_preset_or_format_is_refused_with_what_there_is() -> None:
    for given in ("preset: mixpanel", "preset: [segment]", "preset: segment, format: protobuf", "preset: segment, fields: 5"):
        with pytest.raises(ConfigError) as refused:
            parse(CONFIG.format(preset="segment", more="").replace("preset: segment", given))
        assert "sources[0]" in str(refused.value), given


FLAT = """
sources: [{name: web, topic: clicks, fields: {timestamp: at, properties: .}}]
funnels:
  - name: buy
    source: web
    conversion_window: 1h
    windows: [1h]
    dimensions: {channel: properties.channel, browser: properties.device.browser}
    stages: [{name: home, event: view}, {name: pay, event: pay, value: properties.amount, where: {properties.user_id: {exists: true}}}]
"""


def test_properties_may_lie_beside_the_other_fields() -> None:
    people = [
        ("a", {"channel": "ads", "device": {"browser": "x"}}),
        ("b", {"device": "odd"}),
        ("c", {"channel": None, "device": None}),
        ("d", {"event": "view"}),
    ]
    lines = [json.dumps({"event": "view", "at": 1_777_000_000, "user_id": who, **more}).encode() for who, more in people]
    lines += [json.dumps({"event": "pay", "at": 1_777_000_001, "user_id": who, "amount": 2.5}).encode() for who in "ab"]
    setup = parse(FLAT)
    found, theirs = replay(setup, lines).to_json(), recount(setup, "web", [(None, line) for line in lines], keyed=False)
    assert [(s["reached"], s["value"]) for s in found["funnels"]["buy"]["stages"]] == [(4, 0.0), (2, 5.0)]
    assert {v: d["stages"][0]["reached"] for v, d in found["funnels"]["buy"]["dimensions"]["channel"].items()} == {"ads": 1, "__none__": 3}
    assert found["funnels"]["buy"]["dimensions"]["browser"]["x"]["stages"][1]["reached"] == 1
    assert theirs.fates["applied"] == 6
    assert theirs.cells()[("buy", "pay", "", "", "value")] == 5.0


@pytest.mark.parametrize(("preset", "told"), [("segment", True), ("rudderstack", True), ("cloudevents", False)])
def test_the_dictionary_says_what_a_call_counts_as(preset: str, told: bool) -> None:
    counted = dictionary(config(preset)).sources[0].counted
    assert any(text.startswith("A track call is the event that it names") for text in counted) == told
    assert any(PRESETS[preset].fields["event_id"] in text for text in counted)
