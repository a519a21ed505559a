"""Records in a registry's wire format become JSON, or are rejected with a reason; nothing they hold ends the process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from schemas.config import Source
from schemas.event import EventDecoder, Reject
from streams.payloads import avro_reader, json_reader
from streams.records import schema_ids, to_json_of
from tests.parts.registry import avro, framed

CLICK = {
    "type": "record",
    "name": "Click",
    "namespace": "shop",
    "fields": [
        {"name": "event", "type": {"type": "enum", "name": "Kind", "symbols": ["view", "pay"]}},
        {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "user_id", "type": ["null", "string", "long"]},
        {"name": "properties", "type": {"type": "map", "values": ["null", "string", "double", "boolean"]}},
    ],
}
AT = datetime(2026, 5, 1, 10, 0, 0, 123_456, tzinfo=timezone.utc)
RECORD = {"event": "pay", "timestamp": AT, "user_id": "u-1", "properties": {"amount": 12.5, "gift": True, "coupon": None}}


@dataclass
class Record:
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


def source(**more: Any) -> Source:
    return Source(name="web", topic="clicks", **more)


def reasons(form: str, readers: dict[int, Any], *values: bytes | None) -> list[str]:
    """Why each is rejected; "" where it is not."""
    found = source(format=form)
    to_json = to_json_of(found)
    assert to_json is not None
    decoder = EventDecoder(found.fields, [])
    batch = decoder.decode(to_json([Record(value) for value in values], readers), [None] * len(values), 10**18, 0)
    by_index = {rejected.index: rejected.reason for rejected in batch.rejected}
    return [by_index.get(place, "") for place in range(len(values))]


def test_an_avro_record_is_the_event_that_was_written() -> None:
    to_json = to_json_of(source(format="avro"))
    assert to_json is not None
    (value,) = to_json([Record(framed(3, avro(CLICK, RECORD)))], {3: avro_reader(CLICK, {})})
    assert value is not None
    batch = EventDecoder(source().fields, []).decode([value], [None], 10**18, 0)
    assert (batch.names, batch.entities, batch.times) == (["pay"], ["u-1"], [round(AT.timestamp() * 1_000_000)])
    assert json.loads(value)["properties"] == RECORD["properties"]


def test_what_json_has_no_word_for_has_a_text() -> None:
    schema = {
        "type": "record",
        "name": "Odd",
        "fields": [
            {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
            {"name": "raw", "type": "bytes"},
            {"name": "day", "type": {"type": "int", "logicalType": "date"}},
            {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        ],
    }
    id_ = UUID(int=5)
    record = {"price": Decimal("12.50"), "raw": b"\x00\xff", "day": AT.date(), "id": id_, "at": AT.replace(microsecond=0)}
    assert json.loads(avro_reader(schema, {})(avro(schema, record))) == {
        "price": "12.50", "raw": "\x00\xff", "day": "2026-05-01", "id": str(id_), "at": "2026-05-01T10:00:00+00:00",
    }  # fmt: skip


def test_an_avro_schema_may_refer_to_others() -> None:
    inner = {"type": "record", "name": "Page", "namespace": "shop", "fields": [{"name": "path", "type": "string"}]}
    outer = {
        "type": "record",
        "name": "View",
        "namespace": "shop",
        "fields": [{"name": "page", "type": "shop.Page"}, {"name": "b", "type": "Page"}],
    }
    assert json.loads(avro_reader(outer, {"shop.Page": inner})(b"\x02a\x02b")) == {"page": {"path": "a"}, "b": {"path": "b"}}


def test_a_record_without_a_schema_id_with_an_unknown_one_or_with_bad_bytes_is_rejected_for_that() -> None:
    good = framed(3, avro(CLICK, RECORD))
    readers = {3: avro_reader(CLICK, {}), 4: Reject("unknown_schema", "schema 4 is PROTOBUF")}
    cases = {
        good: "",
        b'{"event": "pay"}': "no_schema_id",
        b"": "no_schema_id",
        b"\x00\x00\x00": "no_schema_id",
        framed(9, good[5:]): "unknown_schema",
        framed(4, good[5:]): "unknown_schema",
        good[:-1]: "bad_schema",
        good + b"x": "bad_schema",
        framed(3, b""): "bad_schema",
        framed(3, b"\x7f" * 30): "bad_schema",
        framed(3, b"\x02" + b"\xff" * 10): "bad_schema",
    }
    assert reasons("avro", readers, *cases, None) == [*cases.values(), "null_value"]
    assert schema_ids([Record(value) for value in (*cases, None)]) == {3, 4, 9}


def test_no_cut_and_no_flipped_byte_of_an_avro_record_raises_anything_but_a_reject() -> None:
    reader, good = avro_reader(CLICK, {}), avro(CLICK, RECORD)
    broken = [good[:end] for end in range(len(good))]
    broken += [good[:at] + bytes([byte]) + good[at + 1 :] for at in range(len(good)) for byte in (0, 1, 2, 127, 128, 255)]
    found = [outcome(reader, payload) for payload in broken]
    assert found.count("bad_schema") > len(good)


def outcome(reader: Any, payload: bytes) -> str:
    try:
        json.loads(reader(payload))
    except Reject as reject:
        return reject.reason
    return ""


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "record", "name": "N", "fields": [{"name": "next", "type": ["null", "N"]}]},
        {"type": "record", "name": "N", "fields": [{"name": "all", "type": {"type": "array", "items": "N"}}]},
        {"type": "record", "name": "N", "fields": [{"name": "n", "type": "N"}, {"name": "all", "type": {"type": "array", "items": "N"}}]},
        {
            "type": "array",
            "items": {"type": "record", "name": "N", "fields": [{"name": "n", "type": "N"}]},
        },
        {
            "type": "record",
            "name": "N",
            "fields": [
                {"name": "m", "type": {"type": "record", "name": "M", "fields": [{"name": "n", "type": {"type": "map", "values": "N"}}]}}
            ],
        },
    ],
)
def test_a_type_that_holds_itself_is_not_read_since_its_bytes_could_end_the_process(schema: Any) -> None:
    with pytest.raises(ValueError, match="holds itself"):
        avro_reader(schema, {})


@pytest.mark.parametrize(
    "items", ["null", {"type": "null"}, {"type": "record", "name": "E", "fields": []}, {"type": "fixed", "name": "F", "size": 0}]
)
def test_an_array_of_what_takes_no_bytes_is_not_read_since_it_could_have_no_end(items: Any) -> None:
    with pytest.raises(ValueError, match="takes no bytes"):
        avro_reader({"type": "record", "name": "R", "fields": [{"name": "all", "type": {"type": "array", "items": items}}]}, {})


def test_a_type_that_is_named_often_without_holding_itself_is_read() -> None:
    inner = {"type": "record", "name": "P", "fields": [{"name": "x", "type": "int"}]}
    schema = {
        "type": "record",
        "name": "Q",
        "fields": [{"name": "a", "type": inner}, {"name": "b", "type": "P"}, {"name": "c", "type": ["null", "P"]}],
    }
    assert json.loads(avro_reader(schema, {})(b"\x02\x04\x02\x06")) == {"a": {"x": 1}, "b": {"x": 2}, "c": {"x": 3}}


@pytest.mark.parametrize(
    "schema", [{"type": "record"}, {"type": "record", "name": "A", "fields": [{"name": "b", "type": "Nowhere"}]}, 5, "bogus"]
)
def test_what_is_no_avro_schema_says_so(schema: Any) -> None:
    with pytest.raises(ValueError, match="no Avro schema"):
        avro_reader(schema, {})


def test_a_json_schema_record_is_checked_and_read_as_it_is() -> None:
    schema = {"type": "object", "required": ["event", "user_id"], "properties": {"event": {"type": "string"}, "amount": {"minimum": 0}}}
    good = b'{"event": "pay", "timestamp": 1777000000000, "user_id": "secret-name", "amount": 1}'
    cases = {
        framed(3, good): "",
        good: "no_schema_id",
        framed(3, good[:-1]): "bad_json",
        framed(3, good.replace(b'"amount": 1', b'"amount": -1')): "bad_schema",
        framed(3, b'{"event": "pay"}'): "bad_schema",
    }
    reader = json_reader(schema, {})
    assert reasons("json_schema", {3: reader}, *cases) == [*cases.values()]
    with pytest.raises(Reject) as rejected:
        reader(good.replace(b'"pay"', b"5"))
    assert rejected.value.detail == "event: type"  # and not what it holds


def test_a_json_schema_may_refer_to_others_of_the_registry_and_to_nothing_else() -> None:
    schema = {"$ref": "page.json"}
    assert json_reader(schema, {"page.json": {"type": "object"}})(b"{}") == b"{}"
    with pytest.raises(ValueError, match="no JSON Schema"):
        json_reader({"$ref": "http://127.0.0.1:9/secret.json"}, {})
    with pytest.raises(ValueError, match="no JSON Schema"):
        json_reader({"type": 5}, {})


def test_the_data_of_a_cloud_event_may_be_avro() -> None:
    to_json = to_json_of(source(format="avro", preset="cloudevents"))
    assert to_json is not None
    schema = {"type": "record", "name": "Paid", "fields": [{"name": "amount", "type": "double"}]}
    headers = (("ce_id", b"1"), ("ce_type", b"paid"), ("content-type", b"application/avro"))
    (value,) = to_json([Record(framed(3, avro(schema, {"amount": 2.5})), headers)], {3: avro_reader(schema, {})})
    assert value is not None
    assert json.loads(value) == {"id": "1", "type": "paid", "data": {"amount": 2.5}}
