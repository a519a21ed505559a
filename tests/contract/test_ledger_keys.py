"""A shard remembers under which pseudonym key it is counted, and whoever has another one is refused."""

from __future__ import annotations

import pytest

from schemas.errors import OtherPseudonyms
from streams.ledger.contract import UNKEYED, Ledger, Ok, Write
from streams.tally import Deltas

SHARD = "web:3"


async def held_with(ledger: Ledger, *keys: str) -> None:
    await ledger.claim(SHARD, 4, 0, (), keys)


async def test_a_shard_is_claimed_with_the_key_it_was_counted_with_or_to_change_it(ledger: Ledger) -> None:
    await held_with(ledger, "one")
    await held_with(ledger, "one")
    with pytest.raises(OtherPseudonyms, match=r"under the key with the fingerprint 'one', this worker has 'two'"):
        await held_with(ledger, "two")
    await held_with(ledger, "two", "one")
    await held_with(ledger, "two", "one")
    with pytest.raises(OtherPseudonyms, match="Set FUNNELWATCH_PRIVACY__KEY to that key"):
        await held_with(ledger, "one")
    await held_with(ledger, "two")


async def test_a_key_is_put_on_and_not_taken_off_without_being_told(ledger: Ledger) -> None:
    await ledger.claim(SHARD, 4, 0)
    with pytest.raises(OtherPseudonyms, match=r"stored by their own ids.*PREVIOUS_KEY=none"):
        await held_with(ledger, "one")
    await held_with(ledger, "one", *UNKEYED)
    with pytest.raises(OtherPseudonyms, match="this worker has no key"):
        await ledger.claim(SHARD, 4, 0)


async def test_who_is_refused_takes_no_claim(ledger: Ledger) -> None:
    claim = await ledger.claim(SHARD, 4, 0, (), ("one",))
    with pytest.raises(OtherPseudonyms):
        await held_with(ledger, "two")
    assert isinstance(await ledger.apply(claim, Write(0, 1, Deltas(watermark_us=5))), Ok)


async def test_a_shard_that_was_reset_takes_any_key(ledger: Ledger) -> None:
    await held_with(ledger, "one")
    await ledger.reset(SHARD)
    await held_with(ledger, "two")
