"""[pure] Payloads that a schema describes, Avro or JSON, as plain JSON.

What JSON has no word for is written so: a time as ISO 8601, a decimal as its digits, bytes as the
characters of the same numbers (as Avro's own JSON encoding has it), the branch of a union as its value.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from decimal import Decimal
from importlib import import_module
from typing import Any

import orjson

from schemas.errors import UsageError
from schemas.event import Reject

NEEDED = "`format: {}` needs the package {}; install it with: pip install 'funnelwatch[registry]'"
LIBRARIES = {"avro": "fastavro", "json_schema": "jsonschema_rs"}


def avro_reader(schema: Any, references: Mapping[str, Any]) -> Callable[[bytes], bytes]:
    """Reads payloads of an Avro schema; `references`: the schemas that it names, those first that others name.

    Raises ValueError for a schema that payloads cannot be read by.
    """
    fastavro = library_of("avro")
    named: dict[str, Any] = {}
    try:
        for part in references.values():
            fastavro.parse_schema(part, named_schemas=named)
        parsed = fastavro.parse_schema(schema, named_schemas=named)
        _refuse_traps(parsed, named)
    except RecursionError:
        raise ValueError("it nests too deeply, or a type of it holds itself; such schemas are not read") from None
    except (fastavro.schema.SchemaParseException, fastavro.schema.UnknownType, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is no Avro schema ({error!r})") from None

    def read(payload: bytes) -> bytes:
        stream = io.BytesIO(payload)
        try:
            found = fastavro.schemaless_reader(stream, parsed)
            written = orjson.dumps(found, default=_plain)
        except Exception as error:  # of whichever kind: bytes that follow no schema break everything
            raise Reject("bad_schema", f"{type(error).__name__} {error}".strip()[:200]) from None
        if stream.tell() != len(payload):
            raise Reject("bad_schema", f"{len(payload) - stream.tell()} bytes are left over")
        return written

    return read


def json_reader(schema: Any, references: Mapping[str, Any]) -> Callable[[bytes], bytes]:
    """Checks payloads against a JSON Schema; `references` by the address it gives them. Raises ValueError as `avro_reader`."""
    library = library_of("json_schema")
    try:
        known = library.Registry(list(references.items())) if references else None
        validator = library.validator_for(schema, registry=known, offline=True)
    except (library.ValidationError, library.ReferencingError, ValueError, TypeError) as error:
        raise ValueError(f"it is no JSON Schema ({' '.join(str(error).split())[:200]})") from None

    def read(payload: bytes) -> bytes:
        try:
            found = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            raise Reject("bad_json", str(error)) from None
        if not validator.is_valid(found):
            first = next(validator.iter_errors(found), None)
            raise Reject("bad_schema", "" if first is None else _where(first))
        return payload

    return read


def _where(error: Any) -> str:
    """Which field breaks which rule; not what it holds, which may be somebody's name."""
    return f"{'.'.join(map(str, error.instance_path)) or 'the record'}: {error.kind.name}"[:200]


def _plain(found: Any) -> Any:
    if isinstance(found, bytes):
        return found.decode("latin-1")
    if isinstance(found, Decimal):
        return str(found)
    raise TypeError(f"{type(found).__name__} has no JSON")


def _refuse_traps(part: Any, named: Mapping[str, Any], within: tuple[str, ...] = (), safe: set[str] | None = None) -> None:
    """Bytes of a type that holds itself nest as deep as there are bytes, which ends the process that reads them."""
    safe = set() if safe is None else safe
    if isinstance(part, str):
        if part in within:
            raise ValueError(f"its type {part} holds itself; such schemas are not read")
        if part in named and part not in safe:
            _refuse_traps(named[part], named, within, safe)
    elif isinstance(part, list):
        for branch in part:
            _refuse_traps(branch, named, within, safe)
    elif isinstance(part, dict):
        if "items" in part and _takes_no_bytes(part["items"], named):
            raise ValueError(
                "it has an array of what takes no bytes, of which a broken record can have any number; such schemas are not read"
            )
        inside = (*within, part["name"]) if "name" in part else within
        for inner in (*(field["type"] for field in part.get("fields", ())), part.get("items"), part.get("values"), part.get("type")):
            _refuse_traps(inner, named, inside, safe)
        safe.update(inside[len(within) :])


def _takes_no_bytes(part: Any, named: Mapping[str, Any]) -> bool:
    if isinstance(part, str):
        return part == "null" or (part in named and _takes_no_bytes(named[part], named))
    if not isinstance(part, dict):
        return False
    if "fields" in part:
        return all(_takes_no_bytes(field["type"], named) for field in part["fields"])
    return part.get("size") == 0 or part.get("type") == "null"


def library_of(form: str) -> Any:
    """What payloads of the format are read with. Raises UsageError."""
    try:
        return import_module(LIBRARIES[form])
    except ImportError:
        raise UsageError(NEEDED.format(form, LIBRARIES[form])) from None
