"""[pure] What was found out, before anybody judges it; and what a judgement looks like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

State = Literal["ok", "warn", "fail"]
Area = Literal["kafka", "topics", "redis", "clocks", "permissions", "channels", "registry", "web", "config"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; whatever is not ok says what to do."""

    area: Area
    state: State
    subject: str
    what: str
    remedy: str = ""


@dataclass(frozen=True)
class Server:
    """A broker or a Redis: spoken to, or why not."""

    address: str
    error: str = ""
    remedy: str = ""
    expires: datetime | None = None  # its certificate


@dataclass(frozen=True)
class Topic:
    """A topic that is there; None: it could not be found out."""

    partitions: int
    replicas: int = 1
    leaderless: int = 0
    under_replicated: int = 0
    operations: frozenset[str] | None = None  # that we may do
    retention_ms: int | None = None  # -1: for ever
    cleanup: str | None = None
    newest_us: int | None = None  # timestamp of its newest record
    unreadable: str = ""


@dataclass(frozen=True)
class KafkaFacts:
    """The brokers, and those of the config's topics that exist and that we may see."""

    servers: tuple[Server, ...]
    topics: Mapping[str, Topic] = field(default_factory=dict)
    group: frozenset[str] | None = None
    trouble: str = ""  # it was reached, but did not do as asked


@dataclass(frozen=True)
class Node:
    """One Redis; in a cluster each master."""

    server: Server
    info: Mapping[str, Any] | None = None
    settings: Mapping[str, str] | None = None
    ahead_seconds: float | None = None  # of our clock
    user: str = ""
    missing: tuple[str, ...] = ()  # commands that it may not, and `keys NAME` for keys that it may not touch


@dataclass(frozen=True)
class RedisFacts:
    nodes: tuple[Node, ...]
    partitions: Mapping[str, int] = field(default_factory=dict)  # by source, as its counts were begun


@dataclass(frozen=True)
class ChannelFacts:
    """A channel, or whatever else is only reached: where it is, or what is wrong."""

    name: str
    where: str
    error: str = ""
    remedy: str = ""
