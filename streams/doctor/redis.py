"""Gathers what a doctor must know of Redis.

What our user may do is asked by ACL DRYRUN. Where that may not be asked, the commands are tried, on
keys of the doctor's own that are gone again within a minute.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import NoPermissionError, RedisError

from schemas.config import Config
from schemas.settings import RedisSettings
from streams.doctor.facts import Node, RedisFacts, Server
from streams.doctor.probes import Probe, doctor_keys, probes
from streams.redis_client import address_of, connect
from streams.redis_errors import FAILURES, remedy, said

SETTINGS = ("appendonly", "aof-load-truncated", "maxmemory-policy", "hash-max-listpack-entries")
PROBE_SECONDS = 60
Ask = Callable[..., Awaitable[Any]]


async def redis_facts(config: Config, settings: RedisSettings) -> RedisFacts:
    """Ask every master. Raises SettingsError where the settings themselves are wrong."""
    address, client = address_of(settings), connect(settings)
    try:
        nodes = [await _node(where, ask, client, settings.prefix) for where, ask in await _masters(client, str(address))]
        return RedisFacts(tuple(nodes), await _partitions(client, config, settings.prefix))
    except FAILURES as error:
        return RedisFacts((Node(Server(str(address), said(error), remedy(error))),))
    finally:
        await client.aclose()


async def _masters(client: Any, address: str) -> list[tuple[str, Ask]]:
    """Each master, and how to ask it something."""
    if not isinstance(client, RedisCluster):
        await client.ping()
        return [(address, client.execute_command)]
    await client.initialize()

    def asker(node: Any) -> Ask:
        return lambda *words: client.execute_command(*words, target_nodes=node)

    return [(node.name, asker(node)) for node in client.get_primaries()]


async def _node(where: str, ask: Ask, client: Redis, prefix: str) -> Node:
    info = await _or_none(ask("INFO"))
    settings: dict[str, str] = {}
    for name in SETTINGS:
        found = await _or_none(ask("CONFIG GET", name))
        settings.update(found if found is not None else {"": ""})
    user = await _or_none(ask("ACL WHOAMI")) or ""
    return Node(
        Server(where),
        info if isinstance(info, dict) else None,
        None if "" in settings else settings,
        await _ahead(ask),
        user,
        tuple(await _missing(ask, client, user, prefix)),
    )


async def _or_none(asked: Awaitable[Any]) -> Any:
    try:
        return await asked
    except RedisError:
        return None


async def _ahead(ask: Ask) -> float | None:
    """How far its clock is ahead of ours, halfway between question and answer."""
    before = time.time()
    found = await _or_none(ask("TIME"))
    if found is None:
        return None
    seconds, micros = cast("tuple[int, int]", found)
    return float(seconds + micros / 1e6 - (before + time.time()) / 2)


async def _missing(ask: Ask, client: Redis, user: str, prefix: str) -> list[str]:
    """Commands and keys that a worker needs and this user may not."""
    if user and await _can_be_asked(ask, user):
        answers = [(probe, _text(await ask("ACL DRYRUN", user, *probe.split()))) for probe in probes(prefix)]
        return [probe.name for probe, text in answers if probe.is_refused(text)]
    try:
        return [probe.name for probe in probes(prefix) if probe.is_refused(await _tried(client, probe))]
    finally:
        for key in doctor_keys(prefix):
            await _or_none(client.expire(key, PROBE_SECONDS))
            await _or_none(client.unlink(key))


async def _can_be_asked(ask: Ask, user: str) -> bool:
    try:
        await ask("ACL DRYRUN", user, "PING")
    except RedisError:
        return False
    return True


def _text(answer: Any) -> str:
    return answer.decode() if isinstance(answer, bytes) else str(answer)


async def _tried(client: Redis, probe: Probe) -> str:
    """What Redis says when the words are really said to it; nothing where it does not mind."""
    try:
        await cast(Any, client).execute_command(*probe.words)
    except NoPermissionError as error:
        return str(error)
    except RedisError:
        pass  # whatever else it dislikes, it was allowed
    return ""


async def _partitions(client: Redis, config: Config, prefix: str) -> dict[str, int]:
    found = {source.name: await _or_none(client.get(f"{prefix}:partitions:{source.name}")) for source in config.sources}
    return {name: int(count) for name, count in found.items() if count is not None}
