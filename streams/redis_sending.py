"""How long commands go to Redis: with as little new memory as can be, and a part at a time.

A chunk's states are ten megabytes. Where memory is new to a process each page of it costs up to 10 µs (a virtual
machine's more than a real one's), so that to join them was a pause of 30 ms, and to give them all to the
network at once another. They stay the pieces that they were packed in, and others have the loop in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, cast

import hiredis
from redis.exceptions import ConnectionError  # noqa: A004  # redis-py's own name

LONG_COMMAND = 64  # arguments
SENT_AT_ONCE = 1_048_576  # bytes


class Pieces(tuple[bytes, ...]):
    """One argument of a command, in pieces that are not put together."""

    __slots__ = ()


class Sending:
    """A connection of redis-py's that packs and sends long commands so; to be mixed in before it."""

    def pack_command(self, *args: Any) -> list[bytes]:
        """The bytes of a command. Many arguments are left to hiredis: redis-py takes a microsecond for each."""
        if any(isinstance(arg, Pieces) for arg in args):
            return list(self._packed(args))
        if len(args) < LONG_COMMAND:
            return cast("list[bytes]", super().pack_command(*args))  # type: ignore[misc]  # of the connection that it is mixed into
        return [hiredis.pack_command(args)]

    def _packed(self, args: tuple[Any, ...]) -> Iterator[bytes]:
        encode = self.encoder.encode  # type: ignore[attr-defined]  # the connection's
        yield b"*%d\r\n" % len(args)
        for arg in args:
            pieces = arg if isinstance(arg, Pieces) else (encode(arg),)
            yield b"$%d\r\n" % sum(map(len, pieces))
            yield from pieces
            yield b"\r\n"

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:  # as redis-py has it
        """Send a command. Raises redis-py's ConnectionError and TimeoutError; what was sent in part ends the connection."""
        send = super().send_packed_command  # type: ignore[misc]
        whole = [command] if isinstance(command, (bytes, str)) else list(command)
        if sum(map(len, whole)) <= SENT_AT_ONCE:
            await send(whole if len(whole) > 1 else whole[0], check_health)
            return
        first, *others = parts(cast("list[bytes]", whole))
        await send(first, check_health)
        try:
            for part in others:
                await asyncio.sleep(0)  # a turn, and not until the loop is quiet: Redis has nothing to do before it has all of it
                if not self.is_connected:  # type: ignore[attr-defined]  # redis-py would connect anew, and begin in the middle
                    raise ConnectionError("the connection was closed in the middle of a command")
                await send(part, False)
        except BaseException:
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            raise


def parts(pieces: Iterable[bytes]) -> Iterator[list[bytes | memoryview]]:
    """The same bytes, in order, in lists of at most SENT_AT_ONCE."""
    found, room = list[bytes | memoryview](), SENT_AT_ONCE
    for piece in pieces:
        left = memoryview(piece)
        while len(left) > room:
            yield [*found, left[:room]] if room else found
            left, found, room = left[room:], [], SENT_AT_ONCE
        found.append(left)
        room -= len(left)
    if found:
        yield found
