"""Logs: one pipe, each trouble said once, then how often it came."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import logging.config
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from streams import logs
from streams.repeats import KEYS_MAX, Repeats, key_of
from tests.parts.clock import Clock


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    structlog.reset_defaults()
    root.setLevel(level)
    root.handlers[:] = handlers


class Said:
    """A pipe set up for the test, and what came out of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, clock: Clock, **options: Any) -> None:
        self._out = io.StringIO()
        monkeypatch.setattr(sys, "stderr", self._out)
        form = options.pop("form", "json")
        logs.configure_logs("info", form, options.pop("seconds", 60.0), clock)
        logging.config.dictConfig(logs.library_config("info", form))
        self.log = structlog.get_logger()

    def lines(self) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self._out.getvalue().splitlines()]
        self._out.truncate(self._out.seek(0))
        return found

    def text(self) -> str:
        return self._out.getvalue()


def test_a_line_of_json_has_time_level_event_and_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Said(monkeypatch, Clock())
    said.log.warning("claim failed", topic="clicks", partition=3, error="né")
    (line,) = said.lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {"level": "warning", "event": "claim failed", "topic": "clicks", "partition": 3, "error": "né"}


def test_what_repeats_is_said_once_a_period_and_then_how_often(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    said = Said(monkeypatch, clock)
    for _ in range(100):
        said.log.warning("claim failed", topic="clicks", error="timed out after 17 ms")
        clock.now += 0.5
    assert len(said.lines()) == 1
    clock.now += 10.0
    said.log.warning("claim failed", topic="clicks", error="timed out after 19 ms")
    (again,) = said.lines()
    assert again["held_back"] == 99
    said.log.warning("claim failed", topic="clicks", error="timed out after 20 ms")
    assert not said.lines()


def test_other_partitions_other_errors_and_what_informs_are_not_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Said(monkeypatch, Clock())
    said.log.warning("claim failed", partition=1, error="a")
    said.log.warning("claim failed", partition=2, error="a")
    said.log.warning("claim failed", partition=2, error="b")
    said.log.error("claim failed", partition=2, error="b")
    said.log.info("alert", rule="x")
    said.log.info("alert", rule="x")
    assert len(said.lines()) == 6


def test_what_stops_repeating_is_told_by_number_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    said = Said(monkeypatch, clock)
    for _ in range(5):
        said.log.error("stopped", topic="clicks")
    said.lines()
    logs.tell_held_back()
    assert not said.lines()
    clock.now += 60.0
    logs.tell_held_back()
    (told,) = said.lines()
    assert (told["event"], told["what"], told["times"]) == ("repeated, and held back", "stopped", 4)
    logs.tell_held_back()
    assert not said.lines()


def test_at_the_end_what_was_held_back_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Said(monkeypatch, Clock())
    said.log.error("stopped")
    said.log.error("stopped")
    logs.tell_held_back(ending=True)
    assert [line["event"] for line in said.lines()] == ["stopped", "repeated, and held back"]


def test_libraries_go_through_the_same_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Said(monkeypatch, Clock())
    library = logging.getLogger("some.library")  # not a real one, which other tests may have told to be quiet
    for port in range(1000, 1050):
        library.error("Unable connect to %s: %s", port, OSError(port))
    library.info("of no account")
    (line,) = said.lines()
    assert (line["level"], line["logger"], line["event"]) == ("error", "some.library", "Unable connect to 1000: 1000")
    logs.tell_held_back(ending=True)
    (told,) = said.lines()
    assert (told["what"], told["times"]) == ("some.library: Unable connect to %s: %s", 49)


def test_a_librarys_exception_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Said(monkeypatch, Clock())
    for kind in (ValueError, ValueError, KeyError):
        try:
            raise kind("boom")
        except (ValueError, KeyError):
            logging.getLogger("faust").exception("agent broke")
    lines = said.lines()
    assert ["ValueError: boom" in line["exception"] for line in lines] == [True, False]


def test_a_period_of_nothing_says_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Said(monkeypatch, Clock(), seconds=0.0)
    said.log.error("stopped")
    said.log.error("stopped")
    assert len(said.lines()) == 2


def test_the_console_form_is_one_line_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Said(monkeypatch, Clock(), form="console")
    said.log.warning("claim failed", topic="clicks")
    assert ' level=warning event="claim failed" topic=clicks\n' in said.text()


def test_so_many_different_troubles_at_once_are_all_said() -> None:
    repeats = Repeats(60.0, Clock())
    for number in range(KEYS_MAX + 10):
        assert repeats.admit((number,), "x") == 0
    assert repeats.admit((KEYS_MAX + 5,), "x") == 0
    assert repeats.admit((5,), "x") is None


def test_numbers_in_an_error_make_no_other_trouble_of_it() -> None:
    assert key_of("error", {"event": "e", "error": "offset 17"}) == key_of("error", {"event": "e", "error": "offset 1800"})
    assert key_of("error", {"event": "e", "error": "offset 17"}) != key_of("error", {"event": "e", "error": "gone"})


def test_a_full_disk_costs_lines_and_not_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w", buffering=1) as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stderr", full)
        logs.configure_logs("info")
        structlog.get_logger().warning("something happened")
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()  # what it holds back fails once more
