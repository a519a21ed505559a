"""The pages in deploy/ say what the code does."""

import re
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel

from schemas.config import Config, load
from streams.metrics import page
from tests.faults.catalogue import experiments

DEPLOY = Path(__file__).parents[2] / "deploy"


def models_in(annotation: Any) -> list[type[BaseModel]]:
    found = [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []
    return found + [m for part in get_args(annotation) for m in models_in(part)]


def options(model: type[BaseModel]) -> set[str]:
    """Every key a config may have, whatever its place."""
    keys = {field.alias or name for name, field in model.model_fields.items()}
    return keys.union(*(options(m) for field in model.model_fields.values() for m in models_in(field.annotation)))


def keys_of(node: Any) -> set[str]:
    if isinstance(node, dict):
        return set(node).union(*map(keys_of, node.values()))
    return set().union(*map(keys_of, node)) if isinstance(node, list) else set()


def test_the_reference_config_is_a_config() -> None:
    assert load(DEPLOY / "reference.yaml").funnels


def test_the_reference_config_shows_every_option() -> None:
    shown = keys_of(yaml.safe_load((DEPLOY / "reference.yaml").read_text()))
    assert options(Config) - shown == set()


def test_the_metrics_page_is_what_the_definitions_say() -> None:
    assert (DEPLOY / "metrics.md").read_text() == page()


def test_every_test_that_the_security_page_names_is_there() -> None:
    text = (DEPLOY / "security.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) > 20
    assert [f"{file}::{test}" for file, test in named if f"def {test}(" not in (DEPLOY.parent / file).read_text()] == []
    played = [name for found in re.findall(r"experiments? `([\w-]+)`(?: and `([\w-]+)`)?", text) for name in found if name]
    assert played
    assert set(played) <= set(experiments())
