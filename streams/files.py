"""Event files as JSON records: JSONL as it is, CSV by one rule that no config changes.

A CSV row becomes one JSON object, so that `send` produces the very bytes that `replay` reads. Every
cell that is not empty stands under its column's name as a string, and once more in `properties`
unless the column is a canonical field: `fields: {event: behavior}` finds the column, and so does
`properties.item_id`. A dot in a column's name is a path (`properties.x`, `context.page`), and a
column `properties` holds a JSON object that is merged in.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args

import orjson

from schemas.errors import UsageError

Format = Literal["jsonl", "csv"]
SUFFIXES: dict[str, Format] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv"}
CANONICAL = frozenset({"event", "timestamp", "user_id", "anonymous_id", "event_id", "properties"})
LINE_BYTES_MAX = 100_000_000
UTF8_MARK, UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")

Record = dict[str, Any]
Put = Callable[[Record, str], None]


class _BadCell(Exception):
    """A cell that cannot enter its row's record."""


class EventFile:
    """A file of events, read once from its beginning; `.gz` is unpacked on the way.

    `line` is the line that the latest record ended on, `position` and `size` count bytes as they
    lie on the disk. Raises UsageError, with file and line, for whatever cannot be read.
    """

    def __init__(self, path: str | Path, form: str | None = None) -> None:
        self.path = Path(path)
        self.form = _format(self.path, form)
        self.line = 0
        self._raw: io.BufferedReader | None = None
        try:
            self.size = self.path.stat().st_size
        except OSError as error:
            raise self._unreadable(error) from None

    @property
    def position(self) -> int:
        """Bytes read so far; 0 where the system does not say (a pipe)."""
        with suppress(OSError, ValueError):
            return self._raw.raw.tell() if self._raw is not None else 0
        return 0

    def records(self) -> Iterator[bytes]:
        """Every record as JSON bytes, in the file's order."""
        try:
            self._raw = self.path.open("rb")
        except OSError as error:
            raise self._unreadable(error) from None
        with self._raw as raw:
            lines = self._lines(raw)
            try:
                yield from self._csv(lines) if self.form == "csv" else _jsonl(lines)
            except (OSError, EOFError, zlib.error) as error:
                raise self._wrong(f"cannot be unpacked ({error}); the file is damaged or cut short") from None

    def place(self) -> str:
        """FILE:LINE of the latest record."""
        return f"{self.path}:{self.line}"

    def _unreadable(self, error: OSError) -> UsageError:
        return UsageError(f"{self.path}: cannot be read ({error.strerror}); name a readable event file")

    def _wrong(self, what: str) -> UsageError:
        return UsageError(f"{self.path}:{max(self.line, 1)}: {what}")

    def _lines(self, raw: io.BufferedReader) -> Iterator[bytes]:
        """Lines without their ends, a UTF-8 byte order mark taken off."""
        unpacked: io.BufferedIOBase = gzip.GzipFile(fileobj=raw) if _is_gzip(raw) else raw
        while line := unpacked.readline(LINE_BYTES_MAX + 1):
            self.line += 1
            if len(line) > LINE_BYTES_MAX:
                raise self._wrong(f"the line is over {LINE_BYTES_MAX} bytes long; is this an event file?")
            if self.line == 1:
                if line.startswith(UTF16_MARKS):
                    raise self._wrong("is UTF-16 text; save it as UTF-8")
                line = line.removeprefix(UTF8_MARK)
            yield line.rstrip(b"\r\n")

    def _csv(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        rows = csv.reader(self._text(lines), strict=True)
        try:
            put = self._columns(next(rows, []))
            for row in rows:
                if row:
                    yield orjson.dumps(self._object(put, row))
        except csv.Error as error:
            raise self._wrong(f"is no CSV: {error}") from None

    def _text(self, lines: Iterator[bytes]) -> Iterator[str]:
        for line in lines:
            try:
                yield line.decode() + "\n"
            except UnicodeDecodeError as error:
                raise self._wrong(f"byte {line[error.start]:#x} is not UTF-8; save the file as UTF-8") from None

    def _columns(self, header: list[str]) -> list[Put]:
        names = [name.strip() for name in header]
        if not any(names):
            raise self._wrong("there is no header; the first line must name the columns")
        for name in names:
            if not all(name.split(".")):
                raise self._wrong(f"the header has an unnamed column {name!r}; name every column")
            if names.count(name) > 1:
                raise self._wrong(f"the header names {name!r} twice; name every column once")
            if _is_number(name):
                raise self._wrong(f"this is no header: {name!r} is a number; the first line must name the columns")
        return [_column(name) for name in names]

    def _object(self, put: list[Put], row: list[str]) -> Record:
        if len(row) > len(put):
            raise self._wrong(f"{len(row)} cells under a header of {len(put)}; quote cells that hold a comma")
        record: Record = {"properties": {}}
        for into, cell in zip(put, row, strict=False):
            if cell:
                try:
                    into(record, cell)
                except _BadCell as error:
                    raise self._wrong(str(error)) from None
        return record


def _format(path: Path, form: str | None) -> Format:
    name = path.name.removesuffix(".gz")
    found = form or SUFFIXES.get(Path(name).suffix.lower())
    if found not in get_args(Format):
        raise UsageError(f"{path}: its name does not tell the format; give --format jsonl or --format csv")
    return "csv" if found == "csv" else "jsonl"


def _jsonl(lines: Iterator[bytes]) -> Iterator[bytes]:
    return (line for line in lines if line and not line.isspace())


def _is_gzip(raw: io.BufferedReader) -> bool:
    """By its first bytes: a name may lie."""
    return raw.peek(2)[:2] == b"\x1f\x8b"


def _is_number(text: str) -> bool:
    with suppress(ValueError):
        float(text)
        return True
    return False


def _column(name: str) -> Put:
    """How a cell of the column enters the record."""
    if name == "properties":
        return _merge
    path = name.split(".")
    if path[0] in CANONICAL:
        return lambda record, cell: _set(record, path, cell)
    if len(path) == 1:
        return lambda record, cell: _set_twice(record, name, cell)
    return lambda record, cell: _set_path_twice(record, path, cell)


def _set_twice(record: Record, name: str, cell: str) -> None:
    record[name] = record["properties"][name] = cell


def _set_path_twice(record: Record, path: list[str], cell: str) -> None:
    _set(record, path, cell)
    _set(record["properties"], path, cell)


def _set(record: Record, path: list[str], cell: str) -> None:
    for step in path[:-1]:
        record = record.setdefault(step, {})
        if not isinstance(record, dict):
            raise _BadCell(f"column {'.'.join(path)!r} lies below {step!r}, which is a column too; rename one")
    record[path[-1]] = cell


def _merge(record: Record, cell: str) -> None:
    try:
        held = orjson.loads(cell)
    except orjson.JSONDecodeError:
        held = None
    if not isinstance(held, dict):
        raise _BadCell("the cell of column 'properties' is no JSON object")
    record["properties"].update(held)
