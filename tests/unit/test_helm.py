"""deploy/helm/funnelwatch: Helm renders it, Kubernetes' schemas take it, and wrong values are refused with a remedy."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.config import parse
from schemas.settings import describe
from tests.parts.compose import DEPLOY

CHART = DEPLOY / "helm" / "funnelwatch"
EVERYTHING: dict[str, Any] = yaml.safe_load((CHART / "ci" / "everything.yaml").read_text())
LEAST = {
    "config": "sources:" + EVERYTHING["config"].partition("sources:")[2],  # without `access`
    "settings": {"KAFKA__BROKERS": "kafka:9092", "REDIS__URL": "redis://redis:6379/0"},
}
DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
KUBERNETES = ("1.25", "1.37")  # the least that Chart.yaml asks for, and the newest with a schema here
FOREIGN = {"ScaledObject", "ServiceMonitor", "PrometheusRule"}  # of operators: no schema of theirs is in the package


@pytest.fixture(scope="module")
def chart(deploy_tools: Path) -> Iterator[Any]:
    import helm_python

    with helm_python.Chart.load(CHART) as loaded:
        yield loaded


def over(values: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The values with others over them: `autoscaling__enabled=True`, or a whole section."""
    changed = copy.deepcopy(values)
    for path, value in changes.items():
        section, _, key = path.partition("__")
        if key:
            changed.setdefault(section, {})[key] = value
        else:
            changed[section] = value
    return changed


