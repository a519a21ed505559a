"""The config's rules in PromQL: the same evidence, the same labels, nothing left unsaid, nothing quoted wrongly."""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import Any

import pytest
import yaml

from alerting.bounds import EXACT_BELOW, exact_upper, wilson
from alerting.channels.alertmanager import AlertmanagerSender
from alerting.prometheus_files import files, limits
from alerting.prometheus_health import ALERTS
from alerting.prometheus_rules import Translation, labels_of, translate
from alerting.prometheus_text import DENOMINATOR, RATIO, Number, Whom, rendered, template
from alerting.promql import Not, counted, poisson, quoted, selector
from alerting.promql import wilson as wilson_promql
from schemas.channel import AlertmanagerChannel
from schemas.config import Config, load
from streams.adjusted import poisson_limits
from streams.cli import run
from tests.parts.alerts import config, notification, rule

DEPLOY = Path(__file__).parents[2] / "deploy"


def evaluated(promql: str, **vectors: float) -> float:
    """Arithmetic of PromQL over vectors of one sample each."""
    return float(eval(promql.replace("^", "**"), {"sqrt": sqrt, "clamp_min": max, **vectors}))


def translated(*rules: dict[str, Any], windows: list[str] | None = None, title: str = "Browse to order") -> list[Translation]:
    return list(translate(shop(*rules, windows=windows, title=title)))


def shop(*rules: dict[str, Any], windows: list[str] | None = None, title: str = "Browse to order") -> Config:
    """The tests' config, its first funnel with these windows and title."""
    written = config(*rules).model_dump(mode="json", by_alias=True, exclude_unset=True)
    written["funnels"][0] |= {"title": title, **({"windows": windows} if windows else {})}
    written["funnels"][0]["stages"][2] |= {"target": 0.7}
    return Config.model_validate(written)


def alert_of(translation: Translation) -> dict[str, Any]:
    found: dict[str, Any] = translation.group["rules"][-1]
    return found


def recorded(translation: Translation) -> dict[str, str]:
    return {one["record"]: one["expr"] for one in translation.group["rules"] if "record" in one}


# Evidence


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "trials"), [(0, 40), (12, 40), (100, 812), (800, 812), (812, 812)])
def test_the_limits_of_a_proportion_are_those_that_funnelwatch_takes(successes: int, trials: int, confidence: float) -> None:
    low, upper = wilson(successes / trials, trials, confidence)
    assert evaluated(wilson_promql("k", "n", confidence, upper=True), k=successes, n=trials) == pytest.approx(upper, abs=1e-6)
    assert evaluated(wilson_promql("k", "n", confidence, upper=False), k=successes, n=trials) == pytest.approx(low, abs=1e-6)


@pytest.mark.parametrize("trials", [10, 20, 30, EXACT_BELOW - 1])
@pytest.mark.parametrize(("confidence", "points"), [(0.8, 0.01), (0.9, 0.012), (0.95, 0.03)])
def test_with_few_entrants_the_limit_is_close_to_the_exact_one(trials: int, confidence: float, points: float) -> None:
    for successes in range(trials + 1):
        upper = evaluated(wilson_promql("k", "n", confidence, upper=True), k=min(successes + 0.5, trials), n=trials)
        assert upper == pytest.approx(exact_upper(successes, trials, confidence), abs=points)


def test_fewer_than_forty_count_half_a_conversion_on_the_safe_side() -> None:
    assert counted("k", "n", rises=False) == "k + 0.5 * (n < bool 40) < n or n"
    assert counted("k", "n", rises=True) == "clamp_min((k < n or n) - 0.5 * (n < bool 40), 0)"


@pytest.mark.parametrize("observed", [1, 3, 10, 100, 5000])
def test_the_limits_of_an_adjusted_rate_are_those_of_poisson(observed: int) -> None:
    low, upper = poisson_limits(observed, 0.9)
    assert evaluated(poisson("k", "w", 0.95, upper=True), k=observed, w=10) == pytest.approx(upper / 10, rel=0.01)
    assert evaluated(poisson("k", "w", 0.95, upper=False), k=observed, w=10) == pytest.approx(low / 10, abs=0.02)


def test_a_jump_in_conversions_of_users_counts_as_no_more_than_all_of_them() -> None:
    (one,) = translated({})
    assert " < funnelwatch:rule_denominator" in recorded(one)["funnelwatch:rule_counted"]


