"""Who may write and send, and who knows that they may not."""

from __future__ import annotations

import pytest

from alerting.leadership import Leadership
from alerting.memory_store import MemoryAlertStore
from schemas.errors import StoreUnavailable


class FakeLease:
    """Gives the tokens it was made with; an exception is raised."""

    def __init__(self, *tokens: int | Exception | None) -> None:
        self._tokens = list(tokens)
        self.released = False

    async def hold(self) -> int | None:
        token = self._tokens.pop(0)
        if isinstance(token, Exception):
            raise token
        return token

    async def release(self) -> None:
        self.released = True


class Bench:
    def __init__(self, *tokens: int | Exception | None) -> None:
        self.now = 100.0
        self.store = MemoryAlertStore()
        self.carried: list[int | None] = []
        self.store.carry = self.carried.append  # noted instead
        self.lease = FakeLease(*tokens)
        self.leadership = Leadership(self.lease, 6.0, self.store, lambda: self.now)


async def test_whoever_holds_the_lease_leads_and_what_is_written_carries_its_token() -> None:
    bench = Bench(7)
    assert not bench.leadership.leads()
    assert await bench.leadership.hold() == 7
    assert (bench.leadership.leads(), bench.leadership.fence, bench.carried) == (True, 7, [7])


async def test_whoever_was_stopped_until_the_lease_was_over_knows_it_when_waking() -> None:
    bench = Bench(7, 7)
    await bench.leadership.hold()
    bench.now += 5.9
    assert bench.leadership.leads()
    bench.now += 0.1
    assert not bench.leadership.leads()
    await bench.leadership.hold()
    assert bench.leadership.leads()


async def test_while_another_leads_nothing_can_be_written() -> None:
    bench = Bench(7, None)
    await bench.leadership.hold()
    assert await bench.leadership.hold() is None
    assert (bench.leadership.leads(), bench.carried) == (False, [7, None])


async def test_without_an_answer_nobody_is_known_to_lead() -> None:
    bench = Bench(7, StoreUnavailable("no answer"))
    await bench.leadership.hold()
    with pytest.raises(StoreUnavailable):
        await bench.leadership.hold()
    assert (bench.leadership.leads(), bench.leadership.fence, bench.carried) == (False, None, [7, None])


async def test_who_lets_go_leads_no_more() -> None:
    bench = Bench(7)
    await bench.leadership.hold()
    await bench.leadership.release()
    assert (bench.leadership.leads(), bench.lease.released, bench.carried[-1]) == (False, True, None)
