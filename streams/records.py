"""[pure] Records of every format and kind as the JSON that the decoder reads.

For a source of plain JSON there is nothing to do, and nothing is done. A record in the wire format of
a schema registry is a zero byte, the schema's id in four bytes, and the payload: Avro, or JSON. A
CloudEvent in binary mode has its attributes in headers (`ce_type`, ...) and its data as the payload.
What cannot be made JSON is `Unreadable` and keeps its place, to be rejected there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import orjson

from schemas.config import Source
from schemas.event import Reject, Unreadable

Value = bytes | None
ReadPayload = Callable[[bytes], bytes]  # a payload to JSON. Raises Reject
Readers = Mapping[int, ReadPayload | Reject]  # by schema id; a Reject: why there is none
ToJson = Callable[[Sequence[Any], Readers], list[Value]]  # of Kafka records

HEADER_BYTES = 5
STRUCTURED = "application/cloudevents"
ATTRIBUTE = "ce_"
CONTENT_TYPE = "content-type"
_check_json = msgspec.json.Decoder(msgspec.Raw).decode  # that it is JSON, without making objects of it


def to_json_of(source: Source) -> ToJson | None:
    """How the source's records become JSON; None: they are."""
    binary = source.preset == "cloudevents"
    if source.format == "json" and not binary:
        return None

    def to_json(records: Sequence[Any], readers: Readers) -> list[Value]:
        return [_json_of(source, binary, record, readers) for record in records]

    return to_json


def carried_headers(source: Source, record: Any) -> list[tuple[str, bytes]]:
    """What a copy of the record must keep of its headers to be read like it."""
    if source.preset != "cloudevents":
        return []
    return [(name, value) for name, value in record.headers if name.startswith(ATTRIBUTE) or name == CONTENT_TYPE]


def schema_ids(records: Sequence[Any]) -> set[int]:
    """The schemas that records in wire format name."""
    return {found for record in records if (found := _schema_id(record.value)) is not None}


def _schema_id(value: Value) -> int | None:
    if value is None or len(value) < HEADER_BYTES or value[0] != 0:
        return None
    return int.from_bytes(value[1:HEADER_BYTES], "big")


def _json_of(source: Source, binary: bool, record: Any, readers: Readers) -> Value:
    value: Value = record.value
    try:
        if value is not None and len(value) > source.record_bytes_max:
            raise Reject("too_large", f"{len(value)} bytes")
        if value is not None and source.format != "json":
            value = _payload(value, readers)
        return _structured(record.headers, value, source.format != "json") if binary else value
    except Reject as reject:
        return Unreadable.of(reject.reason, reject.detail)


def _payload(value: bytes, readers: Readers) -> bytes:
    schema_id = _schema_id(value)
    if schema_id is None:
        raise Reject("no_schema_id", f"begins with {value[:HEADER_BYTES].hex(' ')}")
    reader = readers.get(schema_id)
    if reader is None:
        raise Reject("unknown_schema", f"schema {schema_id}")
    if isinstance(reader, Reject):
        raise reader
    return reader(value[HEADER_BYTES:])


def _structured(headers: Sequence[tuple[str, bytes]], value: Value, is_json: bool) -> Value:
    """The CloudEvent in structured mode, whichever it came in."""
    try:
        said = {
            name: found.decode() for name, found in headers if found is not None and (name.startswith(ATTRIBUTE) or name == CONTENT_TYPE)
        }
    except UnicodeDecodeError as error:
        raise Reject("bad_encoding", str(error)) from None
    kind = said.pop(CONTENT_TYPE, "").partition(";")[0].strip().lower()
    if not said or kind.startswith(STRUCTURED):
        return value
    attributes = {name[len(ATTRIBUTE) :]: text for name, text in said.items()}
    if not value or not (is_json or _says_json(kind)):
        return orjson.dumps(attributes)
    _refuse_no_json(value)
    attributes.pop("data", None)
    return b"".join((orjson.dumps(attributes)[:-1], b"," if attributes else b"", b'"data":', value, b"}"))


def _says_json(kind: str) -> bool:
    return not kind or kind.endswith(("/json", "+json"))


def _refuse_no_json(value: bytes) -> None:
    try:
        _check_json(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Reject("bad_json", f"the event's data: {error}") from None
