"""[pure] What Redis's facts mean: it keeps the counts, so it must keep them whole, and have room."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from schemas.config import Config
from schemas.settings import RedisSettings
from streams.doctor.facts import Finding, KafkaFacts, Node, RedisFacts, State
from streams.doctor.judge_kafka import server_finding
from streams.doctor.probes import KEYS

LEAST = (7, 0)
FULL, NEARLY_FULL = 0.95, 0.8
SMALL_HASH_WANTED, SMALL_HASH_MOST = 128, 256  # fields
CLOCK_FAIL_SECONDS, CLOCK_WARN_SECONDS = 30.0, 2.0
# setting: what it must be, how bad it is otherwise, and why
WANTED: dict[str, tuple[str, State, str]] = {
    "appendonly": ("yes", "fail", "a restart forgets what was counted since the last snapshot"),
    "maxmemory-policy": ("noeviction", "fail", "when memory is short, Redis throws counts away"),
    "aof-load-truncated": ("no", "warn", "after a crash a torn log is loaded, with half a write in it"),
}


def judge_redis(facts: RedisFacts, kafka: KafkaFacts, config: Config, settings: RedisSettings, now: datetime) -> Iterator[Finding]:
    """Everything about Redis."""
    for node in facts.nodes:
        yield from server_finding("redis", node.server, now)
        if not node.server.error:
            yield from _node(node)
    yield from _partitions(facts.partitions, kafka, config)
    if settings.allow_plaintext_credentials:
        remedy = "write rediss://, and leave FUNNELWATCH_REDIS__ALLOW_PLAINTEXT_CREDENTIALS out"
        yield Finding("redis", "warn", "password", "may travel readably", remedy)


def _node(node: Node) -> Iterator[Finding]:
    where = node.server.address
    if node.info is None or node.settings is None:
        missing = " ".join(name for name, found in (("+info", node.info), ("+config|get", node.settings)) if found is None)
        remedy = f"grant {missing} to the user that runs the doctor, or compare its settings with the README yourself"
        yield Finding("redis", "warn", where, "its settings cannot be asked", remedy)
    if node.info is not None:
        yield from _version(where, node.info)
        yield from _writes(where, node.info)
        yield from _memory(where, node.info)
    for name, (wanted, state, why) in WANTED.items():
        found = (node.settings or {}).get(name)
        if found is not None and found != wanted:
            yield Finding("redis", state, where, f"{name} is {found}: {why}", f"set {name} {wanted}")
    if node.settings is not None and all(node.settings.get(name, wanted) == wanted for name, (wanted, _, _) in WANTED.items()):
        yield Finding("redis", "ok", where, "keeps what it is given, and throws nothing away")
    yield from _hashes(where, node.settings or {})
    yield from _clock(where, node.ahead_seconds)
    yield from _allowed(where, node)


def _version(where: str, info: Mapping[str, object]) -> Iterator[Finding]:
    text = str(info.get("redis_version", "0"))
    version = tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())
    name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {text}"
    if version < LEAST:
        yield Finding("redis", "fail", where, f"is {name}", "run Redis 7.0 or later, or Valkey")
    else:
        yield Finding("redis", "ok", where, f"is {name}")


def _writes(where: str, info: Mapping[str, object]) -> Iterator[Finding]:
    if info.get("role") not in ("master", None):
        yield Finding("redis", "fail", where, f"is a {info['role']}: it takes no writes", "name the master, or the sentinels that know it")
    if info.get("aof_last_write_status", "ok") != "ok":
        yield Finding("redis", "fail", where, "its last write to its log failed", "see whether its disk is full")
    if info.get("loading"):
        yield Finding("redis", "fail", where, "is loading its data", "wait until it is done")
    if info.get("cluster_enabled") and info.get("cluster_state", "ok") != "ok":
        yield Finding("redis", "fail", where, "its cluster is down", "`redis-cli --cluster check` says which slots nobody has")


def _memory(where: str, info: Mapping[str, object]) -> Iterator[Finding]:
    used, most = _number(info, "used_memory"), _number(info, "maxmemory")
    bound, what = (most, "maxmemory") if most else (_number(info, "total_system_memory"), "the machine's memory")
    if not bound:
        return
    share = used / bound
    said = f"uses {share:.0%} of {what} ({bound / 2**30:.3g} GiB)"
    if share >= NEARLY_FULL:
        remedy = "give it more; a full Redis takes no counts, and workers wait until it does"
        yield Finding("redis", "fail" if share >= FULL else "warn", where, said, remedy)
    else:
        yield Finding("redis", "ok", where, said)


def _hashes(where: str, settings: Mapping[str, str]) -> Iterator[Finding]:
    most = settings.get("hash-max-listpack-entries", "")
    if most.isdecimal() and int(most) > SMALL_HASH_MOST:
        said = f"hash-max-listpack-entries is {most}: counting by many values takes it twice as long as need be"
        yield Finding("redis", "warn", where, said, f"set hash-max-listpack-entries {SMALL_HASH_WANTED}")


def _number(info: Mapping[str, object], name: str) -> int:
    found = info.get(name, 0)
    return found if isinstance(found, int) else 0


def _clock(where: str, ahead: float | None) -> Iterator[Finding]:
    if ahead is None:
        return
    said = f"its clock is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} ours"
    if abs(ahead) > CLOCK_WARN_SECONDS:
        state: State = "fail" if abs(ahead) > CLOCK_FAIL_SECONDS else "warn"
        yield Finding("clocks", state, where, said, "set both clocks (NTP)")
    else:
        yield Finding("clocks", "ok", where, said)


def _allowed(where: str, node: Node) -> Iterator[Finding]:
    who = f"user {node.user} of {where}" if node.user else where
    commands = [name for name in node.missing if not name.startswith(KEYS)]
    keys = [name.removeprefix(KEYS) for name in node.missing if name.startswith(KEYS)]
    if commands:
        remedy = f"ACL SETUSER {node.user or 'USER'} {' '.join(f'+{name}' for name in commands)}"
        yield Finding("permissions", "fail", who, f"may not {', '.join(commands)}", remedy)
    if keys:
        remedy = f"ACL SETUSER {node.user or 'USER'} {' '.join(f'~{name}' for name in keys)}"
        yield Finding("permissions", "fail", who, f"may not touch keys {', '.join(keys)}", remedy)
    if not node.missing:
        yield Finding("permissions", "ok", who, "may do all that a worker needs")


def _partitions(counted: Mapping[str, int], kafka: KafkaFacts, config: Config) -> Iterator[Finding]:
    for source in config.sources:
        topic, begun = kafka.topics.get(source.keyed_topic), counted.get(source.name)
        if topic is not None and begun is not None and topic.partitions != begun:
            what = f"has {topic.partitions} partitions, its counts were begun with {begun}"
            remedy = "give the source a new name to count anew from the topic, or restore the count: workers refuse this one"
            yield Finding("topics", "fail", source.keyed_topic, what, remedy)
