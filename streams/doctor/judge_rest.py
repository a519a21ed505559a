"""[pure] Channels, the page's address, and what the config itself warns of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from schemas.config import Config
from schemas.settings import Settings
from streams.doctor.facts import Area, ChannelFacts, Finding
from streams.loopback import is_loopback


def judge_places(area: Area, places: Iterable[ChannelFacts]) -> Iterator[Finding]:
    """Each is well, or something is wrong with it."""
    for channel in places:
        if channel.error:
            yield Finding(area, "fail", channel.name, channel.error, channel.remedy)
        else:
            yield Finding(area, "ok", channel.name, channel.where)


def judge_web(config: Config, settings: Settings) -> Iterator[Finding]:
    """Who can reach page and API, and whether anything asks them who they are."""
    where = f"{settings.web.host}:{settings.web.port}"
    if is_loopback(settings.web.host):
        yield Finding("web", "ok", where, "can be reached from this machine only")
    elif config.access.tokens:
        yield Finding("web", "ok", where, f"asks for one of {len(config.access.tokens)} tokens")
    else:
        what = "whoever reaches this port sees every person's events, and can silence alerts"
        yield Finding("web", "warn", where, what, "list tokens under `access` (`funnelwatch token new`), or bind it to 127.0.0.1")


def judge_config(warnings: Sequence[str], settings: Settings) -> Iterator[Finding]:
    for warning in warnings:
        what, _, remedy = warning.partition("; ")
        yield Finding("config", "warn", "config", what, remedy or "mend it, or leave it if it is meant")
    if not settings.worker.fences:
        remedy = "leave FUNNELWATCH_WORKER__FENCES out: without fences counts go wrong"
        yield Finding("config", "fail", "FUNNELWATCH_WORKER__FENCES", "is off", remedy)


def exit_code(findings: Iterable[Finding]) -> int:
    """0: all is well; 1: something to see to; 2: something that must be mended."""
    states = {finding.state for finding in findings}
    return 2 if "fail" in states else int("warn" in states)
