"""Real parts as fixtures: fetched before the first test, shared by all, stopped when all are done.

A test whose part cannot be had is skipped, and named with the reason at the end of the output;
with FUNNELWATCH_REQUIRE_ALL=1 every skipped test counts as failed. Shared parts hold the data of
all tests: name topics and keys after `unique_name`. A test that breaks its part starts its own,
`with Kafka(kafka_jars) as kafka: ...`.
"""

from __future__ import annotations

import os

os.environ.setdefault("FUNNELWATCH_COMPILED", "0")  # tests put their own functions in; the compiled engine has tests/unit/test_compiled.py

import re
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from streams.embedded import KafkaProcess, RedisProcess, Tansu, Valkey
from tests.parts import requirements
from tests.parts.alone import machine
from tests.parts.kafka import Kafka
from tests.parts.redis import RedisServer

REQUIRE_ALL = os.environ.get("FUNNELWATCH_REQUIRE_ALL") == "1"
Report: TypeAlias = pytest.TestReport | pytest.CollectReport
NOT_OURS = "not ours to ship: "  # how the reason of a skip begins that no setting can forbid
NAME_LENGTH_MAX = 40  # of a ledger's key prefix
# What the parts need that a test gets by parameter, as with `any_kafka`: pytest cannot tell.
NEEDED_BY = {"kafka": "kafka_jars", "redis_server": "redis_server_binary", "redis_cluster": "redis_server_binary"}


def needs(item: pytest.Item) -> set[str]:
    """The requirements among a test's fixtures, direct or not."""
    callspec = getattr(item, "callspec", None)
    parameters = callspec.params.values() if callspec else ()
    by_parameter = {NEEDED_BY[value] for value in parameters if isinstance(value, str) and value in NEEDED_BY}
    return requirements.REQUIREMENTS.keys() & {*getattr(item, "fixturenames", ()), *by_parameter}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs more than Python packages, before `-m` selects; begin with what has to be alone.

    Each of those waits for what runs beside it to end, and all else waits for it: one after the other they wait but once.
    """
    for item in items:
        if needs(item):
            item.add_marker(pytest.mark.real)
    alone = {item.path for item in items if item.get_closest_marker("alone")}
    places = {path: place for place, path in enumerate(dict.fromkeys(item.path for item in items))}
    items.sort(key=lambda item: (item.path not in alone, places[item.path], item.get_closest_marker("alone") is None))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch what the selected tests need now, as a download must not count as some test's time."""
    if not session.config.option.collectonly:
        for name in sorted({name for item in session.items for name in needs(item)}):
            requirements.find(name)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before pytest-timeout begins to count
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """One after the other where a test measures, though `-n` runs them side by side."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    requirements.PARTS.mkdir(exist_ok=True)
    with machine(requirements.PARTS, alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Report, Report]:
    return refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Report, Report]:
    return refuse_skip((yield))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
    """Name every skipped test last, after pytest's own summaries."""
    yield
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.section("not run here")
        for report in skipped:
            terminalreporter.write_line(f"{report.nodeid}: {skip_reason(report)}")


def refuse_skip(report: Report) -> Report:
    """Let a skip count as a failure where every test must run, but for data that nobody can fetch."""
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail") and not skip_reason(report).startswith(NOT_OURS):
        report.longrepr = f"skipped, though FUNNELWATCH_REQUIRE_ALL=1: {skip_reason(report)}"
        report.outcome = "failed"
    return report


def skip_reason(report: Report) -> str:
    where_and_why = report.longrepr
    reason = where_and_why[2] if isinstance(where_and_why, tuple) else str(where_and_why)
    return reason.removeprefix("Skipped: ")


def require(name: str) -> Path:
    found = requirements.find(name)
    if isinstance(found, requirements.Missing):
        pytest.skip(found.reason)
    return found


@pytest.fixture(scope="session")
def kafka_jars() -> Path:
    return require("kafka_jars")


@pytest.fixture(scope="session")
def redis_server_binary() -> Path:
    return require("redis_server_binary")


@pytest.fixture(scope="session")
def prometheus_binary() -> Path:
    return require("prometheus_binary")


@pytest.fixture(scope="session")
def promtool_binary() -> Path:
    return require("promtool_binary")


@pytest.fixture(scope="session")
def alertmanager_binary() -> Path:
    return require("alertmanager_binary")


@pytest.fixture(scope="session")
def chromium_binary() -> Path:
    return require("chromium_binary")


@pytest.fixture(scope="session")
def deploy_tools() -> Path:
    """A folder with hadolint and docker-compose; `import helm_python` and `kubernetes_validate` work beside it."""
    return require("deploy_tools")


@pytest.fixture(scope="session")
def tansu() -> Iterator[Tansu]:
    with Tansu() as started:
        yield started


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    with Valkey() as started:
        yield started


@pytest.fixture(scope="session")
def kafka(kafka_jars: Path) -> Iterator[Kafka]:
    with Kafka(kafka_jars) as started:
        yield started


@pytest.fixture(scope="session")
def redis_server(redis_server_binary: Path) -> Iterator[RedisServer]:
    with RedisServer(redis_server_binary) as started:
        yield started


@pytest.fixture(scope="session", params=["tansu", "kafka"])
def any_kafka(request: pytest.FixtureRequest) -> KafkaProcess:
    """The test runs once on each broker."""
    broker: KafkaProcess = request.getfixturevalue(request.param)
    return broker


@pytest.fixture(scope="session", params=["valkey", "redis_server"])
def any_redis(request: pytest.FixtureRequest) -> RedisProcess:
    """The test runs once on each store."""
    store: RedisProcess = request.getfixturevalue(request.param)
    return store


@pytest.fixture
def unique_name(request: pytest.FixtureRequest) -> str:
    """A name that no other test has, fit for a topic, a group and a key prefix."""
    random = uuid.uuid4().hex[:8]
    readable = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_"))
    return f"{readable[: NAME_LENGTH_MAX - len(random) - 1].strip('-')}-{random}"
