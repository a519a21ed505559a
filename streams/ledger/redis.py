"""The ledger in Redis: one hash tag a shard, one script a chunk.

    {fw:web:3}:meta            epoch, token, next, watermark, generation, seq, done, fate:*, up:*, gone,
                               gap (records before the next event are missing), whole (event time since which none is),
                               since:DEF (the watermark at which a definition's counting began), backfill:DEF,
                               key (fingerprint of the pseudonym key; see streams/pseudonym.py)
    {fw:web:3}:states          entity, or its pseudonym -> state (msgpack)
    {fw:web:3}:c:DEF:W:B       counts of definition DEF in bucket B of width W seconds
    {fw:web:3}:t:DEF           counts since the definition began
    {fw:web:3}:journal         the counts of the newest chunks, for readers that follow along
    fw:shards:web              names of the source's shards
    fw:partitions:web          how many partitions the source's topic has
    fw:ends:web                where the partitions' logs end
    fw:values:web:PROPERTY     the admitted values of a dimension

Uses only commands that Redis 7.0 has.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from importlib import resources
from itertools import chain
from sys import intern
from typing import Any, NamedTuple, TypeVar, cast

import msgpack
import msgspec
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode

from schemas.errors import OtherPseudonyms, PartitionsChanged, StoreError, StoreUnavailable
from streams.ledger.contract import (
    UNKEYED,
    Changes,
    Claim,
    Corrupt,
    Fenced,
    Kept,
    Mismatch,
    NoState,
    Ok,
    Outcome,
    Position,
    Snapshot,
    Write,
)
from streams.pauses import Stretches, give_way, let_go
from streams.redis_errors import FAILURES, remedy, said
from streams.redis_sending import Pieces
from streams.tally import BucketKey
from streams.values import Registry
from streams.windows import Cells

JOURNAL_LENGTH = 256
EXACT = 2**53  # doubles hold whole numbers below it exactly
BACKSTOP_DAYS = 40  # the longest window and its slack, and a week more
Entry = tuple[Mapping[BucketKey, Cells], Mapping[int, Cells]]  # of the journal: counts by bucket, and since ever
T = TypeVar("T")


class _Own(NamedTuple):
    """An entry of the journal that this process wrote."""

    token: str  # of the claim it was written under
    generation: str
    sequence: int
    entry: Entry


class RedisLedger:
    """See `contract.Ledger`. `fences=False` exists to show in a test what they prevent."""

    def __init__(self, client: Redis, prefix: str = "fw", *, fences: bool = True) -> None:
        self._client = client
        self._prefix = prefix
        self._fences = "1" if fences else "0"
        self._apply = client.register_script(_script("apply.lua"))
        self._claim = client.register_script(_script("claim.lua"))
        self._drop = client.register_script(_script("drop.lua"))
        self._own: dict[str, deque[_Own]] = {}  # what this process has written lately, by shard
        self._gates: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by server
        self._snapshot = client.register_script(_script("snapshot.lua"))
        self._newest = client.register_script(_script("journal.lua"))
        self._admit = client.register_script(ADMIT)

    async def claim(self, shard: str, partitions: int, start: int, definitions: Sequence[int] = (), keys: Sequence[str] = UNKEYED) -> Claim:
        token = secrets.token_hex(8)
        source = shard.rpartition(":")[0]
        # One count for the whole source: a partition that is new has nothing of its own to differ from.
        stored = await _answer(self._client.set(f"{self._prefix}:partitions:{source}", partitions, nx=True, get=True))
        if stored is not None and int(cast(bytes, stored)) != partitions:
            raise PartitionsChanged(source, int(cast(bytes, stored)), partitions)
        await _answer(self._client.sadd(f"{self._prefix}:shards:{source}", shard))
        args: list[str | int] = [token, start, secrets.token_hex(4), ",".join(keys), *definitions]
        found = await _answer(self._claim(keys=[self._key(shard, "meta")], args=args))
        if found[0] == b"key":
            raise OtherPseudonyms(shard, found[1].decode(), keys)
        meta = _pairs(found[1])
        upstream = {int(k[3:]): int(v) for k, v in meta.items() if k.startswith("up:")}
        corrupt = meta["seq"] != meta["done"]
        return Claim(shard, int(found[0]), token, int(meta["next"]), int(meta["watermark"]), upstream, corrupt, _asked(meta))

    async def apply(self, claim: Claim, write: Write) -> Outcome:
        key = self._key(claim.shard, "")
        deltas = write.deltas
        args: list[Any] = [  # redis-py's type knows no `Pieces`
            claim.epoch,
            claim.token,
            write.start,
            write.next,
            deltas.watermark_us,
            await _packed_states(write.states),
            await _packed_counts(deltas.buckets, deltas.totals),
            _pack([_flat(deltas.fates), _flat({str(p): str(o) for p, o in write.upstream.items()}), write.gone, write.began_us]),
            _pack([_bucket_key(b) for b in deltas.expired]),
            JOURNAL_LENGTH,
            key,
            BACKSTOP_DAYS,
            self._fences,
            _pack(list(write.forgotten)),
        ]
        # One at a time: a server runs one script at a time anyway, and whoever reads would wait behind all that it has been sent.
        async with self._gates[self._server(key)]:
            began = time.perf_counter()
            found = await _answer(self._apply(keys=[f"{key}meta", f"{key}states", f"{key}journal"], args=args))
            took = time.perf_counter() - began
        if found[0] == b"ok":
            own = self._own.setdefault(claim.shard, deque(maxlen=JOURNAL_LENGTH))
            own.append(_Own(claim.token, bytes(found[2]).decode(), int(found[1]), (deltas.buckets, deltas.totals)))
            return Ok(took)
        return _outcome(claim.shard, found)

    def _server(self, key: str) -> str:
        """Which server of a cluster has a shard."""
        if isinstance(self._client, RedisCluster):
            node: ClusterNode | None = self._client.get_node_from_key(key)
            return "" if node is None else node.name
        return ""

    async def states(self, shard: str, entities: Sequence[str]) -> list[bytes | None]:
        if not entities:
            return []
        return cast(list[bytes | None], await _answer(self._client.hmget(self._key(shard, "states"), list(entities))))

    async def scan(self, shard: str, cursor: int, count: int) -> tuple[int, list[tuple[str, bytes]]]:
        following, found = await _answer(self._client.hscan(self._key(shard, "states"), cursor, count=count))
        return int(following), [(entity.decode(), packed) for entity, packed in cast("dict[bytes, bytes]", found).items()]

    async def ask_backfill(self, shard: str, definition: int) -> bool:
        meta = self._key(shard, "meta")
        if not await _answer(self._client.exists(meta)):
            return False
        await _answer(self._client.hset(meta, f"backfill:{definition}", "1"))
        return True

    async def drop(self, claim: Claim, definition: int) -> Outcome:
        prefix = self._key(claim.shard, "")
        ours = (f"{prefix}t:{definition}", f"{prefix}c:{definition}:")
        keys = [key.decode() for key in await _answer(self._keys(claim.shard))]
        return await self._mark(
            claim, "drop", definition, -1, [key[len(prefix) :] for key in keys if key == ours[0] or key.startswith(ours[1])]
        )

    async def backfilled(self, claim: Claim, definition: int, since_us: int) -> Outcome:
        return await self._mark(claim, "done", definition, since_us, [])

    async def _mark(self, claim: Claim, what: str, definition: int, since_us: int, keys: Sequence[str]) -> Outcome:
        args: list[str | int] = [
            claim.epoch,
            claim.token,
            what,
            definition,
            since_us,
            self._key(claim.shard, ""),
            secrets.token_hex(4),
            *keys,
        ]
        found = await _answer(self._drop(keys=[self._key(claim.shard, "meta")], args=args))
        return _outcome(claim.shard, found)

    async def admit(self, source: str, registry: Registry, texts: Sequence[str]) -> dict[str, bool]:
        key = f"{self._prefix}:values:{source}:{registry.name}"
        found = await _answer(self._admit(keys=[key], args=[registry.max_values, *texts]))
        return {text: bool(ok) for text, ok in zip(texts, found)}

    async def reset(self, shard: str) -> None:
        meta = self._key(shard, "meta")
        for key in await _answer(self._keys(shard)):
            if key != meta.encode():
                await _answer(self._client.unlink(key))
        # Last, so that a reset that was cut short is seen, and done again, at the next claim.
        await _answer(self._client.unlink(meta))

    async def _keys(self, shard: str) -> list[bytes]:
        pattern = self._key(shard, "*").replace("[", "\\[")
        return [key async for key in self._client.scan_iter(match=pattern, count=1000)]

    async def shards(self, source: str) -> list[str]:
        found = await _answer(self._client.smembers(f"{self._prefix}:shards:{source}"))
        return sorted(name.decode() for name in cast(set[bytes], found))

    async def snapshot(self, shard: str, kept: Kept) -> Snapshot | None:
        packed = _pack([number for triple in kept for number in triple])
        found = await _answer(self._snapshot(keys=[self._key(shard, "meta")], args=[self._key(shard, ""), packed]))
        if not found:
            return None
        meta, counts = _unpack_snapshot(found)
        buckets, totals = await _parse_counts(counts)
        return Snapshot(_position(dict(zip(meta[::2], meta[1::2]))), buckets, totals)

    async def changes(self, shard: str, generation: str, since: int) -> Changes | None:
        meta_raw = cast("dict[bytes, bytes]", await _answer(self._client.hgetall(self._key(shard, "meta"))))
        if not meta_raw:
            return None
        position = _position({k.decode(): v.decode() for k, v in meta_raw.items()})
        new = position.sequence - since
        if position.generation != generation or not 0 <= new <= JOURNAL_LENGTH:
            return Changes(position, None)
        own = await self._own_since(shard, meta_raw.get(b"token", b"").decode(), position, since)
        return Changes(position, own) if len(own) == new else await self._journal(shard, generation, since, new)

    async def _own_since(self, shard: str, token: str, position: Position, since: int) -> list[Entry]:
        """What this process wrote of the new entries, which need not be read back; only while the shard is still its own."""
        own = self._own.get(shard, deque())
        while own and (own[0].token != token or own[0].generation != position.generation or own[0].sequence <= since):
            await let_go([list(own.popleft().entry[0].values())], LET_GO_AT_ONCE)
        return [found.entry for found in own if found.sequence <= position.sequence]

    async def _journal(self, shard: str, generation: str, since: int, expected: int) -> Changes | None:
        """The new entries as Redis has them: `expected`, and perhaps some that have come meanwhile."""
        keys = [self._key(shard, "meta"), self._key(shard, "journal")]
        meta_raw, entries = await _answer(self._newest(keys=keys, args=[expected + MEANWHILE]))
        if not meta_raw:
            return None
        position = _position(_pairs(meta_raw))
        new = position.sequence - since
        if position.generation != generation or not 0 <= new <= len(entries):
            return Changes(position, None)
        return Changes(position, [await _entry(entry) for entry in entries[len(entries) - new :]])

    async def publish_ends(self, source: str, ends: Mapping[int, int]) -> None:
        if ends:
            await _answer(self._client.hset(f"{self._prefix}:ends:{source}", mapping={str(p): end for p, end in ends.items()}))

    async def ends(self, source: str) -> dict[int, int]:
        found = await _answer(self._client.hgetall(f"{self._prefix}:ends:{source}"))
        return {int(p): int(end) for p, end in found.items()}

    async def ping(self) -> None:
        await _answer(cast(Awaitable[Any], self._client.ping()))

    async def close(self) -> None:
        await self._client.aclose()

    def _key(self, shard: str, part: str) -> str:
        return f"{{{self._prefix}:{shard}}}:{part}"


MEANWHILE = 4

ADMIT = """
local out = {}
local size = redis.call('SCARD', KEYS[1])
for i = 2, #ARGV do
  local known = redis.call('SISMEMBER', KEYS[1], ARGV[i])
  if known == 0 and size < tonumber(ARGV[1]) then
    redis.call('SADD', KEYS[1], ARGV[i])
    size = size + 1
    known = 1
  end
  out[#out + 1] = known
end
return out
"""


def _script(name: str) -> str:
    return resources.files("streams.ledger").joinpath(name).read_text("utf-8")


async def _answer(call: Awaitable[T]) -> T:
    try:
        return await call
    except FAILURES as error:
        raise StoreUnavailable(f"Redis did not do as asked ({said(error)}); {remedy(error)}") from error


COUNTS_AT_ONCE = 1_000  # packed
STATES_AT_ONCE = 200  # likewise, with their names: a state may be kilobytes
LET_GO_AT_ONCE = 50  # buckets, of some hundred counts

_packer = msgpack.Packer(use_bin_type=False, buf_size=1 << 21)  # room for a chunk's states, taken once
_array_header: Any = msgpack.Packer().pack_array_header


def _pack(data: Any) -> bytes:
    # Redis 7.0's cmsgpack does not know the bin type: strings and bytes both go as raw.
    return cast(bytes, _packer.pack(data))


_pack_text: Any = msgspec.msgpack.Encoder().encode  # several times as quick, and right where no bytes are packed
_unpack_counts: Any = msgspec.msgpack.Decoder(list[str | list[str | int]]).decode
_unpack_snapshot: Any = msgspec.msgpack.Decoder(tuple[list[str], list[str | list[str | int]]]).decode


def _flat(cells: Cells | dict[str, str]) -> list[Any]:
    return [item for pair in cells.items() for item in pair]


def _bucket_key(bucket: BucketKey) -> str:
    return f"c:{bucket[0]}:{bucket[1]}:{bucket[2]}"


def _exact(cells: Cells) -> Mapping[str, int | str]:
    """Lua's numbers are doubles: what they cannot hold goes as text."""
    if max(cells.values()) < EXACT and min(cells.values()) > -EXACT:
        return cells
    return {name: delta if -EXACT < delta < EXACT else str(delta) for name, delta in cells.items()}


def _counts(buckets: dict[BucketKey, Cells], totals: dict[int, Cells]) -> Iterator[tuple[str, list[Any]]]:
    named = chain(((_bucket_key(key), cells) for key, cells in buckets.items()), ((f"t:{d}", cells) for d, cells in totals.items()))
    return ((key, [*chain.from_iterable(_exact(cells).items())]) for key, cells in named if cells)


async def _packed_states(states: Mapping[str, bytes]) -> Pieces:
    """A list of entity and state, in turns: it is ten megabytes."""
    found, pieces = list(chain.from_iterable(states.items())), [_array_header(2 * len(states))]
    stretches = Stretches()
    for begin in range(0, len(found), STATES_AT_ONCE):
        part = found[begin : begin + STATES_AT_ONCE]
        pieces.append(_pack(part)[len(_array_header(len(part))) :])
        await stretches.pause()
    return Pieces(pieces)


async def _packed_counts(buckets: dict[BucketKey, Cells], totals: dict[int, Cells]) -> Pieces:
    """A list of name and fields, in turns: of a hundred funnels it is a megabyte."""
    pieces, items = list[bytes](), 0
    packed, counts = list[bytes](), 0  # since the last piece
    for key, fields in _counts(buckets, totals):
        packed += (_pack_text(key), _pack_text(fields))
        counts += 1 + len(fields) // 2
        if counts >= COUNTS_AT_ONCE:
            pieces.append(b"".join(packed))
            items += len(packed)
            packed, counts = [], 0
            await give_way()
    return Pieces((_array_header(items + len(packed)), *pieces, b"".join(packed)))


async def _parse_counts(flat: Sequence[Any]) -> tuple[dict[BucketKey, Cells], dict[int, Cells]]:
    """Counts by bucket and since ever, in turns, as they were packed."""
    buckets: dict[BucketKey, Cells] = {}
    totals: dict[int, Cells] = {}
    stretches = Stretches()
    for key, fields in zip(flat[::2], flat[1::2]):
        # The same few hundred names come in every bucket: held once, so that counts take a third of the memory.
        cells: Cells = dict(zip(map(intern, fields[::2]), map(int, fields[1::2])))
        kind, *numbers = key.split(":")
        if kind == "t":
            totals[int(numbers[0])] = cells
        else:
            buckets[int(numbers[0]), int(numbers[1]), int(numbers[2])] = cells
        await stretches.pause()
    return buckets, totals


async def _entry(packed: bytes) -> tuple[dict[BucketKey, Cells], dict[int, Cells]]:
    return await _parse_counts(_unpack_counts(packed)) if packed else ({}, {})


def _pairs(flat: Sequence[bytes]) -> dict[str, str]:
    return {k.decode(): v.decode() for k, v in zip(flat[::2], flat[1::2])}


def _position(meta: dict[str, str]) -> Position:
    fates = {k[5:]: int(v) for k, v in meta.items() if k.startswith("fate:")}
    since = {int(k[6:]): int(v) for k, v in meta.items() if k.startswith("since:")}
    return Position(
        int(meta["next"]),
        int(meta["watermark"]),
        fates,
        int(meta.get("gone", 0)),
        meta["generation"],
        int(meta["seq"]),
        since,
        _asked(meta),
        int(meta.get("whole", -1)),
        "gap" in meta,
    )


def _asked(meta: dict[str, str]) -> tuple[int, ...]:
    return tuple(sorted(int(field[9:]) for field in meta if field.startswith("backfill:")))


def _outcome(shard: str, found: Sequence[bytes]) -> Outcome:
    match found[0]:
        case b"ok":
            return Ok()
        case b"mismatch":
            return Mismatch(int(found[1]))
        case b"fenced":
            return Fenced(int(found[1]))
        case b"corrupt":
            return Corrupt()
        case b"nostate":
            return NoState()
    raise StoreError(f"the ledger of {shard} refused a chunk: {found[-1].decode()}; is another program writing its keys?")