# Meaning


def test_a_rule_below_fires_by_the_upper_limit_and_a_rule_above_by_the_lower() -> None:
    low, high = translated({}, {"name": "High", "below": None, "recover_above": None, "above": 0.9})
    assert 'funnelwatch:rule_limit_ratio{rule="CheckoutToPayLow"} < 0.4' in alert_of(low)["expr"]
    assert 'funnelwatch:rule_limit_ratio{rule="High"} > 0.9' in alert_of(high)["expr"]
    assert "+ 1.64485 * sqrt" in recorded(low)["funnelwatch:rule_limit_ratio"]
    assert "- 1.64485 * sqrt" in recorded(high)["funnelwatch:rule_limit_ratio"]


def test_no_limit_is_made_of_fewer_than_min_entrants() -> None:
    (one,) = translated({"min_entrants": 77})
    assert recorded(one)["funnelwatch:rule_limit_ratio"].endswith('and funnelwatch:rule_denominator{rule="CheckoutToPayLow"} >= 77')


def test_a_rate_has_no_value_where_nobody_was() -> None:
    (one,) = translated({})
    assert recorded(one)[RATIO].endswith("> 0)")


def test_below_target_is_below_the_stages_target() -> None:
    (one,) = translated({"below": None, "recover_above": None, "below_target": True})
    assert "< 0.7" in alert_of(one)["expr"]
    assert ">= 0.7" in alert_of(one)["expr"]


def test_for_and_keep_firing_for_are_prometheuss_own() -> None:
    (one, plain) = translated({"for": "2m", "keep_firing_for": "90s"}, {"name": "Plain", "for": "0s"})
    assert alert_of(one)["for"] == "2m"
    assert alert_of(one)["keep_firing_for"] == "90s"
    assert {"for", "keep_firing_for"}.isdisjoint(alert_of(plain))


def test_a_rule_is_evaluated_as_often_as_funnelwatch_does_but_every_minute_at_least() -> None:
    short, long = translated({}, {"name": "Long", "window": "7d"})
    assert (short.group["interval"], long.group["interval"]) == ("10s", "60s")


def test_a_window_has_the_label_that_is_served_however_the_rule_writes_it() -> None:
    (one,) = translated({"window": "300s"}, windows=["5m"])
    assert 'window="300s"' in recorded(one)[DENOMINATOR]  # the last spelling of a length is the one that is served


def test_only_the_dimensions_of_the_rule_are_judged() -> None:
    total, split = translated({}, {"name": "Split", "by": ["device", "channel"]})
    assert 'dimension=""' in recorded(total)[DENOMINATOR]
    assert 'dimension=~"|device|channel"' in recorded(split)[DENOMINATOR]


def test_a_window_that_is_too_thin_widens_to_those_that_are_served() -> None:
    (one,) = translated({"widen_to": "1h"}, windows=["5m", "20m", "1h", "24h"])
    windows = [part.split('"')[0] for part in recorded(one)[DENOMINATOR].split('window="')[1:]]
    assert windows == ["5m", "20m", "1h", "5m"]
    assert any("20m, 1h" in what for what in one.differences)


def test_two_windows_must_both_be_beyond() -> None:
    (one,) = translated({"long_window": "1h"}, windows=["5m", "1h"])
    assert '\n  and funnelwatch:rule_limit_ratio_long{rule="CheckoutToPayLow"} < 0.4' in alert_of(one)["expr"]


def test_finished_entries_are_those_of_a_window_that_ends_when_they_are_finished() -> None:
    (one,) = translated({"basis": "entries"}, windows=["36m"])
    assert not one.follows
    for part in ("numerator", "denominator"):
        assert recorded(one)[f"funnelwatch:rule_{part}"] == (
            f'max by (dimension, value) (funnel_conversion_{part}{{basis="entries", dimension="", funnel="purchase", '
            f'stage="pay", window="36m"}})'
        )


