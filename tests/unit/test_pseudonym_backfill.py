"""A backfill while the key changes: everybody is stored once, under today's name, and counted as without a key."""

from __future__ import annotations

import random

import pytest

from streams.backfill import backfill
from streams.counting import Pending, ShardCount
from streams.ledger.contract import UNKEYED
from streams.ledger.memory import MemoryLedger
from streams.plan import Plan
from streams.pseudonym import Key, Pseudonyms, Unkeyed
from tests.unit.test_backfill import AFTER, BEFORE, SHARD, Worker, counted
from tests.unit.test_counting import event

OLD, NEW = Pseudonyms(Key("o" * 32)), Pseudonyms(Key("n" * 32), Key("o" * 32))


class KeyedWorker(Worker):
    """Counts under pseudonyms."""

    names: Pseudonyms | None = None

    async def claim(self) -> Worker:
        keys = UNKEYED if self.names is None else self.names.fingerprints
        self.held = await self.ledger.claim(SHARD, 1, self.first, [f.definition for f in self.plan.funnels], keys)
        await backfill(self.ledger, self.held, self.plan, self.first, self.read_back, self.names)
        self.count = ShardCount(Plan(self.setup, self.setup.sources[0]), self.held.watermark_us, names=self.names)
        self.next = self.held.next
        return self

    async def hold_former(self, pending: Pending) -> None:
        former = [*pending.former.items()]
        held = await self.ledger.states(SHARD, [name for _, name in former])
        self.count.hold_former({entity: (name, packed) for (entity, name), packed in zip(former, held) if packed is not None})


@pytest.mark.parametrize(("first", "then"), [(OLD, NEW), (None, Pseudonyms(Key("n" * 32), Unkeyed()))], ids=["another key", "from none"])
async def test_a_backfill_carries_everybody_over(first: Pseudonyms | None, then: Pseudonyms) -> None:
    dice = random.Random(11)
    log = [
        event(dice.choice("abcxy"), second / 4, f"person-{dice.randrange(30)}", "", channel=dice.choice(["ads", "mail"]))
        for second in range(1200)
    ]
    ledger = MemoryLedger()
    before, after = KeyedWorker(ledger, BEFORE, log, seed=1), KeyedWorker(ledger, AFTER, log, seed=2)
    before.names, after.names = first, then
    await (await before.claim()).until(500)
    await (await after.claim()).until(700)
    await (await after.ask("f")).until()
    assert await after.books() == await (await counted(AFTER, log)).books()
    _, stored = await ledger.scan(SHARD, 0, 10**9)
    assert {name for name, _ in stored} == {then.stored(f"person-{number}")[0] for number in range(30)}
