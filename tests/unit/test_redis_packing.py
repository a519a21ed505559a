"""Long commands: packed to the same bytes as redis-py's own, over every kind of connection that we make, and sent a part at a time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from redis.asyncio import Connection
from redis.exceptions import ConnectionError  # noqa: A004  # redis-py's own name

from schemas.settings import RedisSettings
from streams.embedded import Valkey
from streams.redis_client import PlainConnection, connect
from streams.redis_sending import LONG_COMMAND, SENT_AT_ONCE, Pieces, Sending, parts
from tests.parts.loop import turns_while

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
    assert pool.connection_class.send_packed_command is PlainConnection.send_packed_command


@given(st.lists(st.integers(0, 3 * SENT_AT_ONCE), max_size=6))
def test_parts_are_the_same_bytes_and_none_is_long(sizes: list[int]) -> None:
    pieces = [bytes([65 + place]) * size for place, size in enumerate(sizes)]
    found = list(parts(pieces))
    assert b"".join(b"".join(part) for part in found) == b"".join(pieces)
    assert all(sum(map(len, part)) <= SENT_AT_ONCE for part in found)
    assert len(found) <= sum(sizes) // SENT_AT_ONCE + 1


def test_an_argument_in_pieces_is_packed_as_if_it_were_put_together() -> None:
    pieces = Pieces((b"", b"ab\r\n", b"x" * 10_000))
    packed = PlainConnection().pack_command("EVALSHA", "sha", 1, "key", pieces, "größer", 7)
    assert b"".join(packed) == b"".join(Connection().pack_command("EVALSHA", "sha", 1, "key", b"".join(pieces), "größer", 7))


async def test_what_was_sent_in_parts_is_there_whole_and_others_were_let_in_between(valkey: Valkey, unique_name: str) -> None:
    client = connect(RedisSettings(url=SecretStr(valkey.url)))
    pieces = Pieces(bytes([65 + number % 26]) * 100_000 for number in range(60))

    async def put() -> None:
        await client.execute_command("SET", unique_name, pieces)

    try:
        await client.ping()
        assert await turns_while(put) > 60 * 100_000 // SENT_AT_ONCE
        assert await client.get(unique_name) == b"".join(pieces)
    finally:
        await client.delete(unique_name)
        await client.aclose()


class Line:
    """In redis-py's place: sends three times, and then is closed or breaks."""

    def __init__(self, end: BaseException | None) -> None:
        self.sent: list[int] = []
        self.is_connected, self.gave_up = True, False
        self._end = end

    async def send_packed_command(self, command: list[bytes], check_health: bool) -> None:
        self.sent.append(sum(map(len, command)))
        if len(self.sent) == 3:
            if self._end is not None:
                raise self._end
            self.is_connected = False

    async def disconnect(self, *, nowait: bool) -> None:
        self.gave_up = nowait


class SendingLine(Sending, Line):
    """Ours, on it."""


@pytest.mark.parametrize("end", [None, OSError("broken"), TimeoutError()])
async def test_a_command_that_was_sent_in_part_is_never_gone_on_with_over_another_connection(end: BaseException | None) -> None:
    line = SendingLine(end)
    with pytest.raises(ConnectionError if end is None else type(end)):
        await line.send_packed_command([b"x" * 10 * SENT_AT_ONCE])
    assert line.sent == [SENT_AT_ONCE] * 3
    assert line.gave_up
