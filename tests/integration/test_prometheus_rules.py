"""The generated rules in the real promtool and a real Prometheus, which scrapes what a worker would serve."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from faust.types import TP

from alerting.conditions import Verdict, judge
from alerting.prometheus_files import PIPELINE, PIPELINE_TESTS, RULES, files
from alerting.samples import look
from schemas.config import Config, load, parse
from schemas.duration import MICROS
from schemas.report import AlertState
from streams.adjusting import Adjusting
from streams.collector import SourceReading
from streams.metrics import WorkerMetrics, exposition
from tests.parts.alerts import Counts, config
from tests.parts.ledger_text import ledger_text
from tests.parts.prometheus import Prometheus

REFERENCE = Path(__file__).parents[2] / "deploy" / "reference.yaml"
PROMTOOL_SECONDS = 110
WAIT_SECONDS = 40
STEP_US = 10 * MICROS

KINDS = r"""
sources: [{name: web, topic: clicks}, {name: app, topic: taps}]
funnels:
  - name: purchase
    title: 'Browse {{ to }} "order" 100%'
    source: web
    conversion_window: 10m
    windows: [1m, 5m, 16m, 1h]
    dimensions: {device: {field: properties.device, allow: ['i"o\s', android]}, channel and device: properties.both}
    stages: [{name: view, event: v}, {name: cart, event: c, target: 0.5}, {name: pay, event: p}]
alerts:
  - {funnel: purchase, name: Below, stage: pay, basis: users, window: 5m, below: 0.4, for: 2m, recover_above: 0.45, by: [device], runbook: 'https://x/{{y}}'}
  - {funnel: purchase, name: Above, stage: pay, basis: users, window: 5m, above: 0.9, recover_below: 0.8, keep_firing_for: 1m}
  - {funnel: purchase, name: Target, stage: cart, basis: users, window: 1m, below_target: true, severity: page}
  - {funnel: purchase, name: Adjusted, stage: pay, window: 5m, below: 0.4, for: 30s, by: [device, channel and device]}
  - {funnel: purchase, name: AdjustedAbove, stage: pay, window: 5m, above: 0.4}
  - {funnel: purchase, name: Finished, stage: pay, basis: entries, window: 5m, below: 0.4}
  - {funnel: purchase, name: TwoWindows, stage: pay, basis: users, window: 5m, long_window: 1h, below: 0.4}
  - {funnel: purchase, name: Wider, stage: pay, basis: users, window: 1m, widen_to: 1h, below: 0.4}
  - {funnel: purchase, name: Sequential, stage: pay, window: 5m, below: 0.3, detector: sequential, by: [device]}
  - {funnel: purchase, name: Yesterday, stage: pay, basis: users, window: 5m, drop: {by: 0.25, from: yesterday}, for: 2m, by: [device]}
  - {funnel: purchase, name: Median, stage: pay, window: 5m, drop: {by: 0.25, over: 7d, recover_by: 0.1}}
  - {funnel: purchase, name: Few, stage: pay, basis: users, window: 5m, below: 0.001, min_entrants: 1, confidence: 0.5}
  - {funnel: purchase, name: Never, stage: pay, basis: users, window: 1h, below: 0}
"""


def kinds(*chosen: str) -> Config:
    """Rules of every kind, or those named."""
    found = parse(KINDS)
    return found.model_copy(update={"alerts": tuple(rule for rule in found.alerts if not chosen or rule.name in chosen)})


QUICK = ("Below", "Above", "Target", "Adjusted", "AdjustedAbove", "Finished", "TwoWindows", "Wider", "Sequential", "Few", "Never")
CONFIGS = {
    "reference": lambda: load(REFERENCE),  # it has a drop from the same hour of past weeks
    "quick": lambda: kinds(*QUICK),
    "past": lambda: kinds("Yesterday", "Median"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_promtool_finds_the_rules_right_and_their_tests_pass(promtool_binary: Path, tmp_path: Path, name: str) -> None:
    written = files(CONFIGS[name]())
    for file, text in written.items():
        (tmp_path / file).write_text(text)
    # The pipeline's are the same whatever the funnels' are.
    tests = [file for file in written if file.endswith("_test.yaml") and (name == "quick" or file != PIPELINE_TESTS)]
    commands = [["check", "rules", RULES, PIPELINE], ["test", "rules", *tests]]
    for command in commands:
        done = subprocess.run([promtool_binary, *command], cwd=tmp_path, capture_output=True, text=True, timeout=PROMTOOL_SECONDS)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@contextmanager
def served(text: bytes) -> Iterator[str]:
    """The address of a server that answers with this, whatever it is asked."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


