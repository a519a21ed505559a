"""The composition root: a Faust app from a config and settings. `faust -A streams.app worker` works too.

`funnelwatch worker --config F` is the same app with its topics checked first.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tempfile
import time
from collections.abc import AsyncIterator
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import faust
import structlog
from faust.contrib.asgi import AsgiService
from faust.types import TP

from schemas.config import Config, Source, load
from schemas.errors import UsageError
from schemas.settings import Settings, WebSettings, load_settings
from streams.agents import Agent, CountingAgent, RekeyingAgent, not_seen
from streams.audit import Audit
from streams.backfill import Records, backfill, read_partition
from streams.brokers import Brokers, brokers_of
from streams.counting import ShardCount
from streams.custody import Custodian, Watched
from streams.ledger.contract import UNKEYED, Claim
from streams.logs import configure_logs, library_config
from streams.pauses import COLLECT_AFTER
from streams.plan import Plan
from streams.producer import AckedProducer
from streams.reading import reading_of
from streams.redis_client import check
from streams.service import Service
from streams.topics import prepare_topics
from streams.transport import ChunkSchema, Transport
from streams.web.accepting import Server
from streams.web.access import unguarded
from streams.web.api import create_api
from streams.web.connections import connections

BUFFERED_CHUNKS = 8
COMMIT_SECONDS = 5.0


class FunnelApp(faust.App):
    """A Faust app whose transport asks `custody` where to read."""

    custody: Custodian
    service: Service


def build_app(config: Config, settings: Settings) -> FunnelApp:
    """Wire everything; nothing is connected before the app starts."""
    version = metadata.version("funnelwatch")
    service = Service(config, settings, version)
    app = FunnelApp(settings.kafka.group, **_faust_settings(settings))
    transport = cast(Transport, app.transport)
    # What one partition may give must be enough, or the broker would wait with all that it has.
    transport.fetch_bytes_min = min(settings.kafka.fetch_bytes_min, settings.kafka.fetch_bytes_max // 2)
    transport.fetch_wait_ms = settings.kafka.fetch_wait_ms
    watched: dict[str, Watched] = {}
    app.service = service
    app.custody = service.custodian = Custodian(
        service.ledger,
        watched,
        service.worker,
        session_seconds=settings.kafka.session_timeout_seconds,
        end_slack=settings.kafka.end_offset_slack,
        keys=UNKEYED if service.names is None else service.names.fingerprints,
    )
    brokers = brokers_of(settings.kafka)
    producer = AckedProducer(brokers)
    for source in config.sources:
        _add_source(app, config, settings, source, watched, producer, brokers)
    _add_tasks(app, producer)
    _serve(app, settings.web, version)
    return app


class Serving(AsgiService):
    """Faust's service for an ASGI app, over our server."""

    def _create_server(self) -> Server:
        return Server(super()._create_server().config)


def _serve(app: FunnelApp, web: WebSettings, version: str) -> None:
    options = {
        "log_level": "error",  # what it warns of is counted in `web.connections`
        "access_log": False,
        "log_config": None,  # through the one pipe
        "server_header": False,
        "timeout_graceful_shutdown": 2,
        **connections(web, time.monotonic(), app.service.worker.let_go),
    }
    served = {
        "asgi_app": create_api(app.service, version),
        "faust_app": app,
        "host": web.host,
        "port": web.port,
        "uvicorn_options": options,
    }
    app.web_server(type("Web", (Serving,), served))


def _faust_settings(settings: Settings) -> dict[str, Any]:
    kafka = settings.kafka
    brokers = ";".join(f"chunked://{b.strip()}" for b in kafka.brokers.split(","))
    return {
        "broker": brokers,
        "broker_credentials": brokers_of(kafka).faust_credentials(),
        "store": "memory://",
        "autodiscover": False,
        "datadir": Path(tempfile.gettempdir()) / "funnelwatch-faust",  # Faust wants a folder; nothing is kept there
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "broker_session_timeout": kafka.session_timeout_seconds,
        "broker_heartbeat_interval": kafka.heartbeat_seconds,
        "broker_request_timeout": max(15.0, kafka.session_timeout_seconds + 5.0),
        "broker_commit_interval": COMMIT_SECONDS,
        "broker_max_poll_records": None,
        "consumer_max_fetch_size": kafka.fetch_bytes_max,
        "consumer_auto_offset_reset": "earliest",
        "consumer_metadata_max_age_ms": 5_000,  # a topic that grows or goes is noticed within seconds
        "stream_wait_empty": False,
        "stream_buffer_maxsize": BUFFERED_CHUNKS,
        "worker_redirect_stdouts": False,
        "logging_config": library_config(settings.log_level, settings.log_format),
    }


