"""[pure] One harmless use of every command that a worker needs, on keys of the doctor's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from streams.permissions import REDIS_COMMANDS

Words = tuple[str | int, ...]
KEYS = "keys "
# What follows the key; the kind of value that the key must hold.
AFTER = {
    "del": ("text",), "exists": ("text",), "expire": ("text", 60), "get": ("text",), "hdel": ("hash", "f"), "hexists": ("hash", "f"),
    "hget": ("hash", "f"), "hgetall": ("hash",), "hincrby": ("hash", "n", 1), "hkeys": ("hash",), "hlen": ("hash",), "hmget": ("hash", "f"),
    "hscan": ("hash", 0), "hset": ("hash", "f", "1"), "hsetnx": ("hash", "f", "1"), "lpush": ("list", "x"), "lrange": ("list", 0, 0),
    "ltrim": ("list", 0, 9), "pexpire": ("text", 60_000), "rpush": ("list", "x"), "sadd": ("set", "x"), "scard": ("set",),
    "set": ("text", "1"), "sismember": ("set", "x"), "smembers": ("set",), "type": ("text",), "unlink": ("text",),
    "xadd": ("stream", "*", "f", "1"), "xrange": ("stream", "-", "+"), "xrevrange": ("stream", "+", "-"), "zadd": ("sorted", 1, "x"),
    "zcard": ("sorted",), "zpopmin": ("sorted",), "zrem": ("sorted", "x"),
}  # fmt: skip
WITHOUT_KEY: dict[str, Words] = {
    "eval": ("EVAL", "return 1", 0), "evalsha": ("EVALSHA", "0" * 40, 0), "ping": ("PING",),
    "scan": ("SCAN", 0), "script|load": ("SCRIPT LOAD", "return 1"), "time": ("TIME",),
}  # fmt: skip


@dataclass(frozen=True)
class Probe:
    """The words to say, and what a refusal of them shows: a command that we may not, or `keys PATTERN`."""

    name: str
    words: Words

    def split(self) -> Words:
        """Each word by itself, as a command about a command must be told."""
        return (*str(self.words[0]).split(), *self.words[1:])

    def is_refused(self, answer: str) -> bool:
        """Whether this is what is refused: a command may also be refused for its key, and a key for its command."""
        about_command = "' command" in answer
        return about_command if not self.name.startswith(KEYS) else "key" in answer and not about_command


def probes(prefix: str) -> Iterator[Probe]:
    """One for every command, and one for each pattern of keys."""
    for command in REDIS_COMMANDS:
        if command in WITHOUT_KEY:
            yield Probe(command, WITHOUT_KEY[command])
        else:
            kind, *rest = AFTER[command]
            yield Probe(command, (command.upper(), doctor_key(prefix, str(kind)), *rest))
    yield Probe(f"{KEYS}{prefix}:*", ("EXISTS", f"{prefix}:doctor"))
    yield Probe(f"{KEYS}{{{prefix}:*", ("EXISTS", doctor_key(prefix, "text")))


def doctor_key(prefix: str, kind: str) -> str:
    """A key on one slot of a cluster, under the pattern that the ledger's shards have."""
    return f"{{{prefix}:doctor}}:{kind}"


def doctor_keys(prefix: str) -> list[str]:
    """All keys that probing may leave behind."""
    return [doctor_key(prefix, kind) for kind in sorted({str(words[0]) for words in AFTER.values()})]