def rendered(chart: Any, values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Kind -> manifest; the dashboards' ConfigMap is `dashboards`."""
    texts = chart.render(values, name="fw", namespace="shop")
    found = [d for name, text in texts.items() if name.endswith(".yaml") for d in yaml.safe_load_all(text) if d]
    return {"dashboards" if d["metadata"]["name"].endswith("-dashboards") else d["kind"]: d for d in found}


def refusal(chart: Any, values: dict[str, Any]) -> str:
    import helm_python

    with pytest.raises(helm_python.HelmError) as refused:
        chart.render(values, name="fw", namespace="shop")
    return str(refused.value)


def pod_of(manifests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    pod: dict[str, Any] = manifests["Deployment"]["spec"]["template"]["spec"]
    return pod


def environment(pod: dict[str, Any]) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in pod["containers"][0]["env"]}


def test_helm_lint_finds_nothing_to_mend(deploy_tools: Path) -> None:
    import helm_python

    for values in (LEAST, EVERYTHING):
        report = helm_python.lint(CHART, values, strict=True)
        assert report["errors"] == []
        assert {message["error"] for message in report["messages"]} <= {"icon is recommended"}


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_manifest_is_one_that_kubernetes_takes(chart: Any, version: str) -> None:
    import kubernetes_validate

    for values in (LEAST, EVERYTHING):
        for kind, manifest in rendered(chart, values).items():
            if kind not in FOREIGN:
                kubernetes_validate.validate(manifest, version, strict=True)


def test_what_is_not_asked_for_is_not_there_and_what_is_asked_for_is(chart: Any) -> None:
    least = {"ConfigMap", "Deployment", "NetworkPolicy", "Pod", "PodDisruptionBudget", "Service", "ServiceAccount"}
    assert rendered(chart, LEAST).keys() == least
    assert rendered(chart, EVERYTHING).keys() == least | FOREIGN | {"Ingress", "dashboards"}


def test_the_config_arrives_as_it_was_written_and_another_one_makes_other_workers(chart: Any) -> None:
    first, second = rendered(chart, LEAST), rendered(chart, over(LEAST, config=LEAST["config"] + "# changed\n"))
    assert parse(first["ConfigMap"]["data"]["funnel.yaml"]) == parse(LEAST["config"])
    assert parse(rendered(chart, EVERYTHING)["ConfigMap"]["data"]["funnel.yaml"]).access is not None
    assert parse(rendered(chart, over(LEAST, config=yaml.safe_load(LEAST["config"])))["ConfigMap"]["data"]["funnel.yaml"]) == parse(
        LEAST["config"]
    )
    sums = [m["Deployment"]["spec"]["template"]["metadata"]["annotations"]["checksum/config"] for m in (first, second)]
    assert sums[0] != sums[1]


def test_a_worker_may_do_nothing_but_run(chart: Any) -> None:
    """The profile `restricted` of the pod security standards, a root that cannot be written, and no token for the API server."""
    manifests = rendered(chart, EVERYTHING)
    for pod in (pod_of(manifests), manifests["Pod"]["spec"]):
        assert not pod["automountServiceAccountToken"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }
    user = re.findall(r"^USER (\d+):(\d+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)[0]
    security = pod_of(manifests)["securityContext"]
    assert (security["runAsUser"], security["runAsGroup"]) == tuple(map(int, user))
    assert not manifests["ServiceAccount"]["automountServiceAccountToken"]


def test_secrets_are_files_that_settings_name(chart: Any) -> None:
    pod = pod_of(rendered(chart, EVERYTHING))
    assert environment(pod)["FUNNELWATCH_REDIS__PASSWORD"] == "file:/run/secrets/funnelwatch/redis-password"
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert volumes["secrets"]["secret"]["secretName"] == "funnelwatch-credentials"
    assert mounts["secrets"] == "/run/secrets/funnelwatch"
    assert volumes["certificates"]["secret"]["secretName"] == "funnelwatch-tls"


def test_every_setting_that_the_chart_makes_is_one(chart: Any) -> None:
    known = {name for name, _, _ in describe()}
    assert environment(pod_of(rendered(chart, EVERYTHING))).keys() <= known


def test_large_numbers_are_not_written_as_powers_of_ten(chart: Any) -> None:
    large = {**LEAST["settings"], "KAFKA__FETCH_BYTES_MAX": 4_000_000, "WORKER__AUDIT_SHARE": 0.01}
    pod = pod_of(rendered(chart, over(LEAST, settings=large)))
    assert environment(pod)["FUNNELWATCH_KAFKA__FETCH_BYTES_MAX"] == "4000000"
    assert environment(pod)["FUNNELWATCH_WORKER__AUDIT_SHARE"] == "0.01"
    assert environment(pod)["FUNNELWATCH_WORKER__STATES_MAX"] == "1000000"


def test_a_worker_has_time_to_start_and_more_to_end_than_it_takes(chart: Any) -> None:
    pod = pod_of(rendered(chart, LEAST))
    worker = pod["containers"][0]
    startup = worker["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= DEFAULTS["startupSeconds"] == 300
    assert startup["httpGet"] == worker["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
    assert worker["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert pod["terminationGracePeriodSeconds"] >= 45


def test_memory_holds_the_people_that_a_worker_may_keep(chart: Any) -> None:
    """120 MiB to begin with, and what a person with two dimensions takes by the README."""
    megabytes = 120 + DEFAULTS["statesMax"] * 419 / 2**20
    readme = (DEPLOY.parent / "README.md").read_text()
    assert re.search(r"^\| 2 dimensions \| \d+ \| 419 \|", readme, re.MULTILINE)
    assert megabytes < int(DEFAULTS["resources"]["requests"]["memory"].removesuffix("Mi"))
    assert DEFAULTS["resources"]["limits"] == {"memory": "1Gi"}


def test_it_scales_on_what_is_not_counted_yet_up_to_the_partitions(chart: Any) -> None:
    manifests = rendered(chart, EVERYTHING)
    scaled = manifests["ScaledObject"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == manifests["Deployment"]["metadata"]["name"]
    assert "replicas" not in manifests["Deployment"]["spec"]  # the autoscaler's to say
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (2, DEFAULTS["partitions"])
    assert scaled["triggers"][0]["metadata"]["query"] == 'sum(funnel_lag_records{namespace="shop",service="fw-funnelwatch"})'
    assert scaled["triggers"][0]["metadata"]["threshold"] == "250000"


def test_prometheus_finds_the_workers_and_shows_the_token(chart: Any) -> None:
    manifests = rendered(chart, EVERYTHING)
    (endpoint,) = manifests["ServiceMonitor"]["spec"]["endpoints"]
    assert manifests["ServiceMonitor"]["spec"]["selector"]["matchLabels"].items() <= manifests["Service"]["metadata"]["labels"].items()
    assert endpoint["port"] == manifests["Service"]["spec"]["ports"][0]["name"]
    assert endpoint["authorization"]["credentials"] == {"name": "funnelwatch-credentials", "key": "metrics-token"}


def test_the_rules_about_the_pipeline_are_those_of_deploy_prometheus(chart: Any) -> None:
    rule = rendered(chart, EVERYTHING)["PrometheusRule"]
    assert rule["spec"]["groups"] == groups("pipeline")
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    (endpoint,) = rendered(chart, EVERYTHING)["ServiceMonitor"]["spec"]["endpoints"]
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "funnelwatch"}]  # up{job="funnelwatch"}


def test_rules_of_the_own_funnels_take_their_place_and_runbooks_an_address(chart: Any) -> None:
    pipeline, funnels = ((DEPLOY / "prometheus" / f"{name}.yaml").read_text() for name in ("pipeline", "rules"))
    changes = {"pipeline": pipeline.replace("web", "app"), "funnels": funnels, "runbooks": "https://wiki.example/runbooks/"}
    found = rendered(chart, over(EVERYTHING, prometheusRule={"enabled": True, **changes}))["PrometheusRule"]["spec"]["groups"]
    assert [group["name"] for group in found] == [group["name"] for group in groups("pipeline") + groups("rules")]
    rules = [rule for group in found[: len(groups("pipeline"))] for rule in group["rules"]]
    assert any('source="app"' in rule["expr"] for rule in rules)
    books = {rule["annotations"]["runbook_url"] for rule in rules if "alert" in rule}
    assert all(re.fullmatch(r"https://wiki\.example/\S+", book) for book in books), books


def groups(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "prometheus" / f"{name}.yaml").read_text())["groups"]
    return found


def test_the_dashboards_are_those_of_deploy_grafana(chart: Any) -> None:
    written = {path.name: path.read_text() for path in (DEPLOY / "grafana" / "dashboards").glob("*.json")}
    assert written
    assert rendered(chart, EVERYTHING)["dashboards"]["data"] == written


def test_only_who_is_named_gets_in_and_workers_get_out_to_named_ports_only(chart: Any) -> None:
    policy = rendered(chart, EVERYTHING)["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [rule["from"] for rule in policy["ingress"]] == [EVERYTHING["networkPolicy"]["from"]]
    ports = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    assert ports == {53, *DEFAULTS["networkPolicy"]["ports"]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"config": ""}, "config is empty: --set-file config=funnel.yaml"),
        ({"existingConfigMap": "mine"}, "both set"),
        ({"settings": {"KAFKA__BROKERS": "", "REDIS__URL": "redis://r:6379/0"}}, "KAFKA__BROKERS"),
        ({"settings": {"KAFKA__BROKERS": "k:9092", "REDIS__URL": "redis://user:password@r:6379/0"}}, "REDIS__URL"),
        ({"settings": {**LEAST["settings"], "REDIS__PASSWORD": "secret"}}, "REDIS__PASSWORD"),
        ({"settings": {**LEAST["settings"], "WEB__TOKEN": "secret"}}, "WEB__TOKEN"),
        ({"settings": {**LEAST["settings"], "kafka.group": "x"}}, "kafka.group"),
        ({"secretSettings": {"REDIS__PASSWORD": "key"}}, "existingSecret, which is not set"),
        ({"replicas": 7}, "replicas is 7, but there are 6 partitions"),
        ({"replicas": 0}, "replicas"),
        ({"replica": 3}, "replica"),
        ({"partitions": "six"}, "partitions"),
        ({"autoscaling": {"enabled": True}}, "autoscaling.prometheus is not set"),
        ({"autoscaling": {"enabled": True, "prometheus": "http://p:9090", "maxReplicas": 9}}, "maxReplicas is 9, but there are 6 partitions"),
        ({"autoscaling": {"enabled": True, "prometheus": "http://p:9090", "minReplicas": 4, "maxReplicas": 3}}, "minReplicas is 4"),
        ({"ingress": {"enabled": True}}, "ingress.host is not set"),
        ({"ingress": {"enabled": True, "host": "f.example.org"}}, "the config has no `access`"),
        ({"image": {"tag": "latest"}}, "tag"),
        ({"resources": {"limits": {"memory": "1GB"}}}, "memory"),
        ({"terminationGracePeriodSeconds": 5}, "terminationGracePeriodSeconds"),
        ({"serviceMonitor": {"tokenKey": "t"}}, "serviceMonitor.tokenKey"),
        ({"prometheusRule": {"enabled": True, "pipeline": "rules: []"}}, "pipeline"),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_with_their_name(chart: Any, changes: dict[str, Any], said: str) -> None:
    assert said in refusal(chart, {**LEAST, **changes})


def test_values_that_are_not_given_are_asked_for(chart: Any) -> None:
    assert "KAFKA__BROKERS" in refusal(chart, {})
