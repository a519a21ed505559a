"""What a record must be to count as an event, and what is read from it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.config import Fields
from schemas.event import REASONS, Batch, EventDecoder, iso

NOW_US = 1_700_000_000_000_000
SKEW_US = 300_000_000
AT = 1_690_000_000  # seconds; 2023-07-22T04:26:40Z
AT_US = AT * 1_000_000
DECODER = EventDecoder(Fields(), ["properties.channel", "properties.cart.total"])
KEYED = EventDecoder(Fields(), [], check_keys=True)


def raw(**changes: Any) -> bytes:
    """A good record with changes; a field set to ... is left out."""
    record = {"event": "view", "timestamp": AT, "user_id": "u"} | changes
    return json.dumps({name: value for name, value in record.items() if value is not ...}).encode()


def decode(*values: bytes | None, decoder: EventDecoder = DECODER, keys: list[bytes | None] | None = None) -> Batch:
    return decoder.decode(values, keys or [None] * len(values), NOW_US, SKEW_US)


def columns(batch: Batch) -> list[tuple[Any, ...]]:
    """The good records of a batch, with what funnels read from them."""
    channels = DECODER.column("properties.channel", batch.records)
    totals = DECODER.column("properties.cart.total", batch.records)
    return list(zip(batch.times, batch.entities, batch.names, batch.ids, batch.raws, channels, totals))


def the_reason(value: bytes | None, decoder: EventDecoder = DECODER, key: bytes | None = None) -> str:
    """Why the record was rejected, the same alone and between good ones."""
    alone = decode(value, decoder=decoder, keys=[key])
    among = decode(raw(), value, raw(), decoder=decoder, keys=[b"u", key, b"u"])
    assert (len(alone), len(among)) == (0, 2)
    assert [r.index for r in alone.rejected + among.rejected] == [0, 1]
    assert alone.rejected[0].reason == among.rejected[0].reason
    return alone.rejected[0].reason


GOOD = [
    raw(),
    raw(timestamp=AT * 1000),
    raw(timestamp="2023-07-22T04:26:41Z", user_id=7),
    raw(user_id=..., anonymous_id="anon", event_id="e-1"),
    raw(properties={"channel": "ads", "cart": {"total": 1.5}}),
    raw(properties={"channel": "été", "cart": None}),
    raw(properties=None, event_id="e-2"),
    raw(properties={"channel": ["a list"], "cart": "text"}),
]


@given(st.lists(st.sampled_from(GOOD)))
def test_a_chunk_at_once_gives_the_same_as_its_records_one_by_one(records: list[bytes]) -> None:
    whole = columns(decode(*records))
    assert whole == [row for record in records for row in columns(decode(record))]
    with_a_bad_one = decode(*records, b"{")
    assert whole == columns(with_a_bad_one)
    assert [r.index for r in with_a_bad_one.rejected] == [len(records)]


def test_an_empty_chunk_is_an_empty_batch() -> None:
    assert columns(decode()) == []


BAD: dict[str, bytes | None] = {
    "null_value": None,
    "too_large": raw(filler="x" * 1_000_000),
    "bad_encoding": raw().replace(b'"view"', b'"vi\xff"'),
    "bad_json": raw()[:-1],
    "too_deep": raw().replace(b"{", b'{"filler": ' + b"[" * 20_000 + b"]" * 20_000 + b",", 1),
    "bad_type": raw(event=5),
    "no_event": raw(event=...),
    "no_timestamp": raw(timestamp=...),
    "bad_timestamp": raw(timestamp="yesterday"),
    "future": raw(timestamp=(NOW_US + SKEW_US) // 1000 + 1),
    "no_entity": raw(user_id=...),
}
BAD_KEYS: dict[str, bytes | None] = {"no_key": None, "misrouted": b"v"}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_record_is_set_aside_with_its_reason_and_the_others_are_kept(reason: str) -> None:
    assert the_reason(BAD[reason]) == reason


@pytest.mark.parametrize("reason", BAD_KEYS)
def test_with_checked_keys_the_key_must_be_the_entity(reason: str) -> None:
    assert the_reason(raw(), KEYED, BAD_KEYS[reason]) == reason


def test_every_reason_but_that_of_a_stage_has_a_record_here() -> None:
    of_formats = {"no_schema_id", "unknown_schema", "bad_schema"}  # see tests/unit/test_records.py
    assert BAD.keys() | BAD_KEYS.keys() | {"bad_value"} | of_formats == REASONS.keys()


@pytest.mark.parametrize(
    ("reason", "value"),
    [
        ("bad_json", b""),
        ("bad_json", raw() + raw(user_id="v")),
        ("bad_json", b"\xef\xbb\xbf" + raw()),
        ("bad_json", raw().replace(b'"u"', b'"\\ud800"')),
        ("bad_type", b"[]"),
        ("bad_type", b"null"),
        ("bad_type", raw(user_id=1.5)),
        ("bad_type", raw(user_id=True)),
        ("bad_type", raw(user_id=["u"])),
        ("bad_type", raw(user_id="u" * 513)),
        ("bad_type", raw(user_id=int("9" * 4000))),
        ("bad_type", raw(event="e" * 513)),
        ("bad_type", raw(event_id=5.5)),
        ("bad_type", raw(timestamp=True)),
        ("bad_type", raw(properties=[])),
        ("no_event", b"{}"),
        ("no_event", raw(event="")),
        ("no_event", raw(event=None)),
        ("no_timestamp", raw(timestamp=None)),
        ("bad_timestamp", raw(timestamp="")),
        ("bad_timestamp", raw(timestamp=-1)),
        ("bad_timestamp", raw(timestamp="nan")),
        ("bad_timestamp", raw(timestamp="9" * 5000)),
        ("bad_timestamp", raw(timestamp=10**17)),
        ("bad_timestamp", raw(timestamp="1969-12-31T23:59:59Z")),
        ("bad_timestamp", raw(timestamp="2023-02-30T00:00:00Z")),
        ("no_entity", raw(user_id="")),
        ("no_entity", raw(user_id=None, anonymous_id="")),
    ],
)
def test_what_is_no_event_says_which_way(reason: str, value: bytes) -> None:
    assert the_reason(value) == reason


def test_a_time_past_the_last_year_is_rejected_like_any_other() -> None:
    assert the_reason(raw(timestamp="9999-12-31T23:59:59-23:59")) in {"future", "bad_timestamp"}


@pytest.mark.parametrize(
    "changes", [{"name": 5}, {"name": ["view"]}, {"at": []}, {"at": True}, {"who": ["u"]}, {"who": 1.5}], ids=json.dumps
)
def test_a_field_that_is_also_a_property_keeps_its_type(changes: dict[str, Any]) -> None:
    fields = Fields(event="properties.name", timestamp="properties.at", user_id="properties.who")
    decoder = EventDecoder(fields, ["properties.name", "properties.at", "properties.who"])
    record = json.dumps({"properties": {"name": "view", "at": AT, "who": "u"} | changes}).encode()
    assert [r.reason for r in decode(record, decoder=decoder).rejected] == ["bad_type"]


@pytest.mark.parametrize(
    ("stamp", "micros"),
    [
        (AT, AT_US),
        (AT + 0.25, AT_US + 250_000),
        (str(AT), AT_US),
        (f" {AT}.5 ", AT_US + 500_000),
        (AT * 1000, AT_US),
        (AT * 1000 + 1, AT_US + 1000),
        (AT * 1000 + 0.5, AT_US + 500),
        (str(AT * 1000), AT_US),
        (0, 0),
        (100_000_000_000, 100_000_000_000_000),
        ("2023-07-22T04:26:40Z", AT_US),
        ("2023-07-22T06:26:40+02:00", AT_US),
        ("2023-07-22T04:26:40.000001Z", AT_US + 1),
        ("2023-07-22 04:26:40", AT_US),
        ("2023-07-22", AT_US - 16_000 * 1_000_000),
    ],
)
def test_seconds_milliseconds_and_iso_8601_are_told_apart(stamp: Any, micros: int) -> None:
    assert decode(raw(timestamp=stamp)).times == [micros]
    assert decode(raw(timestamp=stamp), None).times == [micros]


def test_99_999_999_999_is_still_seconds() -> None:
    found = DECODER.decode([raw(timestamp=99_999_999_999)], [None], 10**18, 0)
    assert found.times == [99_999_999_999_000_000]


def test_an_event_may_be_ahead_of_the_clock_by_the_skew_and_no_more() -> None:
    limit_ms = (NOW_US + SKEW_US) // 1000
    assert decode(raw(timestamp=limit_ms)).times == decode(raw(timestamp=limit_ms), None).times == [limit_ms * 1000]
    assert the_reason(raw(timestamp=limit_ms + 1)) == "future"


@pytest.mark.parametrize(
    ("entity", "ids"),
    [
        ("u", {"user_id": "u", "anonymous_id": "a"}),
        ("7", {"user_id": 7}),
        ("0", {"user_id": 0, "anonymous_id": "a"}),
        ("-5", {"user_id": -5}),
        ("9" * 30, {"user_id": int("9" * 30)}),
        ("a", {"user_id": ..., "anonymous_id": "a"}),
        ("a", {"user_id": None, "anonymous_id": "a"}),
        ("8", {"user_id": "", "anonymous_id": 8}),
        ("東京", {"user_id": "東京"}),
    ],
)
def test_the_entity_is_the_first_id_there_is_as_text(entity: str, ids: dict[str, Any]) -> None:
    assert decode(raw(**ids)).entities == [entity]
    assert decode(raw(**ids), None).entities == [entity]


@pytest.mark.parametrize(("event_id", "text"), [("e-1", "e-1"), (5, "5"), ("5", "5"), (0, "0"), ("", ""), (None, ""), (..., "")])
def test_an_event_id_is_text_and_may_be_absent(event_id: Any, text: str) -> None:
    assert decode(raw(event_id=event_id), raw(event_id="e-2")).ids == [text, "e-2"]
    assert decode(raw(event_id=event_id), None).ids == [text]


def test_the_key_is_the_entity_as_text() -> None:
    values = [raw(user_id="東京"), raw(user_id=7), raw(user_id=None, anonymous_id="a")]
    keys: list[bytes | None] = ["東京".encode(), b"7", b"a"]
    assert decode(*values, decoder=KEYED, keys=keys).entities == ["東京", "7", "a"]
    assert decode(*values, None, decoder=KEYED, keys=[*keys, None]).entities == ["東京", "7", "a"]


def test_keys_that_come_to_the_same_text_as_the_entities_but_are_not_theirs_are_misrouted() -> None:
    values = [raw(user_id="a\0b"), raw(user_id="c")]
    found = decode(*values, decoder=KEYED, keys=[b"a", b"b\0c"])
    assert [(r.index, r.reason) for r in found.rejected] == [(0, "misrouted"), (1, "misrouted")]
    assert decode(*values, decoder=KEYED, keys=[b"a\0b", b"c"]).entities == ["a\0b", "c"]


def test_a_source_sets_how_large_a_record_may_be() -> None:
    decoder = EventDecoder(Fields(), [], record_bytes_max=len(raw()))
    assert decode(raw(), decoder=decoder).entities == ["u"]
    assert the_reason(raw(user_id="uv"), decoder) == "too_large"


def test_fields_are_found_at_dotted_paths() -> None:
    fields = Fields(event="e.name", timestamp="e.sent.at", user_id="who", event_id="e.id", properties="e.about")
    decoder = EventDecoder(fields, ["properties.channel"])
    record = {"who": "u", "e": {"name": "view", "id": "1", "sent": {"at": AT}, "about": {"channel": "ads"}}}
    batch = decode(json.dumps(record).encode(), decoder=decoder)
    assert (batch.times, batch.entities, batch.names, batch.ids) == ([AT_US], ["u"], ["view"], ["1"])
    assert decoder.column("properties.channel", batch.records) == ["ads"]


@pytest.mark.parametrize("way", [{}, {"e": None}, {"e": {"sent": None}}], ids=json.dumps)
def test_a_null_on_the_way_to_a_field_is_a_missing_field(way: dict[str, Any]) -> None:
    decoder = EventDecoder(Fields(timestamp="e.sent.at"), [])
    assert [r.reason for r in decode(json.dumps({"event": "view", "user_id": "u"} | way).encode(), decoder=decoder).rejected] == [
        "no_timestamp"
    ]


@pytest.mark.parametrize("properties", [..., None, {}, {"cart": None}, {"cart": 5}, {"cart": {}}, {"cart": ["total"]}], ids=repr)
def test_a_property_behind_nothing_is_absent_and_nobody_elses(properties: Any) -> None:
    full = raw(properties={"channel": "ads", "cart": {"total": 3}})
    batch = decode(full, raw(properties=properties), full)
    assert DECODER.column("properties.cart.total", batch.records) == [3, None, 3]
    assert DECODER.column("properties.channel", batch.records) == ["ads", None, "ads"]


def test_a_property_may_be_a_value_and_a_way_through() -> None:
    decoder = EventDecoder(Fields(), ["properties.a", "properties.a.b"])
    batch = decode(raw(properties={"a": {"b": "x"}}), raw(properties={"a": "y"}), decoder=decoder)
    assert decoder.column("properties.a", batch.records) == [{"b": "x"}, "y"]
    assert decoder.column("properties.a.b", batch.records) == ["x", None]


def test_two_objects_in_one_record_are_no_event_and_reach_no_neighbour() -> None:
    batch = decode(raw(user_id="a"), raw(user_id="b") + raw(user_id="c"), raw(user_id="d", anonymous_id="e"))
    assert batch.entities == ["a", "d"]
    assert [(r.index, r.reason) for r in batch.rejected] == [(1, "bad_json")]
    assert [json.loads(value)["user_id"] for value in batch.raws] == ["a", "d"]


def test_a_moment_is_shown_in_utc_to_the_microsecond() -> None:
    assert iso(AT_US) == "2023-07-22T04:26:40Z"
    assert iso(AT_US + 1) == "2023-07-22T04:26:40.000001Z"


@pytest.mark.parametrize(
    "records",
    [
        [b'{"event":"a","timestamp":1,"user_id":"u"}{"event":"b","timestamp":1,"user_id":"v"}', b""],
        [b'{"event":"a","timestamp":1,"user_id":"u"}{"event":"b","timestamp":1,"user_id":"v"}', b" "],
        [
            b'{"event":"a","timestamp":1,',
            b'"user_id":"u"}',
            b'{"event":"b","timestamp":1,"user_id":"v"}{"event":"b","timestamp":1,"user_id":"v"}',
        ],
        [
            b'{"event":"a","timestamp":1,"user_id":"}',
            b'{"}',
            b'{"event":"a","timestamp":1,"user_id":"u"}{"event":"b","timestamp":1,"user_id":"v"}',
        ],
    ],
)
def test_records_that_make_sense_only_together_are_each_rejected(records: list[bytes]) -> None:
    batch = decode(*records)
    assert (len(batch), [r.index for r in batch.rejected]) == (0, list(range(len(records))))


def test_records_with_line_ends_of_their_own_are_records() -> None:
    pretty = b'{\n  "event": "a",\n  "timestamp": 1,\n  "user_id": "u"\n}'
    plain = b'{"event":"b","timestamp":2,"user_id":"v"}'
    assert decode(pretty, plain, pretty + b"\n").names == ["a", "b", "a"]
