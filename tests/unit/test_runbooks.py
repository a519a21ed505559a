"""A runbook for every alert and an alert for every runbook; what a runbook says to type or to look at exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
import yaml

from alerting.prometheus_health import LEAK, RECORDED
from streams.cli import app
from streams.metrics import DEFINITIONS
from tests.parts.dashboards import NAMES, committed, panels, selectors

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "deploy" / "runbooks"
RULES = [ROOT / "deploy" / "prometheus" / name for name in ("rules.yaml", "pipeline.yaml")]
BOOKS = sorted(path.stem for path in RUNBOOKS.glob("*.md") if path.stem != "README")
SECTIONS = ["What it means", "What to look at", "What to do", "When it is over"]
SERVED = {definition.name for definition in DEFINITIONS} | {"up", "ALERTS"} | RECORDED.keys()
IN_PLACE = re.compile(r"`(funnelwatch [^`]+)`")
each_book = pytest.mark.parametrize("name", BOOKS)


def text_of(name: str) -> str:
    return (RUNBOOKS / f"{name}.md").read_text("utf-8")


def blocks(text: str, language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [line for block in found for line in block.splitlines() if line]


def source_text() -> str:
    kinds = ("*.py", "*.js", "*.html")
    files = [path for folder in ("streams", "alerting") for kind in kinds for path in (ROOT / folder).rglob(kind)]
    return "\n".join(path.read_text("utf-8") for path in files)


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    rules = [one for path in RULES for group in yaml.safe_load(path.read_text("utf-8"))["groups"] for one in group["rules"]]
    alerts = {one["alert"] for one in rules if one.get("alert", "").startswith("Funnelwatch")}
    assert alerts | {LEAK} == set(BOOKS)
    addresses = {one["annotations"]["runbook_url"] for one in rules if "alert" in one}
    ours = {address for address in addresses if not address.startswith("https://wiki.example/")}  # the reference config's own
    assert all((ROOT / address).is_file() for address in ours)
    assert len(ours) == len(BOOKS) - 1  # FunnelwatchPipeline has one of its own there


def test_the_list_of_runbooks_is_whole() -> None:
    assert re.findall(r"^\| \[(\w+)\]\(\1\.md\)", (RUNBOOKS / "README.md").read_text("utf-8"), re.MULTILINE) == BOOKS


@each_book
def test_a_runbook_says_what_it_means_what_to_look_at_what_to_do_and_when_it_is_over(name: str) -> None:
    text = text_of(name)
    assert text.startswith(f"# {name}: ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert all(part.strip() for part in re.split(r"^## .+$", text, flags=re.MULTILINE)[1:])
    assert blocks(text, "promql")
    assert all((RUNBOOKS / linked).is_file() for linked in re.findall(r"\]\(([^)]+)\)", text))


@each_book
def test_queries_of_a_runbook_are_of_what_is_served_or_recorded(name: str) -> None:
    for query in blocks(text_of(name), "promql"):
        for selector, _ in selectors(query):
            assert re.sub(r"_(bucket|count)$", "", selector.name) in SERVED, query


@each_book
def test_commands_of_a_runbook_exist_with_their_options(name: str) -> None:
    text = text_of(name)
    for line in [*blocks(text, "console"), *IN_PLACE.findall(text)]:
        words = line.split()
        if words[0] == "funnelwatch":
            assert known(words[1:]), line


def known(words: list[str]) -> bool:
    """Whether the command line has these commands and options."""
    command = typer.main.get_command(app)
    while words and (below := getattr(command, "commands", {}).get(words[0])) is not None:
        command, words = below, words[1:]
    options = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    return not getattr(command, "commands", {}) and {word for word in words if word.startswith("--")} <= options


@each_book
def test_panels_that_a_runbook_names_are_on_a_dashboard(name: str) -> None:
    titles = {panel["title"] for dashboard in NAMES for panel in panels(committed(dashboard))}
    assert set(re.findall(r"\*\*(.+?)\*\*", text_of(name))) <= titles
    boards = {committed(dashboard)["title"] for dashboard in NAMES}
    assert set(re.findall(r"(?<!\*)\*(Funnels: [^*]+)\*", text_of(name))) <= boards


def test_what_a_runbook_quotes_is_said_by_the_program() -> None:
    said = source_text().replace('" "', "")
    for name in BOOKS:
        prose = re.sub(r"```.*?```", "", text_of(name), flags=re.DOTALL)
        for quoted in re.findall(r'"([^"]+)"', prose):
            shown = " ".join(quoted.split())
            assert shown in said or (shown.endswith(" fails") and f'"{shown.removesuffix(" fails")}"' in said), (name, shown)
