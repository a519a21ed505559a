"""What a worker must be allowed: all that the code asks for, nothing else, and said so in deploy/permissions.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from schemas.config import parse
from streams.permissions import REDIS_COMMANDS, Grant, kafka_grants, redis_user

ROOT = Path(__file__).parents[2]
PACKAGES = ("streams", "alerting")
IN_SCRIPTS = re.compile(r"redis\.p?call\('(\w+)'")
CLIENTS = ("_client", "pipe", "client")
# Methods of the client that are not commands of the same name.
MEANT = {
    "register_script": ("evalsha", "script|load"),
    "pipeline": ("multi", "exec"),
    "scan_iter": ("scan",),
    "execute": (),
    "aclose": (),
    "get_node_from_key": (),
}


def called_by_scripts() -> set[str]:
    files = [path for package in PACKAGES for kind in ("*.lua", "*.py") for path in (ROOT / package).rglob(kind)]
    return {name.lower() for path in files for name in IN_SCRIPTS.findall(path.read_text("utf-8"))}


def called_by_us() -> Iterator[str]:
    """The methods called on a client of Redis, in every module that keeps one."""
    for path in (p for package in PACKAGES for p in (ROOT / package).rglob("*.py")):
        text = path.read_text("utf-8")
        if "from redis.asyncio import Redis" not in text or path.name == "redis_client.py" or path.parent.name == "doctor":
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = node.func.value
                name = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
                plain = "transaction=False" in map(ast.unparse, node.keywords)  # a pipeline that is no more than its commands
                if name in CLIENTS and not plain:
                    yield from MEANT.get(node.func.attr, (node.func.attr,))


def test_the_commands_are_exactly_those_that_the_code_uses() -> None:
    assert set(REDIS_COMMANDS) == called_by_scripts() | set(called_by_us())


def test_the_page_shows_the_line_of_the_user() -> None:
    page = (ROOT / "deploy" / "permissions.md").read_text("utf-8")
    plain = " ".join(page.replace("\\\n", " ").split())
    for line in (redis_user("funnelwatch", "fw"), redis_user("funnelwatch", "fw", cluster=True, doctor=True)):
        assert line in plain


def test_kafka_grants_are_what_the_config_needs_and_each_says_why() -> None:
    config = parse("""
sources:
  - {name: web, topic: clicks, entity_key: false}
funnels:
  - {name: f, source: web, conversion_window: 5m, windows: [5m], stages: [{name: a, event: a}, {name: b, event: b}]}
channels:
  ours: {type: kafka, topic: told}
""")
    grants = kafka_grants(config, "shop", create=False)
    assert all(grant.why for grant in grants)
    assert {(g.operation, g.resource, g.name) for g in grants} == {
        ("READ", "group", "shop"),
        ("READ", "topic", "clicks"),
        ("READ", "topic", "clicks.by-entity"),
        ("WRITE", "topic", "clicks.by-entity"),
        ("WRITE", "topic", "clicks.dead-letter"),
        ("WRITE", "topic", "told"),
    }
    more: set[Grant] = {*kafka_grants(config, "shop", create=True, doctor=True)} - {*grants}
    assert {(g.operation, g.name) for g in more} == {
        ("CREATE", "clicks.by-entity"),
        ("CREATE", "clicks.dead-letter"),
        ("DESCRIBE_CONFIGS", "clicks"),
        ("DESCRIBE_CONFIGS", "clicks.by-entity"),
    }