@pytest.mark.parametrize("basis", ["users", "adjusted"])
def test_counts_are_those_that_the_rate_was_made_of(basis: str) -> None:
    (one,) = translated({"basis": basis})
    assert f'funnel_conversion_denominator{{basis="{basis}"' in recorded(one)[DENOMINATOR]
    assert not one.follows


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"detector": "sequential"}, "bucket by bucket"),
        ({"long_window": "1h"}, "long_window: 1h"),
        ({"widen_to": "1h"}, "widen_to: 1h"),
        ({"basis": "entries"}, "with 36m among the `windows`"),
    ],
)
def test_a_rule_that_promql_cannot_say_follows_funnelwatchs_own_verdict(changes: dict[str, Any], reason: str) -> None:
    (one,) = translated(changes)
    assert one.follows
    assert any(reason in what for what in one.obstacles)
    assert 'funnel_alert_state{dimension="", rule="CheckoutToPayLow"}) == 2' in alert_of(one)["expr"]
    assert "for" not in alert_of(one)  # it is in the state already
    assert "funnelwatch:rule_limit_ratio" not in recorded(one)


def test_a_median_goes_by_the_hour_of_the_week_where_it_looks_back_three_weeks() -> None:
    changes = {"below": None, "recover_above": None}
    weeks, days = translated({"drop": {"by": 0.25}, **changes}, {"name": "Days", "drop": {"by": 0.25, "over": "14d"}, **changes})
    assert recorded(weeks)["funnelwatch:rule_baseline_ratio"].count("offset") == 2 * 4 + 2
    assert "quantile by" not in recorded(days)["funnelwatch:rule_baseline_ratio"]
    assert any("29d" in what for what in weeks.differences)


# Labels, texts, quotes


@pytest.mark.parametrize("value", [None, "ios"])
def test_an_alert_has_the_labels_that_the_channel_gives_it(value: str | None) -> None:
    channel = AlertmanagerChannel.model_validate({"type": "alertmanager", "url": "http://alertmanager:9093"})
    told = AlertmanagerSender("oncall", channel, lambda: 0.0).alert(notification(value=value))["labels"]
    split = {"dimension": "device", "value": "ios"} if value else {}
    assert told == {"alertname": "CheckoutToPayLow", **labels_of(rule()), **split}


def test_quotes_and_backslashes_stay_inside_their_literal() -> None:
    assert quoted('a"b\\c\nd') == r'"a\"b\\c\nd"'
    assert selector("m", {"v": 'x"} or vector(1) #'}) == r'm{v="x\"} or vector(1) #"}'
    assert selector("m", {"v": ["", "a.b|c"]}) == r'm{v=~"|a\\.b\\|c"}'
    assert selector("m", {"v": Not("x")}, "5m") == 'm{v!="x"} offset 5m'


def test_a_title_cannot_be_code_of_a_template() -> None:
    (one,) = translated({}, title='{{ query "up" }}')
    assert alert_of(one)["annotations"]["summary"].startswith('{{ "{{" }} query "up" }}{{ if')


def test_a_text_reads_with_numbers_as_prometheus_makes_it() -> None:
    text = ("Of ", Number(DENOMINATOR, "count", "some"), Whom(), ": ", Number(RATIO, "percent", "unknown"))
    assert rendered(text, {DENOMINATOR: 812, RATIO: 0.12345678}, ("device", "ios")) == "Of 812 (device ios): 12.35%"
    assert rendered(text, {}, None) == "Of some: unknown"
    assert r"rule=\"A\", dimension=%q, value=%q}" in template("A", text)


def test_a_summary_says_what_leaks() -> None:
    (one,) = translated({})
    assert rendered(one.summary, {RATIO: 0.12}, ("device", "ios")) == "Browse to order (device ios): checkout → pay at 12%, under 40%"


# Files


@pytest.mark.parametrize("name", sorted(files(load(DEPLOY / "reference.yaml"))))
def test_the_rules_of_the_reference_config_are_in_step_with_it(name: str) -> None:
    """If not: `funnelwatch rules --config deploy/reference.yaml --out deploy/prometheus`."""
    assert (DEPLOY / "prometheus" / name).read_text("utf-8") == files(load(DEPLOY / "reference.yaml"))[name]


def rules_in(text: str) -> list[dict[str, Any]]:
    return [one for group in yaml.safe_load(text)["groups"] for one in group["rules"]]


