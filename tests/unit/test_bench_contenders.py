"""A contender runs the code of its checkout, and only that."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import __main__ as bench
from tests.bench.contenders import ROOT, Funnelwatch, FunnelwatchBefore, Task

TASK = Task("name", "localhost:1", "redis://localhost:1/0", "clicks", 1, ())


@pytest.mark.parametrize("kind", [Funnelwatch, FunnelwatchBefore])
def test_a_worker_finds_its_modules_in_its_checkout(kind: type[Funnelwatch], tmp_path: Path) -> None:
    contender = kind(TASK, tmp_path)
    try:
        assert f"PYTHONPATH={tmp_path}" in contender.command()
    finally:
        contender.close()


def test_a_folder_without_the_program_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "--against", str(tmp_path)])
    with pytest.raises(SystemExit):
        bench.arguments()
    assert "no checkout of this repository" in capsys.readouterr().err


def test_another_checkout_joins_those_that_were_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "--only", "limit", "--only", "funnelwatch", "--against", str(ROOT)])
    assert bench.arguments().only == ["limit", "funnelwatch", "funnelwatch-before"]
