"""`funnelwatch dictionary` prints or writes what was asked for, and its exit code says whether meanings change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas.dictionary import Dictionary, Difference
from streams.cli import run

REFERENCE = str(Path(__file__).parents[2] / "deploy" / "reference.yaml")


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """Where to write a config that differs from the reference."""
    return tmp_path / "new.yaml"


def edited(path: Path, old: str, new: str) -> str:
    text = Path(REFERENCE).read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")
    return str(path)


def test_it_prints_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dictionary", "--config", REFERENCE]) == 0
    assert capsys.readouterr().out.startswith("# What the numbers mean\n")


def test_it_prints_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dictionary", "--config", REFERENCE, "--json"]) == 0
    found = Dictionary.model_validate_json(capsys.readouterr().out)
    assert [funnel.name for funnel in found.funnels] == ["purchase"]


def test_it_speaks_chinese(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dictionary", "--config", REFERENCE, "--language", "zh"]) == 0
    assert capsys.readouterr().out.startswith("# 数字的含义\n")


def test_it_writes_to_a_file_and_prints_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "dictionary.json"
    assert run(["dictionary", "--config", REFERENCE, "--json", "--out", str(out)]) == 0
    assert capsys.readouterr().out == ""
    assert json.loads(out.read_text("utf-8"))["language"] == "en"


def test_a_file_that_cannot_be_written_is_one_line_and_exit_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["dictionary", "--config", REFERENCE, "--out", str(tmp_path / "no" / "such")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be written" in line


def test_a_language_that_is_not_there_is_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dictionary", "--config", REFERENCE, "--language", "fr"]) == 2
    assert capsys.readouterr().out == ""


def test_a_difference_in_meaning_is_exit_1(capsys: pytest.CaptureFixture[str], changed: Path) -> None:
    new = edited(changed, "conversion_window: 30m", "conversion_window: 20m")
    assert run(["dictionary", "--config", new, "--diff", REFERENCE]) == 1
    assert "Who takes longer than 20 minutes does not count any more" in capsys.readouterr().out


def test_a_difference_in_words_is_exit_0(capsys: pytest.CaptureFixture[str], changed: Path) -> None:
    new = edited(changed, "title: Browse to order", "title: Shop")
    assert run(["dictionary", "--config", new, "--diff", REFERENCE, "--json"]) == 0
    found = Difference.model_validate_json(capsys.readouterr().out)
    assert found.same
    assert [change.text for change in found.changes] == ["Title: ‘Browse to order’ before, ‘Shop’ now."]


def test_a_bad_old_config_is_exit_2(capsys: pytest.CaptureFixture[str], changed: Path) -> None:
    bad = edited(changed, "source: web", "source: wob")
    assert run(["dictionary", "--config", REFERENCE, "--diff", bad]) == 2
    assert "there is no source 'wob'" in capsys.readouterr().err
