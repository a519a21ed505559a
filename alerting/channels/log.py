"""A line in the service's own log."""

from __future__ import annotations

import structlog

from alerting.channels.sender import Gathers
from alerting.message import Notification, together


class LogSender:
    """Warns when an alert fires, informs when it is resolved."""

    def __init__(self, name: str) -> None:
        self.resend_seconds: int | None = None
        self.heartbeat_seconds: int | None = None
        self.gathers: Gathers = "words"
        self._log = structlog.get_logger().bind(channel=name)

    async def send(self, *notifications: Notification) -> None:
        if len(notifications) > 1:
            title, text = together(notifications)
            write = self._log.warning if any(n.status == "firing" for n in notifications) else self._log.info
            write(title, keys=[n.key for n in notifications], text=text)
            return
        for told in notifications:
            write = self._log.warning if told.status == "firing" else self._log.info
            write(told.title, status=told.status, key=told.key, severity=told.severity, text=told.text)

    async def close(self) -> None:
        pass
