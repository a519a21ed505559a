"""`funnelwatch demo`: broker, Redis, worker and a shop's traffic with an incident in it, accounted for."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import webbrowser
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path

from schemas.config import Config, load
from schemas.errors import FunnelwatchError
from streams.client import Funnelwatch
from streams.demo_account import Account, settle, transitions
from streams.demo_parts import Interrupts, Worker, choose_port, create_topic
from streams.demo_view import View, transition_line, view
from streams.embedded import Tansu, Valkey
from streams.incident import Incident, schedule, settled
from streams.process import Process
from streams.producing import KeyedProducer
from streams.traffic import Shop

CONFIG = Path(__file__).with_name("demo.yaml")
PARTITIONS = 6
TICK_SECONDS = 0.05
POLL_SECONDS = 1.0
RESOLVE_SECONDS = 10.0
SHOWN_WINDOW = "1m"


def run_demo(*, seconds: float | None, rate: float, port: int | None, browser: bool) -> int:
    """Run until Ctrl-C, or for `seconds` of traffic. Returns 1 if anything was lost or doubled."""
    chosen = choose_port(port)
    config = load(CONFIG)
    result: dict[str, object] = {}
    with Interrupts() as interrupts, ExitStack() as stack:

        def start(process: Process) -> None:
            interrupts.watch(process)
            stack.enter_context(process)

        out = stack.enter_context(view())
        out.say("starting broker, Redis and worker")
        broker, store = Tansu(), Valkey()
        start(broker)
        start(store)
        create_topic(broker.address, config.sources[0].topic, PARTITIONS)
        worker = Worker(CONFIG, _settings(broker, store), chosen)
        start(worker)
        out.say(f"page and API: {worker.url}  (Ctrl-C ends the demo)", "bold")
        if browser and sys.stdout.isatty():
            _open_browser(worker.url)
        demo = Demo(config, broker.address, worker, stack.enter_context(Funnelwatch(worker.url)), out)
        asyncio.run(demo.run(seconds, rate, interrupts))
        if seconds is not None:
            result = demo.account()
        out.say("stopping")
    if not result:
        return 0
    sys.stdout.write(json.dumps(result) + "\n")
    return 1 if result["lost"] or result["duplicated"] else 0


class Demo:
    """Produces the traffic, and tells of it and of what the service makes of it."""

    def __init__(self, config: Config, brokers: str, worker: Worker, service: Funnelwatch, out: View) -> None:
        self._config, self._brokers, self._worker, self._service, self._out = config, brokers, worker, service, out
        self._source = config.sources[0]
        self._kept: list[tuple[int, bytes | None, bytes]] = []  # partition, key, value of what was produced
        self._produced = 0
        self._told = 0
        self._incident: Incident | None = None

    async def run(self, seconds: float | None, rate: float, interrupts: Interrupts) -> None:
        """The traffic, from a moment that suits it to its end or Ctrl-C."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        interrupts.stop_with(lambda: loop.call_soon_threadsafe(stop.set))
        start = settled(time.time())
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(stop.wait(), start - time.time())
        self._incident = schedule(start, seconds)
        shop = Shop(rate, start, self._incident.active if self._incident else lambda _: False)
        self._out.say(f"traffic begins: {rate:g} events a second")
        end = start + seconds if seconds is not None else float("inf")
        watching = asyncio.create_task(self._watch(stop))
        watching.add_done_callback(lambda _: stop.set())
        try:
            await self._produce(shop, end, stop, keep=seconds is not None)
        finally:
            stop.set()
            interrupts.stop_with(None)
            await watching
        self._out.say(f"traffic ends: {self._produced:,} events produced")

    def account(self) -> dict[str, object]:
        """Wait until all is counted and the alert has had its say; the final line."""
        self._out.say("waiting until everything produced is counted")
        records = [(key, value) for _, key, value in sorted(self._kept, key=lambda kept: kept[0])]
        account = settle(self._service, self._config, self._source.name, records)
        self._await_resolution()
        self._out.say(_verdict(account), "bold red" if account.lost or account.duplicated else "bold green")
        return {**asdict(account), "alerts": transitions(self._service)}

    async def _produce(self, shop: Shop, end: float, stop: asyncio.Event, *, keep: bool) -> None:
        async with KeyedProducer(self._brokers, self._source.topic) as producer:
            while not stop.is_set() and time.time() < end + TICK_SECONDS:
                for click in shop.until(min(time.time(), end)):
                    partition = await producer.send(click.key, click.value)
                    self._produced += 1
                    if keep:
                        self._kept.append((partition, click.key, click.value))
                await producer.flush()
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(stop.wait(), TICK_SECONDS)

    async def _watch(self, stop: asyncio.Event) -> None:
        """Once a second: the numbers, the incident, the alert."""
        active = False
        while not stop.is_set():
            if self._incident is not None and self._incident.active(time.time()) != active:
                active = not active
                news = "INCIDENT begins: payments fail (0.70 → 0.08 of checkouts)" if active else "incident ends: payments work again"
                self._out.say(news, "bold magenta")
            try:
                await asyncio.to_thread(self._poll)
            except FunnelwatchError as error:
                self._check_worker()
                self._out.say(str(error), "red")
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stop.wait(), POLL_SECONDS)

    def _poll(self) -> None:
        funnel = self._config.funnels[0].name
        self._out.show(self._service.funnel(funnel, SHOWN_WINDOW).model_dump(mode="json"), self._produced)
        self._tell_transitions()

    def _tell_transitions(self) -> None:
        found = transitions(self._service)
        for one in found[self._told :]:
            self._out.say(*transition_line(one))
        self._told = len(found)

    def _await_resolution(self) -> None:
        """Event time stands beyond the incident; give the evaluator the moment it takes to see it."""
        deadline = time.monotonic() + RESOLVE_SECONDS
        while time.monotonic() < deadline:
            self._tell_transitions()
            states = {state.state for state in self._service.alerts().states}
            if states <= {"inactive"}:
                return
            time.sleep(POLL_SECONDS / 2)

    def _check_worker(self) -> None:
        if not self._worker.running:
            raise FunnelwatchError(f"the worker ended; its log ends with:\n{self._worker.log()}")


def _settings(broker: Tansu, store: Valkey) -> dict[str, str]:
    """Tansu's group join takes half the session timeout, and its end offsets read low."""
    return {
        "FUNNELWATCH_KAFKA__BROKERS": broker.address,
        "FUNNELWATCH_KAFKA__SESSION_TIMEOUT_SECONDS": "6",
        "FUNNELWATCH_KAFKA__END_OFFSET_SLACK": "1000000",
        "FUNNELWATCH_REDIS__URL": store.url,
    }


def _open_browser(url: str) -> None:
    """Open the page, unless the only browser is one that would take this terminal."""
    with suppress(webbrowser.Error):
        if type(webbrowser.get()) is not webbrowser.GenericBrowser:
            webbrowser.open(url)


def _verdict(account: Account) -> str:
    parts = (f"{account.produced:,} produced", f"{account.applied:,} applied", f"lost {account.lost}", f"duplicated {account.duplicated}")
    return f"held against a recount: {', '.join(parts)}"
