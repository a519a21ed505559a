"""The configs of Prometheus, Alertmanager and Grafana under deploy, as their own tools read them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

from alerting.prometheus_health import JOB
from tests.parts.dashboards import NAMES

DEPLOY = Path(__file__).parents[2] / "deploy"


def read(path: str) -> Any:
    return yaml.safe_load((DEPLOY / path).read_text("utf-8"))


def told(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_promtool_finds_prometheus_config_right_with_its_rules(promtool_binary: Path) -> None:
    assert "2 rule files found" in told(promtool_binary, "check", "config", DEPLOY / "prometheus" / "prometheus.yaml")


def test_the_job_is_the_one_that_the_rules_look_for_and_is_scraped_as_often_as_they_need() -> None:
    config = read("prometheus/prometheus.yaml")
    assert JOB in {one["job_name"] for one in config["scrape_configs"]}
    assert int(config["global"]["scrape_interval"].removesuffix("s")) <= 30


def test_amtool_finds_alertmanagers_config_right_and_routes_by_severity(alertmanager_binary: Path) -> None:
    amtool = alertmanager_binary.parent / "amtool"
    config = DEPLOY / "alertmanager" / "alertmanager.yaml"
    assert "SUCCESS" in told(amtool, "check-config", config)
    for labels, receiver in (
        (["alertname=PayLow", "severity=page"], "pager"),
        (["alertname=PayLow", "severity=warning"], "people"),
        (["alertname=FunnelwatchDeadMan", "severity=none"], "dead_man"),
    ):
        assert told(amtool, "config", "routes", "test", f"--config.file={config}", *labels).splitlines()[0] == receiver


def test_grafana_finds_data_source_and_dashboards_where_they_are_provisioned() -> None:
    (prometheus, _) = read("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    assert (prometheus["type"], prometheus["uid"], prometheus["isDefault"]) == ("prometheus", "prometheus", True)
    scraped = read("prometheus/prometheus.yaml")["global"]["scrape_interval"]
    assert prometheus["jsonData"]["timeInterval"] == scraped
    (provider,) = read("grafana/provisioning/dashboards/funnelwatch.yaml")["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
    assert {path.stem for path in (DEPLOY / "grafana" / "dashboards").glob("*.json")} == set(NAMES)
