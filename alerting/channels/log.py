"""A line in the service's own log."""

from __future__ import annotations

import structlog

from alerting.message import Notification


class LogSender:
    """Warns when an alert fires, informs when it is resolved."""

    def __init__(self, name: str) -> None:
        self.resend_seconds: int | None = None
        self._log = structlog.get_logger().bind(channel=name)

    async def send(self, notification: Notification) -> None:
        write = self._log.warning if notification.status == "firing" else self._log.info
        write(notification.title, status=notification.status, key=notification.key, severity=notification.severity, text=notification.text)

    async def close(self) -> None:
        pass