def test_every_rule_and_every_source_has_an_alert_and_tests_both_ways() -> None:
    written = files(shop({}, {"name": "Followed", "detector": "sequential"}))
    of_pipeline = ["FunnelwatchPipeline", "FunnelwatchPipeline", *(alert.name for alert in ALERTS)]
    for file, names in (("rules", ["CheckoutToPayLow", "Followed"]), ("pipeline", of_pipeline)):
        assert [one["alert"] for one in rules_in(written[f"{file}.yaml"]) if "alert" in one] == names
        tests = yaml.safe_load(written[f"{file}_test.yaml"])["tests"]
        for name in names:
            cases = [case for test in tests for case in test.get("alert_rule_test", ()) if case["alertname"] == name]
            assert {bool(case["exp_alerts"]) for case in cases} == {True, False}, name


def test_every_recording_rule_of_the_pipeline_is_tested_with_data_and_without() -> None:
    written = files(config())
    recorded = [one["record"] for one in rules_in(written["pipeline.yaml"]) if "record" in one]
    queries = [one for test in yaml.safe_load(written["pipeline_test.yaml"])["tests"] for one in test.get("promql_expr_test", ())]
    assert sorted((one["expr"], bool(one["exp_samples"])) for one in queries) == sorted(
        (name, full) for name in recorded for full in (True, False)
    )


def test_a_rule_without_a_runbook_has_that_of_any_leak_and_the_folder_can_be_anywhere() -> None:
    written = files(shop({"runbook": "https://x/own"}, {"name": "Other"}), "shop", "https://git.example/runbooks/")
    urls = {
        one["alert"]: one["annotations"]["runbook_url"]
        for text in (written["rules.yaml"], written["pipeline.yaml"])
        for one in rules_in(text)
        if "alert" in one
    }
    assert urls["CheckoutToPayLow"] == "https://x/own"
    assert urls["Other"] == "https://git.example/runbooks/FunnelLeak.md"
    assert urls["FunnelwatchPipeline"] == "https://git.example/runbooks/FunnelwatchPipeline.md"
    assert urls["FunnelwatchWorkerDown"] == "https://git.example/runbooks/FunnelwatchWorkerDown.md"


def test_workers_are_looked_for_under_their_job() -> None:
    (down,) = [one for one in rules_in(files(config(), 'my "job"')["pipeline.yaml"]) if one.get("alert") == "FunnelwatchWorkerDown"]
    assert down["expr"] == r'up{job="my \"job\""} == 0'


def test_what_differs_is_written_beside_the_rule_and_told() -> None:
    setup = shop({"detector": "sequential"})
    told = limits(setup)
    assert any(line.startswith("CheckoutToPayLow: evidence that is added up") for line in told)
    written = " ".join(files(setup)["rules.yaml"].replace("#", "").split())
    assert all(" ".join(line.partition(": ")[2].split()) in written for line in told)


def test_a_config_without_rules_has_the_pipelines_alerts_alone() -> None:
    written = files(config())
    assert yaml.safe_load(written["rules.yaml"])["groups"] == []
    assert written.keys() == {"rules.yaml", "pipeline.yaml", "pipeline_test.yaml"}


def test_the_command_prints_the_files_and_on_stderr_what_they_cannot_express(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rules", "--config", str(DEPLOY / "reference.yaml")]) == 0
    out, err = capsys.readouterr()
    rules, pipeline, *tests = yaml.safe_load_all(out)
    assert "groups" in rules
    assert "groups" in pipeline
    assert tests
    assert all("tests" in file for file in tests)
    assert err.startswith("what Prometheus cannot express:\n  every rule: One alert a cause")


def test_the_command_writes_the_files_and_prints_what_they_cannot_express(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rules", "--config", str(DEPLOY / "reference.yaml"), "--out", str(tmp_path / "new" / "folder")]) == 0
    assert (tmp_path / "new" / "folder" / "rules.yaml").read_text("utf-8") == (DEPLOY / "prometheus" / "rules.yaml").read_text("utf-8")
    assert "what Prometheus cannot express:" in capsys.readouterr().out


def test_a_folder_that_is_a_file_is_bad_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run(["rules", "--config", str(DEPLOY / "reference.yaml"), "--out", str(tmp_path / "file")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_bad_config_is_told_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.yaml").write_text("sources: []\n")
    assert run(["rules", "--config", str(tmp_path / "bad.yaml")]) == 2
    assert "bad.yaml:1: sources" in capsys.readouterr().err