RULES_JUDGED: tuple[dict[str, Any], ...] = (
    {"name": "Users", "by": ["device"], "for": "0s"},
    {"name": "Above", "below": None, "recover_above": None, "above": 0.9, "for": "0s"},
    {"name": "Long", "window": "36m", "for": "0s", "below": 0.2, "recover_above": 0.2},
    {"name": "Wide", "window": "10s", "widen_to": "36m", "for": "0s"},
    {"name": "Finished", "basis": "entries", "for": "0s"},
    {"name": "Adjusted", "basis": "adjusted", "for": "0s"},
    {"name": "Sequential", "basis": "adjusted", "detector": "sequential", "for": "0s"},
    {"name": "Relative", "drop": {"by": 0.25, "from": "yesterday"}, "below": None, "recover_above": None, "for": "0s"},
)
FOLLOWED = "Sequential"
UNTOLD = "Relative"  # has no past in a Prometheus that has just begun


class Shop:
    """Four hours of 120 entrants a minute of whom half pay, and five minutes of a tenth; worst on ios."""

    def __init__(self) -> None:
        self.config = config(*RULES_JUDGED)
        self.counts = Counts(*RULES_JUDGED)
        self.boundary_us = int(time.time()) * MICROS // STEP_US * STEP_US
        for back in range(1, 4 * 360 + 1):
            broken = back <= 30
            at_us = self.boundary_us - back * STEP_US
            self.counts.add(at_us, 20, 2 if broken else 10)
            self.counts.add(at_us, 10, 0 if broken else 5, "device", "ios")
            self.counts.add(at_us, 10, 5, "device", "android")
        source = self.config.sources[0]
        self.adjusting = Adjusting(self.counts, source.allowed_lateness.micros).at(self.boundary_us - 1)

    def verdict(self, name: str, split: tuple[str, str] | None = None) -> Verdict:
        rule = next(rule for rule in self.config.alerts if rule.name == name)
        return judge(rule, look(rule, self.counts, self.adjusting, 2, split, self.boundary_us))

    def exposition(self) -> bytes:
        funnel = self.config.funnels[0]
        reading = SourceReading(
            "web", self.boundary_us - 1, {"applied": 1000}, 0, {0: self.boundary_us - 1}, {"purchase": self.counts},
            {"purchase": tuple((str(w), int(w)) for w in self.config.windows_of(funnel))}, {"purchase": self.adjusting},
        )  # fmt: skip
        worker, now = WorkerMetrics("1.2.3"), datetime.now(timezone.utc)
        worker.at(TP("clicks", 0), "web", 0, 0.0)
        state = AlertState(
            rule=FOLLOWED, funnel="purchase", stage="pay", dimension=None, value=None, state="firing", since=now, at=now, data="ok", flaps=1,
            numerator=1, denominator=2, rate=0.5, threshold=0.6, severity="page", window="5m",
        )  # fmt: skip
        return exposition(worker, ledger_text([reading], [state]))


