"""Long commands are packed by hiredis: to the same bytes as redis-py's own, and over every kind of connection that we make."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Connection

from schemas.settings import RedisSettings
from streams.redis_client import LONG_COMMAND, PlainConnection, connect

WORDS: list[Any] = ["u1", "größer 東京", b"\x00\xff\r\n", "", b"", 7, -3, "x" * 10_000]


@pytest.mark.parametrize("words", [["HMGET", "key", *WORDS], ["HMGET", "key", *(WORDS * LONG_COMMAND)]], ids=["short", "long"])
def test_a_command_is_packed_as_redis_py_packs_it(words: list[Any]) -> None:
    packed = PlainConnection().pack_command(*words)
    assert b"".join(packed) == b"".join(Connection().pack_command(*words))
    assert (len(packed) == 1) == (len(words) >= LONG_COMMAND)  # redis-py makes pieces of what has a long argument


@pytest.mark.parametrize(
    "url",
    [
        "redis://here:1", "rediss://here:1", "unix:///tmp/none", "redis+cluster://here:1", "rediss+cluster://here:1",
        "redis+sentinel://here:1/main", "rediss+sentinel://here:1/main",
    ],
)  # fmt: skip
async def test_every_kind_of_connection_leaves_long_commands_to_hiredis(url: str) -> None:
    client: Any = connect(RedisSettings(url=url))
    pool = client.startup_nodes[0] if "cluster" in url else client.connection_pool
    assert pool.connection_class.pack_command is PlainConnection.pack_command
    await client.aclose()
