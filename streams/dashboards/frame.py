"""[pure] What all dashboards have in common: variables, annotations, links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "funnelwatch"
ANY = ".+"
BASES = ("users", "entries", "adjusted")
# Of what a worker serves of itself, and of what the one that holds the lease serves of the ledger.
OF_JOB = 'job=~"$job"'


@dataclass(frozen=True)
class Addresses:
    """Where the links lead: funnelwatch's page, and the folder of the runbooks, which is no link unless it is a URL."""

    page: str = "http://127.0.0.1:6066/"
    runbooks: str = "deploy/runbooks"

    @property
    def live(self) -> str:
        """The page, to append what it shows to."""
        return f"{self.page.rstrip('/')}/#"


def framed(name: str, title: str, description: str, addresses: Addresses, page: str = "") -> build.Dashboard:
    """A dashboard without panels; `page` is what the link to the page opens."""
    dashboard = (
        build.Dashboard(title)
        .uid(f"funnelwatch-{name}")
        .description(f"{description} Written by `funnelwatch dashboards`: a change made here is lost when they are written anew.")
        .tags([TAG])
        .time("now-3h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .link(build.DashboardLink("funnelwatch").type(model.DashboardLinkType.DASHBOARDS).tags([TAG]).include_vars(True).keep_time(True))
        .link(_link("Live page", f"{addresses.live}{page}", "What each number means, one hover away"))
        .annotation(ANNOTATIONS[0])
        .annotation(ANNOTATIONS[1])
    )
    if addresses.runbooks.startswith(("http://", "https://")):
        dashboard.link(_link("Runbooks", addresses.runbooks, "What to do when an alert fires"))
    return dashboard


def _link(title: str, url: str, tooltip: str) -> build.DashboardLink:
    return build.DashboardLink(title).type(model.DashboardLinkType.LINK).icon("external link").url(url).tooltip(tooltip).target_blank(True)


def text_of(dashboard: build.Dashboard) -> str:
    """Its JSON, for people to compare."""
    built = dashboard.build()
    for number, panel in enumerate(built.panels or (), 1):
        panel.id_val = number
    return JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False).encode(built) + "\n"


# Variables


def datasource() -> build.DatasourceVariable:
    return build.DatasourceVariable("datasource").label("Data source").type("prometheus")


def job() -> build.QueryVariable:
    return several("job", "Job", "label_values(funnelwatch_build_info, job)")


def several(name: str, label: str, query: str) -> build.QueryVariable:
    """Any number of the values, all to begin with."""
    every = model.VariableOption(selected=True, text=["All"], value=["$__all"])
    return _asked(name, label, query).multi(True).include_all(True).all_value(ANY).current(every)


def one_of(name: str, label: str, query: str, first: str = "") -> build.QueryVariable:
    """One of the values."""
    variable = _asked(name, label, query)
    return variable.current(model.VariableOption(selected=True, text=first, value=first)) if first else variable


def _asked(name: str, label: str, query: str) -> build.QueryVariable:
    return (
        build.QueryVariable(name)
        .label(label)
        .query(query)
        .datasource(SOURCE)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.NATURAL_ASC)
    )


def basis() -> build.CustomVariable:
    """The basis of rates; `users` is there from the first event on."""
    options = [model.VariableOption(selected=name == "users", text=name, value=name) for name in BASES]
    return build.CustomVariable("basis").label("Basis").values(",".join(BASES)).options(options).current(options[0])


def with_variables(dashboard: build.Dashboard, variables: Sequence[Builder[model.VariableModel]]) -> build.Dashboard:
    for variable in variables:
        dashboard.with_variable(variable)
    return dashboard


# Annotations


class _Annotation(model.AnnotationQuery):
    """A query of Prometheus whose every series is an event; the SDK knows nothing of its texts."""

    def __init__(self, name: str, expr: str, color: str, title: str, text: str, tags: str) -> None:
        super().__init__(name=name, datasource=SOURCE, icon_color=color, expr=expr)
        self._texts = {"titleFormat": title, "textFormat": text, "tagKeys": tags, "useValueForTime": False, "step": "30s"}

    def to_json(self) -> dict[str, object]:
        return {**super().to_json(), **self._texts}


class _Made(Builder[model.AnnotationQuery]):
    def __init__(self, annotation: model.AnnotationQuery) -> None:
        self._annotation = annotation

    def build(self) -> model.AnnotationQuery:
        return self._annotation


def version_appears(selected: str) -> str:
    """Versions that no worker had five minutes ago, though some worker ran."""
    info = f"funnelwatch_build_info{{{selected}}}"
    return f"(count by (version) ({info}) unless count by (version) ({info} offset 5m)) and on () count({info} offset 5m)"


ANNOTATIONS = (
    _Made(
        _Annotation(
            "Alerts", f"max by (rule, dimension, value) (funnel_alert_state{{{OF_JOB}}}) == 2", "red",
            "{{rule}} fires", "{{dimension}} {{value}}", "rule,dimension,value",
        )
    ),
    _Made(_Annotation("Deploys", version_appears(OF_JOB), "blue", "funnelwatch {{version}}", "A version that did not run before", "version")),
)  # fmt: skip
