"""[pure] The least that a worker must be allowed in Redis and in Kafka; deploy/permissions.md says the same in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schemas.config import Config
from streams.topics_plan import needs_of

# Every command that our client sends or our scripts call, by Redis's names.
REDIS_COMMANDS = (
    "del", "eval", "evalsha", "exists", "expire", "get", "hdel", "hexists", "hget", "hgetall", "hincrby", "hkeys", "hlen", "hmget",
    "hscan", "hset", "hsetnx", "lpush", "lrange", "ltrim", "pexpire", "ping", "rpush", "sadd", "scan", "scard", "script|load",
    "set", "sismember", "smembers", "time", "type", "unlink", "xadd", "xrange", "xrevrange", "zadd", "zcard", "zpopmin", "zrem",
)  # fmt: skip
CLUSTER_COMMANDS = ("cluster|slots", "cluster|shards", "command")  # to find out who has which keys
DOCTOR_COMMANDS = ("acl|dryrun", "acl|whoami", "config|get", "info")  # what only `funnelwatch doctor` asks


def redis_user(user: str, prefix: str, *, cluster: bool = False, doctor: bool = False) -> str:
    """The line that makes an ACL user with exactly these rights; the password is to be added."""
    commands = (*REDIS_COMMANDS, *(CLUSTER_COMMANDS if cluster else ()), *(DOCTOR_COMMANDS if doctor else ()))
    return f"user {user} on resetkeys ~{prefix}:* ~{{{prefix}:* resetchannels -@all {' '.join(f'+{command}' for command in commands)}"


@dataclass(frozen=True)
class Grant:
    """An operation on a resource of Kafka, and what it is for. READ and WRITE include DESCRIBE."""

    operation: Literal["READ", "WRITE", "CREATE", "DESCRIBE_CONFIGS"]
    resource: Literal["topic", "group"]
    name: str
    why: str


def kafka_grants(config: Config, group: str, *, create: bool, doctor: bool = False) -> list[Grant]:
    """The least for a config; with `create` the worker makes its own topics, with `doctor` their settings can be looked at."""
    found = [Grant("READ", "group", group, "all workers of a deployment share the partitions")]
    for need in needs_of(config):
        if need.role in ("source", "re-keyed"):
            found.append(Grant("READ", "topic", need.topic, "to count what is in it"))
        if need.role != "source":
            found.append(Grant("WRITE", "topic", need.topic, f"the {need.role} records go there"))
        if need.role in ("re-keyed", "dead-letter") and create:
            found.append(Grant("CREATE", "topic", need.topic, "to create it when it is missing (FUNNELWATCH_KAFKA__CREATE_TOPICS)"))
        if need.role in ("source", "re-keyed") and doctor:
            found.append(Grant("DESCRIBE_CONFIGS", "topic", need.topic, "to look at its retention"))
    return found
