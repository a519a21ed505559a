"""An event file becomes JSON records by one rule, or one clear error with file and line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import UsageError
from streams.files import EventFile


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def rows(folder: Path, text: str) -> list[dict[str, Any]]:
    return [json.loads(record) for record in EventFile(write(folder, "events.csv", text.encode())).records()]


def error_of(path: Path, form: str | None = None) -> str:
    with pytest.raises(UsageError) as error:
        list(EventFile(path, form).records())
    return str(error.value).removeprefix(f"{path}")


def test_jsonl_lines_are_records_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path, "events.jsonl", b'{"a": 1}\n\n not json \r\n   \n{"b":2}')
    assert list(EventFile(path).records()) == [b'{"a": 1}', b" not json ", b'{"b":2}']


def test_gzip_is_unpacked_whatever_the_name(tmp_path: Path) -> None:
    packed = gzip.compress(b"event,ts\nview,1\n")
    for name in ("events.csv.gz", "events.csv"):
        (record,) = EventFile(write(tmp_path, name, packed)).records()
        assert json.loads(record)["event"] == "view"


def test_a_csv_column_is_found_at_top_level_and_in_properties(tmp_path: Path) -> None:
    assert rows(tmp_path, "user_id,behavior,item_id\n7,pv,12\n") == [
        {"user_id": "7", "behavior": "pv", "item_id": "12", "properties": {"behavior": "pv", "item_id": "12"}}
    ]


def test_canonical_columns_are_no_properties_and_empty_cells_are_absent(tmp_path: Path) -> None:
    assert rows(tmp_path, "event,timestamp,user_id,anonymous_id,event_id,x\nview,1,,an,e,\n") == [
        {"event": "view", "timestamp": "1", "anonymous_id": "an", "event_id": "e", "properties": {}}
    ]


def test_a_dot_in_a_column_name_is_a_path(tmp_path: Path) -> None:
    assert rows(tmp_path, "event,properties.channel,context.page\nview,paid,home\n") == [
        {"event": "view", "context": {"page": "home"}, "properties": {"channel": "paid", "context": {"page": "home"}}}
    ]


def test_a_column_of_properties_is_merged_in(tmp_path: Path) -> None:
    text = 'event,device,properties\nview,ios,"{""channel"": ""paid"", ""n"": 1}"\n'
    assert rows(tmp_path, text)[0]["properties"] == {"device": "ios", "channel": "paid", "n": 1}


def test_cells_may_hold_commas_quotes_and_line_ends(tmp_path: Path) -> None:
    assert rows(tmp_path, 'event,note\nview,"a, ""b""\nc"\n')[0]["note"] == 'a, "b"\nc'


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_the_data(tmp_path: Path) -> None:
    path = write(tmp_path, "events.csv", b"\xef\xbb\xbfevent,x\r\nview,1\r\n")
    assert json.loads(next(EventFile(path).records())) == {"event": "view", "x": "1", "properties": {"x": "1"}}


def test_a_short_row_lacks_its_last_columns(tmp_path: Path) -> None:
    assert rows(tmp_path, "event,x,y\nview,1\n")[0] == {"event": "view", "x": "1", "properties": {"x": "1"}}


def test_the_format_can_be_said(tmp_path: Path) -> None:
    path = write(tmp_path, "events.txt", b"event\nview\n")
    assert "give --format" in error_of(path)
    assert json.loads(next(EventFile(path, "csv").records()))["event"] == "view"
    assert "give --format" in error_of(path, "xml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ":1: there is no header"),
        (b"1,2268318,pv\n1,2,pv\n", ":1: this is no header: '1' is a number"),
        (b"event,event\n", ":1: the header names 'event' twice"),
        (b"event,,x\n", ":1: the header has an unnamed column ''"),
        (b"event,x\nview,1\nview,1,2\n", ":3: 3 cells under a header of 2"),
        (b"event,x\nview,\xe9t\xe9\n", ":2: byte 0xe9 is not UTF-8"),
        ("event,x\n".encode("utf-16"), ":1: is UTF-16 text"),
        (b'event,x\nview,"1\n', ":2: is no CSV: unexpected end of data"),
        (b"event,properties\nview,1\n", ":2: the cell of column 'properties' is no JSON object"),
        (b"a,a.b\n1,2\n", ":2: column 'a.b' lies below 'a'"),
    ],
)
def test_what_is_wrong_with_a_csv_file_is_said_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    assert error_of(write(tmp_path, "events.csv", content)).startswith(message)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    assert error_of(tmp_path / "none.csv") == ": cannot be read (No such file or directory); name a readable event file"


def test_a_gzip_file_cut_short_is_said_with_the_line_it_breaks_on(tmp_path: Path) -> None:
    packed = gzip.compress(b"".join(b'{"n": %d}\n' % n for n in range(1000)))
    message = error_of(write(tmp_path, "events.jsonl.gz", packed[: len(packed) // 2]))
    assert "cannot be unpacked" in message
    assert int(message.split(":")[1]) > 1


def test_position_ends_at_the_size_of_the_file(tmp_path: Path) -> None:
    events = EventFile(write(tmp_path, "events.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 100)))
    assert sum(1 for _ in events.records()) == events.line == 100
