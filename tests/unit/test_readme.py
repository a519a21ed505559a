"""The README says what is true."""

import re
from pathlib import Path

import yaml
from typer.main import get_command

from schemas.config import parse
from streams.cli import app

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()


def test_the_config_of_the_readme_has_ten_lines_and_is_valid() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    assert len(text.splitlines()) == 10
    assert [f.name for f in parse(text).funnels] == [yaml.safe_load(text)["funnels"][0]["name"]]


def test_every_command_of_the_readme_exists_and_every_command_is_in_the_readme() -> None:
    shown = set(re.findall(r"\| `funnelwatch (\w+)", TEXT))
    assert shown == set(get_command(app).commands)  # type: ignore[attr-defined]  # typer's group of commands


def test_every_file_the_readme_links_is_there() -> None:
    for link in re.findall(r"\]\(((?!http)[^)#]+)\)", TEXT):
        assert (ROOT / link).exists(), link
