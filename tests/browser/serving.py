"""The real API over a shop, on a port of its own, in a thread; it can go away and come back there."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from contextlib import suppress
from datetime import datetime, timezone
from types import TracebackType

import uvicorn
from typing_extensions import Self

from schemas.settings import WebSettings
from streams.process import free_port
from streams.web.accepting import Server
from streams.web.api import create_api
from streams.web.connections import connections
from tests.browser.shop import Shop, ShopReadings, incident

TICK_SECONDS = 0.3  # quicker than the worker's second, for tests that wait for it
STOP_SECONDS = 5.0


class Service:
    """What a browser sees of a worker."""

    def __init__(self, shop: Shop, port: int | None = None, tick_seconds: float = TICK_SECONDS) -> None:
        self.shop = shop
        self.port = port or free_port()
        self._tick_seconds = tick_seconds
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        readings = ShopReadings(self.shop)
        config = uvicorn.Config(
            create_api(readings, "1.2.3"), port=self.port, log_config=None, lifespan="off", timeout_graceful_shutdown=1, access_log=False,
            **connections(WebSettings(), time.monotonic(), lambda why: None),
        )  # fmt: skip
        server = self._server = Server(config)

        async def serve() -> None:
            self._loop, self.hub = asyncio.get_running_loop(), readings.hub
            ticking = asyncio.create_task(self._tick(readings))
            try:
                await server.serve()
            finally:
                ticking.cancel()
                with suppress(asyncio.CancelledError):
                    await ticking

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        self._thread.start()
        deadline = time.monotonic() + STOP_SECONDS
        while not server.started:
            assert time.monotonic() < deadline, "the service did not start"
            time.sleep(0.02)

    async def _tick(self, readings: ShopReadings) -> None:
        while True:
            await readings.hub.publish()
            await asyncio.sleep(self._tick_seconds)

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self.hub.close)  # else the server waits for the streams to end
            self._server.should_exit = True
            self._thread.join(STOP_SECONDS)
            assert not self._thread.is_alive(), "the service did not stop"
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def main() -> None:
    """`python -m tests.browser.serving PORT`: the shop with its incident, to look at."""
    with Service(incident(datetime.now(timezone.utc)), int(sys.argv[1]), 1.0) as service:
        print(service.url)
        with suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)


if __name__ == "__main__":
    main()
