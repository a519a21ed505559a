"""What a worker does about alerts, as a process of its own that starts in a few milliseconds: without Kafka, on made-up counts.

Time passes faster in its play: event time is `speed` times what has passed since it `begun`, and it
stands still at the end. Pairs of buckets of 10 s are bad or good as chance has it, so that a rule fires
and resolves in turn however often it is looked at; the counts are the same whichever process makes them.

A nursery is a process that has imported everything once and forks a child for each worker.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from pydantic import SecretStr

from alerting.channels.webhook import WebhookSender
from alerting.contract import Commit
from alerting.delivery import Delivery
from alerting.evaluator import Evaluator
from alerting.leadership import Leadership
from alerting.pipeline import Intake
from alerting.store import RedisAlertStore
from schemas.config import Config
from schemas.duration import MICROS
from schemas.errors import FunnelwatchError
from schemas.settings import RedisSettings
from streams.lease import Lease
from streams.redis_client import connect
from tests.parts.alerts import NIGHT_US, Counts, config

if TYPE_CHECKING:
    from typing_extensions import Self

ROOT = Path(__file__).parents[2]
BUCKET_US = 10 * MICROS
BAD, GOOD = (100, 10), (100, 60)
PR_SET_PDEATHSIG = 1
RULE: dict[str, Any] = {"window": "10s", "for": "0s", "notify": ["hook"]}


@dataclass(frozen=True)
class Part:
    """Which store and receiver a worker has, and the play it is in. Times are seconds."""

    redis: str
    prefix: str
    hook: str
    owner: str = "a"
    begun: float = 0.0  # on the wall clock
    speed: float = 200.0
    ends: float = 1e9  # of event time since the play began
    lease_seconds: float = 0.3
    tick_seconds: float = 0.02
    dawdle_seconds: float = 0.0  # between reading and writing

    @property
    def config(self) -> Config:
        hook = {"type": "webhook", "url": self.hook, "limit": {"per": "1s", "most": 10_000}}
        return config(RULE, RULE | {"name": "Second"}, channels={"hook": hook})

    def at_us(self) -> int:
        """T."""
        return NIGHT_US + int(min(self.ends, (time.time() - self.begun) * self.speed) * MICROS)


class DawdlingStore(RedisAlertStore):
    """A store before whose writes there is time to be stopped. What is refused is said on stderr."""

    dawdle_seconds = 0.0

    async def commit(self, fence: int, commit: Commit) -> bool:
        await asyncio.sleep(self.dawdle_seconds)
        written = await super().commit(fence, commit)
        if not written:
            sys.stderr.write("refused\n")
            sys.stderr.flush()
        return written


def counted(counts: Counts, since: int, at_us: int) -> int:
    """Add the buckets that were over by then, from `since` on; the first that was not."""
    until = at_us // BUCKET_US
    for bucket in range(max(since, until - 20), until):
        counts.add(bucket * BUCKET_US, *(BAD if crc32(b"%d" % (bucket // 2)) % 2 else GOOD))
    return until


async def work(part: Part) -> None:
    """Hold the lease, evaluate and deliver, until killed."""
    client = connect(RedisSettings(url=SecretStr(part.redis)))
    store = DawdlingStore(client, part.prefix)
    store.dawdle_seconds = part.dawdle_seconds
    leadership = Leadership(Lease(client, part.prefix, part.lease_seconds, part.owner), part.lease_seconds, store)
    setup = part.config
    evaluator = Evaluator(setup, store)
    senders = {name: WebhookSender(name, channel, time.time) for name, channel in setup.channels.items()}
    delivery = Delivery(setup, store, senders, lambda *_: None)
    telling = asyncio.create_task(delivery.run(leadership.leads, part.tick_seconds))
    counts, since = Counts(RULE), 0
    while not telling.done():
        at_us = part.at_us()
        since = counted(counts, since, at_us)
        with suppress(FunnelwatchError):
            if (fence := await leadership.hold()) is not None:
                await evaluator.tick(fence, {"purchase": counts}, {}, {"web": Intake(at_us, settled=True, records=at_us)}, at_us)
        await asyncio.sleep(part.tick_seconds)


class Nursery:
    """Starts workers; what is still alive at the end dies with it."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.parts.alert_worker", str(os.getpid())]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def spawn(self, part: Part) -> int:
        """Start a worker; its pid."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(part)) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def refused(self) -> int:
        """How many evaluations the store did not take, since their writer led no more."""
        return self._log.read_text().split().count("refused")


def _die_with(parent: int) -> None:
    """Have the kernel end this process with its parent (Linux), however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def main() -> None:
    _die_with(int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel takes the dead away
    nursery = os.getpid()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _die_with(nursery)
            os.dup2(2, 1)  # logs go where the nursery's answers do not
            asyncio.run(work(Part(**json.loads(line))))
        print(pid, flush=True)


if __name__ == "__main__":
    main()
