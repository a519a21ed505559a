"""The `limit`: a bare aiokafka `getmany` loop that counts records and looks at none.

Its fetch settings are those of a funnelwatch worker, everything else is as aiokafka has it.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop
from aiokafka import AIOKafkaConsumer

from tests.bench.progress import Progress

FETCH_BYTES = 2_097_152
FETCH_WAIT_MS = 100


async def read(address: str, topic: str, group: str, progress: Progress) -> None:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=address,
        group_id=group,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_wait_ms=FETCH_WAIT_MS,
    )
    await consumer.start()
    done = 0
    while True:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            done += len(records)
        progress.set(done)


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    address, topic, group, path = sys.argv[1:]
    asyncio.run(read(address, topic, group, Progress(Path(path))))
