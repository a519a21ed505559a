"""Gathers what a doctor must know of channels: secrets in place, address resolved and allowed. Nobody is told anything."""

from __future__ import annotations

import asyncio

from pydantic import HttpUrl

from alerting.channels import build
from alerting.channels.guard import AddressRefused, Guard
from schemas.channel import AppriseChannel, Channel, KafkaChannel
from schemas.config import Config
from schemas.errors import FunnelwatchError
from schemas.settings import KafkaSettings
from streams.brokers import brokers_of
from streams.doctor.facts import ChannelFacts
from streams.kafka_reach import reach_all

LOOK_UP_SECONDS = 5.0
PORTS = {"http": 80, "https": 443}


async def channel_facts(config: Config, settings: KafkaSettings) -> list[ChannelFacts]:
    """What can be known of each channel without using it."""
    return [await _facts(name, channel, settings) for name, channel in config.channels.items()]


async def _facts(name: str, channel: Channel, settings: KafkaSettings) -> ChannelFacts:
    try:
        await build(name, channel).close()
    except FunnelwatchError as error:
        what, _, remedy = str(error).removeprefix(f"channel {name!r}: ").partition("; ")
        return ChannelFacts(name, "", what, remedy or "mend the channel in the config")
    if isinstance(channel, KafkaChannel):
        return await _kafka(name, channel, settings)
    if isinstance(channel, AppriseChannel):
        return ChannelFacts(name, f"{len(channel.urls)} addresses of Apprise, which understands them; they are looked up when told")
    url = getattr(channel, "url", None)
    if not isinstance(url, HttpUrl):
        return ChannelFacts(name, "the worker's log")
    return await _address(name, str(url.host), url.port or PORTS[url.scheme], getattr(channel, "allow", ()))


async def _kafka(name: str, channel: KafkaChannel, settings: KafkaSettings) -> ChannelFacts:
    if not channel.brokers:
        return ChannelFacts(name, f"topic {channel.topic} of the service's own brokers")
    reached = await reach_all(brokers_of(settings).at(channel.brokers))
    wrong = next((each for each in reached if each.error), None)
    if wrong is not None:
        return ChannelFacts(name, "", f"{wrong.address}: {wrong.error}", wrong.remedy)
    return ChannelFacts(name, f"topic {channel.topic} at {channel.brokers}, which answers")


async def _address(name: str, host: str, port: int, allow: tuple[str, ...]) -> ChannelFacts:
    try:
        found = await asyncio.wait_for(Guard(allow, [host]).addresses(host, port), LOOK_UP_SECONDS)
    except AddressRefused as error:
        what, _, remedy = str(error).partition("; ")
        return ChannelFacts(name, "", what, remedy or "name the host in the channel's `allow` if that is meant")
    except (OSError, asyncio.TimeoutError) as error:
        return ChannelFacts(name, "", f"{host} cannot be resolved ({error})", "mend the channel's url, or the resolver of this machine")
    return ChannelFacts(name, f"{host}:{port} is {', '.join(found)}, and may be reached; it was not told anything")
