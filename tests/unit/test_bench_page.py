"""The bench's page: a section that breaks off loses no other, and nothing of the machine but what it is made of is told."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import FunnelwatchError
from tests.bench import __main__ as bench
from tests.bench import page
from tests.bench.machine import facts
from tests.bench.page import Section, Written, reason, written


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """The flags of a section are a program of its own."""
    monkeypatch.setattr(page, "command", lambda section: [sys.executable, "-c", *section.flags])


@pytest.mark.usefixtures("commands")
def test_a_section_that_fails_keeps_what_it_said() -> None:
    said: list[str] = []
    found = written(Section("One", ("print('| a |'); raise SystemExit('/some/folder/jars is gone')",)), said.append)
    assert (found.lines, found.failed) == (["| a |"], "jars is gone")
    assert said == ["| a |"]


@pytest.fixture
def in_the_background() -> Iterator[None]:
    """Begun by a shell that does not wait, which has it ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("commands", "in_the_background")
def test_a_section_that_hangs_is_ended_as_by_ctrl_c() -> None:
    text = "import time\ntry:\n  print('begun', flush=True); time.sleep(60)\nfinally:\n  print('servers stopped', flush=True)"
    found = written(Section("One", (text,)), lambda _: None, seconds_max=1.0)
    assert list(found.lines) == ["begun", "servers stopped"]
    assert "1 s" in found.failed


@pytest.mark.usefixtures("commands")
def test_the_line_for_programs_is_no_part_of_the_page() -> None:
    found = written(Section("One", ("""print('text'); print('{"limit": 1}')""",)), lambda _: None)
    assert (found.lines, found.summary, found.failed) == (["text"], '{"limit": 1}', "")


def test_the_page_says_which_sections_are_not_whole() -> None:
    found = [Written(Section("One", ("--one",)), ["| a |"]), Written(Section("Two", ("--two",)), [], failed="no Java")]
    text = "\n".join(page.page(found, ["- a machine"]))
    assert "**Incomplete: Two.**" in text
    assert "## One\n\n`python -m tests.bench --one`\n\n| a |" in text
    assert "**This section is not whole: no Java**" in text
    assert "Incomplete" not in "\n".join(page.page(found[:1], []))


def test_a_section_that_was_run_again_is_replaced_and_says_of_which_commit_it_is(tmp_path: Path) -> None:
    path = tmp_path / "bench.md"
    found = [Written(Section(title, (f"--{title.lower()}",)), ["| then |"]) for title in ("One", "Two", "Three")]
    page.write(path, found, ["- a machine"])
    before = path.read_text()
    for place, title in ((1, "Two"), (2, "Three"), (1, "Two")):
        page.write_again(path, Written(found[place].section, ["| now |"]), "today, commit abc")
        head = f"\n## {title}\n\n`python -m tests.bench --{title.lower()}`\n\n"
        assert f"{head}Run again by itself: today, commit abc.\n\n| now |\n" in path.read_text()
    assert path.read_text().replace("Run again by itself: today, commit abc.\n\n| now |", "| then |") == before
    with pytest.raises(FunnelwatchError, match="no section 'Four'"):
        page.write_again(path, Written(Section("Four", ()), []), "")


def test_a_section_shows_the_pictures_of_its_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "pictures", lambda lines: {"people": "<svg/>"} if "| table |" in lines else {})
    found = [page.drawn(Written(Section(title, ("--growth",)), [line])) for title, line in (("One", "| table |"), ("Two", "text"))]
    page.write(tmp_path / "bench.md", found, [])
    text = (tmp_path / "bench.md").read_text()
    assert text.count("![") == 1
    assert "| table |\n\n![people](pictures/bench/people.svg)\n" in text
    assert (tmp_path / "pictures" / "bench" / "people.svg").read_text() == "<svg/>"


def test_a_picture_that_cannot_be_drawn_loses_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: list[str]) -> dict[str, str]:
        raise ValueError("no logarithm of 0")

    monkeypatch.setattr(page, "pictures", fail)
    found = page.drawn(Written(Section("One", ("--growth",)), ["| table |"]))
    assert (found.lines, found.failed) == (["| table |"], "its pictures cannot be drawn: no logarithm of 0")


def test_a_reason_has_no_names_of_folders() -> None:
    assert reason(["cannot read /work/somewhere/.parts/kafka.jar: gone"], 1) == "cannot read kafka.jar: gone"
    assert reason(["redis://127.0.0.1:6379/0 is gone"], 1) == "redis://127.0.0.1:6379/0 is gone"
    assert reason([], 3) == "exit code 3"


def test_facts_have_no_name_of_host_or_folder() -> None:
    text = "\n".join(facts())
    assert socket.gethostname() not in text
    assert str(Path.cwd()) not in text
    assert f"{os.cpu_count()} cores" in text


def test_every_section_is_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "--report", "bench.md", "--events", "1000"])
    found = list(bench.sections(bench.arguments()))
    for section in found:
        monkeypatch.setattr("sys.argv", ["bench", *section.flags])
        assert bench.arguments().report is None
    assert len({section.title for section in found}) == len(found) == 11
