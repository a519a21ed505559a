"""deploy/README.md names commands, options, values and files that are there."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import yaml
from typer.main import get_command

from schemas.settings import describe
from streams.cli import app
from tests.parts.compose import DEPLOY, services

TEXT = (DEPLOY / "README.md").read_text()
CONSOLE = "\n".join(re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)).replace("\\\n", " ")
OURS = re.findall(r"^(funnelwatch .*)$", CONSOLE, re.MULTILINE) + re.findall(r"`(funnelwatch [^`]+)`", TEXT)


@pytest.mark.parametrize("line", OURS)
def test_a_command_of_ours_is_understood(line: str) -> None:
    command: Any = get_command(app)
    words = shlex.split(line)[1:]
    while hasattr(command, "commands"):
        assert words[0] in command.commands, line
        command = command.commands[words.pop(0)]
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known, line


def test_every_link_leads_somewhere() -> None:
    places = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if not link.startswith("http")]
    anchors = {re.sub(r"[^a-z -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^## (.*)$", TEXT, re.MULTILINE)}
    for place in places:
        assert place[1:] in anchors if place.startswith("#") else (DEPLOY / place).exists(), place


def test_values_and_services_that_are_named_are_there() -> None:
    values = yaml.safe_load((DEPLOY / "helm" / "funnelwatch" / "values.yaml").read_text())
    for name in re.findall(r"--set(?:-file)? (\w+)[.=]", CONSOLE):
        assert name in values
    for row in re.findall(r"^\| (`.*?) \|", TEXT, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", row):
            assert name in values, name
    assert set(re.findall(r"--scale (\w+)=", TEXT)) <= services().keys()


def test_settings_that_are_exported_are_settings() -> None:
    assert set(re.findall(r"FUNNELWATCH_[A-Z_]+", TEXT)) <= {name for name, _, _ in describe()}
