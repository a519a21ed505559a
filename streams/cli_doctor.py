"""`funnelwatch doctor`: whether a deployment would work, looked at from where the command runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from schemas.config import Config
    from schemas.settings import Settings
    from streams.doctor.facts import Finding

ORDER = {"fail": 0, "warn": 1, "ok": 2}


def doctor(
    config: Annotated[Path, typer.Option("--config", metavar="FILE", help="The config file.")],
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> int:
    """Look at Kafka, Redis, topics, clocks, permissions and channels; say what is wrong and what to do.

    It reads, and tells nobody. Exit 0: all is well; 1: something to see to; 2: something that must be mended.
    """
    import asyncio

    from schemas.config import load
    from schemas.settings import load_settings
    from streams.doctor.judge_rest import exit_code
    from streams.logs import quiet_libraries

    quiet_libraries()
    found = asyncio.run(examine(load(config), load_settings()))
    if json_:
        typer.echo(json.dumps({"ok": exit_code(found) == 0, "findings": [asdict(finding) for finding in found]}, ensure_ascii=False))
    else:
        _show(found)
    return exit_code(found)


async def examine(config: Config, settings: Settings) -> list[Finding]:
    """Gather all facts, judge all of them; the worst first."""
    import asyncio
    from datetime import datetime, timezone

    from schemas.config import warnings_of
    from streams.doctor.channels import channel_facts
    from streams.doctor.judge_kafka import judge_kafka
    from streams.doctor.judge_redis import judge_redis
    from streams.doctor.judge_rest import judge_config, judge_places, judge_web
    from streams.doctor.kafka import kafka_facts
    from streams.doctor.redis import redis_facts
    from streams.doctor.registry import registry_facts

    kafka, redis, channels, registries = await asyncio.gather(
        kafka_facts(config, settings.kafka),
        redis_facts(config, settings.redis),
        channel_facts(config, settings.kafka),
        registry_facts(config, settings.registry),
    )
    now = datetime.now(timezone.utc)
    found = [
        *judge_kafka(kafka, config, settings.kafka, now),
        *judge_redis(redis, kafka, config, settings.redis, now),
        *judge_places("channels", channels),
        *judge_places("registry", registries),
        *judge_web(config, settings),
        *judge_config(warnings_of(config), settings),
    ]
    return sorted(found, key=lambda finding: ORDER[finding.state])


def _show(found: Sequence[Finding]) -> None:
    from streams.console import print_table

    print_table(("", "of", "what", "finding"), [(f.state, f.area, f.subject, f.what) for f in found])
    wrong = [finding for finding in found if finding.state != "ok"]
    for finding in wrong:
        typer.echo(f"\n{finding.state}: {finding.subject} {finding.what}\n  -> {finding.remedy}")
    counts = {state: sum(finding.state == state for finding in found) for state in ORDER}
    typer.echo(f"\n{counts['ok']} fine, {counts['warn']} to see to, {counts['fail']} to mend")