def test_a_real_prometheus_comes_to_the_verdicts_of_funnelwatch(prometheus_binary: Path) -> None:
    shop = Shop()
    written = files(shop.config)
    with served(shop.exposition()) as address:
        scrape = (
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
            f"rule_files: [{RULES}]\n"
            f"scrape_configs: [{{job_name: funnelwatch, static_configs: [{{targets: ['{address}']}}]}}]\n"
        )
        # Its groups are evaluated each second, to be seen soon.
        rules = written[RULES].replace("interval: 10s", "interval: 1s").replace("interval: 60s", "interval: 1s")
        with Prometheus(prometheus_binary, scrape, {RULES: rules}) as prometheus:
            expected = {
                (rule.name, split and split[1])
                for rule in shop.config.alerts
                for split in (None, *((("device", "ios"), ("device", "android")) if rule.by else ()))
                if rule.name == FOLLOWED or (rule.name != UNTOLD and shop.verdict(rule.name, split).outcome == "breach")
            }
            assert {("Users", None), ("Users", "ios"), ("Adjusted", None), ("Wide", None), (FOLLOWED, None)} == expected
            told = wait_for_alerts(prometheus, expected)
            assert healths(prometheus) == {"ok"}
            agrees(prometheus, shop)
    ios = told["Users", "ios"]
    assert ios["labels"] == {
        "alertname": "Users", "funnel": "purchase", "stage": "pay", "severity": "page", "source": "funnelwatch", "dimension": "device", "value": "ios",
    }  # fmt: skip
    assert ios["annotations"]["summary"] == "Browse to order (device ios): checkout → pay at 0%, under 40%"
    assert "of 300 users at checkout 0 went on to pay" in ios["annotations"]["description"]


def wait_for_alerts(prometheus: Prometheus, expected: set[tuple[str, str | None]]) -> dict[tuple[str, str | None], dict[str, Any]]:
    """The alerts that fire, once they are those that are expected and have been for some seconds."""
    deadline, since = time.monotonic() + WAIT_SECONDS, None
    while True:
        alerts = httpx.get(f"{prometheus.url}/api/v1/alerts").raise_for_status().json()["data"]["alerts"]
        found = {(one["labels"]["alertname"], one["labels"].get("value")): one for one in alerts if one["state"] == "firing"}
        since = (since or time.monotonic()) if found.keys() == expected else None
        if since is not None and time.monotonic() - since > 3:
            return found
        assert time.monotonic() < deadline, f"waited in vain: {found.keys() ^ expected}"
        time.sleep(0.2)


def healths(prometheus: Prometheus) -> set[str]:
    """Of every rule, none of which may have failed or not be evaluated."""
    groups = httpx.get(f"{prometheus.url}/api/v1/rules").raise_for_status().json()["data"]["groups"]
    assert [rule["lastError"] for group in groups for rule in group["rules"] if rule.get("lastError")] == []
    return {rule["health"] for group in groups for rule in group["rules"]}


def agrees(prometheus: Prometheus, shop: Shop) -> None:
    def value(metric: str, rule: str, split: str = "") -> float:
        (one,) = prometheus.query(f'funnelwatch:rule_{metric}{{rule="{rule}", value="{split}"}}')
        return float(one["value"][1])

    for rule, split in (("Users", None), ("Users", ("device", "ios")), ("Users", ("device", "android")), ("Long", None)):
        verdict, named = shop.verdict(rule, split), split[1] if split else ""
        assert value("numerator", rule, named) == verdict.numerator
        assert value("denominator", rule, named) == verdict.denominator
        assert value("limit_ratio", rule, named) == pytest.approx(verdict.upper, abs=1e-6)
    assert shop.verdict("Wide").window_seconds == 20  # which is not served; the next that is has 5 minutes
    assert value("denominator", "Wide") == shop.verdict("Users").denominator
    assert value("limit_ratio", "Above") == pytest.approx(shop.verdict("Above").low, abs=1e-6)
    adjusted = shop.verdict("Adjusted")
    assert adjusted.basis == "adjusted"
    assert value("numerator", "Adjusted") == adjusted.numerator
    assert value("denominator", "Adjusted") == pytest.approx(adjusted.denominator, rel=0.02)  # T is a moment before the boundary
    assert value("ratio", "Adjusted") == pytest.approx(adjusted.rate, rel=0.02)
    assert value("limit_ratio", "Adjusted") == pytest.approx(adjusted.upper, rel=0.02)
    finished = shop.verdict("Finished")
    for part in ("numerator", "denominator"):  # T is a moment before the boundary, and lets one bucket less be finished
        assert value(part, "Finished") == pytest.approx(getattr(finished, part), rel=0.04)
    assert prometheus.query(f'funnelwatch:rule_limit_ratio{{rule="{UNTOLD}"}}') == []
