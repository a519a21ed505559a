"""[pure] Whether a source has data to judge by, in PromQL, and the alert of the pipeline's own for Prometheus."""

from __future__ import annotations

from typing import Any

from alerting.prometheus_health import RUNBOOKS, runbook
from alerting.prometheus_text import SOURCE, literal
from alerting.promql import Not, either, indented, selector
from alerting.words import short
from schemas.config import Config
from schemas.duration import MICROS
from schemas.pipeline import PIPELINE
from streams.watermark import STALE_US

LOOKED_AGAIN_SECONDS = 30


def sources_group(config: Config, runbooks: str = RUNBOOKS) -> dict[str, Any]:
    """The pipeline's own alert for each source."""
    rules = [_pipeline(config, source.name, pipeline_runbook(config, runbooks)) for source in config.sources]
    return {"name": "funnelwatch sources", "interval": "10s", "rules": rules}


def pipeline_runbook(config: Config, runbooks: str) -> str:
    """The config's own, or that of this repository."""
    return config.pipeline.runbook or runbook(runbooks, PIPELINE)


def _pipeline(config: Config, source: str, address: str) -> dict[str, Any]:
    alarm = config.pipeline
    nobody = f"absent({selector('funnel_records_gone_total', {'source': source})})"
    return {
        "alert": PIPELINE,
        "expr": f"count(\n{indented(either(behind(source), still(source, LOOKED_AGAIN_SECONDS), nobody))}\n)",
        "for": short(int(alarm.for_)),
        "labels": {"severity": alarm.severity, "source": SOURCE, "dimension": "source", "value": source},
        "annotations": {
            "summary": literal(pipeline_summary(source)),
            "description": literal(pipeline_description(config, source)),
            "runbook_url": literal(address),
        },
    }


def pipeline_summary(source: str) -> str:
    return f"Source {source}: nothing is counted, or counting is behind; its rules cannot be judged"


def pipeline_description(config: Config, source: str) -> str:
    names = [rule.name for rule in config.alerts if config.funnel(rule.funnel).source == source]
    shown = f" ({', '.join(names[:5])}{', …' * (len(names) > 5)})" if names else ""
    listed = f"{len(names)} rule{'s' * (len(names) != 1)}{shown}"
    return (
        f"Records of topic {config.source(source).topic} wait to be counted and are over a minute old, or none came, or no worker that "
        f"holds the lease is scraped. Until it is over, what fires of {listed} goes on firing, and what does not cannot begin to. See whether "
        "the workers run and keep up (funnel_lag_records, funnel_progress_seconds), and whether anything is produced."
    )


def behind(source: str) -> str:
    """Partitions with records to read that stand more than a minute behind the clock."""
    lag, mark = (
        f"max by (partition) ({selector(name, {'source': source})})"
        for name in ("funnel_lag_records", "funnel_watermark_timestamp_seconds")
    )
    return f"count(\n  {lag} > 0\n  unless on (partition) {mark} >= time() - {STALE_US // MICROS}\n)"


def still(source: str, seconds: int) -> str:
    """That no record was taken for so long, rejected ones apart."""
    now, before = (_taken(source, offset) for offset in ("", short(seconds)))
    return f"{now}\n- {before} == 0"


def _taken(source: str, offset: str) -> str:
    records = selector("funnel_records_total", {"source": source, "fate": Not("rejected")}, offset)
    gone = selector("funnel_records_gone_total", {"source": source}, offset)
    return f"(sum(max by (fate, reason) ({records})) or 0 * max({gone}))"
