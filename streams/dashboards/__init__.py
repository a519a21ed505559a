"""[pure] Grafana dashboards of a config, as code: an overview of all funnels, one funnel by dimension, the pipeline's health.

They need the extra `grafana` and Python 3.11. What they ask is what a worker serves (`streams.metrics`);
of the config they take names, and targets as thresholds.
"""

from __future__ import annotations

from schemas.config import Config
from streams.dashboards.frame import Addresses, text_of
from streams.dashboards.funnel import funnel
from streams.dashboards.overview import overview
from streams.dashboards.pipeline import pipeline

__all__ = ["Addresses", "dashboards"]


def dashboards(config: Config, addresses: Addresses) -> dict[str, str]:
    """The JSON of each dashboard by the name of its file."""
    built = {"overview": overview(config, addresses), "funnel": funnel(config, addresses), "pipeline": pipeline(addresses)}
    return {f"{name}.json": text_of(found) for name, found in built.items()}
