"""`funnelwatch traffic`: a shop's clicks into an existing topic, for those who have no traffic of their own yet."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.errors import UsageError

if TYPE_CHECKING:
    from streams.producing import KeyedProducer
    from streams.traffic import Click

TICK_SECONDS = 0.05
LENGTH = "2m"


def traffic(
    topic: Annotated[str, typer.Option(help="The topic to produce to; it must be there.")],
    rate: Annotated[float, typer.Option(min=1, max=20_000, help="Events a second.")] = 50.0,
    seconds: Annotated[float | None, typer.Option(min=1, help="Stop after so long; by default Ctrl-C or SIGTERM ends it.")] = None,
    incident_every: Annotated[
        str | None, typer.Option(metavar="15m", help="Let paying fail again and again, from incident to incident; by default never.")
    ] = None,
    incident_length: Annotated[str, typer.Option(metavar="2m", help="For how long it fails each time.")] = LENGTH,
    brokers: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="By default FUNNELWATCH_KAFKA__BROKERS.")] = None,
) -> None:
    """Produce sample traffic: product views, carts, checkouts and purchases of a shop that does not exist."""
    from schemas.settings import load_settings
    from streams.brokers import brokers_of
    from streams.logs import quiet_libraries
    from streams.producing import KeyedProducer
    from streams.traffic import Shop

    quiet_libraries()
    start = time.time()
    shop = Shop(rate, start, _incidents(start, incident_every, incident_length))
    until = start + seconds if seconds is not None else float("inf")
    ours = brokers_of(load_settings().kafka)
    producer = KeyedProducer(ours.at(brokers) if brokers else ours, topic)
    sent = asyncio.run(_produce(shop.until, until, producer))
    typer.echo(f"sent {sent:,} records to {topic} in {time.time() - start:.0f} s")


def _incidents(start: float, every: str | None, length: str) -> Callable[[float], bool]:
    """When paying fails: the first time `length` after the start."""
    from streams.incident import Incident

    if every is None:
        return lambda _: False
    period, lasting = _seconds("--incident-every", every), _seconds("--incident-length", length)
    if lasting >= period:
        raise UsageError(f"--incident-length {length} is not shorter than --incident-every {every}; nobody could pay")
    return Incident(start + lasting, lasting, period).active


async def _produce(clicks: Callable[[float], list[Click]], until: float, producer: KeyedProducer) -> int:
    """Send what is due, twenty times a second, until then or a signal; how much it was. Raises KafkaUnavailable."""
    stop, sent = asyncio.Event(), 0
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with producer:
        while not stop.is_set() and time.time() < until + TICK_SECONDS:
            for click in clicks(min(time.time(), until)):
                await producer.send(click.key, click.value)
                sent += 1
            await producer.flush()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stop.wait(), TICK_SECONDS)
    return sent


def _seconds(option: str, text: str) -> int:
    from schemas.duration import Duration

    try:
        return Duration(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None