def _add_source(
    app: FunnelApp,
    config: Config,
    settings: Settings,
    source: Source,
    watched: dict[str, Watched],
    producer: AckedProducer,
    brokers: Brokers,
) -> None:
    plan = Plan(config, source)
    service, names = app.service, app.service.names
    reading = reading_of(source, settings.registry)
    shared = (app.custody, producer, service.worker, source)

    def begin(claim: Claim) -> ShardCount:
        audit = Audit(plan, settings.worker.audit_share, concealed=names is not None) if settings.worker.audit_share else None
        return ShardCount(plan, claim.watermark_us, audit, names)

    async def count_anew(claim: Claim, tp: TP, first: int) -> None:
        async def read_back(begin: int, end: int) -> AsyncIterator[Records]:
            highest: dict[int, int] = {}
            async for records in read_partition(brokers, tp.topic, tp.partition, begin, end):
                taken = records
                if not source.entity_key:
                    taken, upstream = not_seen(records, highest)
                    highest.update(upstream)
                yield await reading.all(taken), [r.key for r in taken]

        await backfill(service.ledger, claim, Plan(config, source), first, read_back, names)

    counting = CountingAgent(service.ledger, plan, *shared, states_max=settings.worker.states_max, reading=reading)
    definitions = tuple(funnel.definition for funnel in plan.funnels)
    watched[source.keyed_topic] = Watched(source, source.name, begin, definitions, count_anew)
    _add_agent(app, source.keyed_topic, f"count-{source.name}", counting)
    if not source.entity_key:
        watched[source.topic] = Watched(source, f"{source.name}/intake", lambda claim: None)
        _add_agent(app, source.topic, f"rekey-{source.name}", RekeyingAgent(*shared, reading=reading))


def _add_agent(app: FunnelApp, topic: str, name: str, agent: Agent) -> None:
    async def consume(stream: Any) -> None:
        async for chunk in stream:
            await agent.process(chunk)

    app.agent(app.topic(topic, schema=ChunkSchema()), name=name, concurrency=1)(consume)


def _add_tasks(app: FunnelApp, producer: AckedProducer) -> None:
    app.task(app.service.run)

    original = app.on_stop

    async def on_stop() -> None:
        app.service.stop()
        await app.custody.drain()
        await original()
        await producer.close()
        await app.service.close()

    app.on_stop = on_stop  # Faust has no hook that runs before the consumer stops


def run_worker(config: Config, settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; the exit code. Raises UsageError when it cannot begin."""
    configure_logs(settings.log_level, settings.log_format, settings.log_repeat_seconds)
    with contextlib.suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    check(settings.redis)  # before anything is done
    asyncio.run(prepare_topics(brokers_of(settings.kafka), config, create=settings.kafka.create_topics))
    gc.set_threshold(*COLLECT_AFTER)
    app = build_app(config, settings)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = app.Worker(loglevel="warn", quiet=True, redirect_stdouts=False, loop=loop)
    worker.spinner = None  # escape codes have no place in a service's output
    structlog.get_logger().info("starting", brokers=settings.kafka.brokers, group=settings.kafka.group, port=settings.web.port)
    warning = unguarded(settings.web.host, config.access)
    if warning:
        structlog.get_logger().warning("open to others", remedy=warning)
    try:
        worker.execute_from_commandline()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def __getattr__(name: str) -> Any:
    """`faust -A streams.app worker`: the app of FUNNELWATCH_CONFIG, made when it is asked for."""
    if name != "app":
        raise AttributeError(name)
    settings = load_settings()
    if not settings.config:
        raise UsageError("set FUNNELWATCH_CONFIG to the config file, or run `funnelwatch worker --config F`")
    configure_logs(settings.log_level, settings.log_format, settings.log_repeat_seconds)
    return build_app(load(settings.config), settings)
