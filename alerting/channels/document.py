"""What machines are told of an alert: one JSON document, the same for webhooks and Kafka.

    {"version": 1, "key": …, "incident": …, "status": "firing"|"resolved", "transition": {…}, "severity": …,
     "title": …, "text": …, "link": …, "dashboard": …, "runbook": …, "funnel": …, "stage": …, "window": …,
     "basis": …, "rate": …, "low": …, "high": …, "threshold": …, "baseline": …, "numerator": …,
     "denominator": …, "since": …, "lost_users_per_hour": …, "lost_value_per_hour": …, "value_of": …,
     "where": {"dimension": …, "value": …, "share": …, "against": …}|null, "others": [{…}]}

`key` is the same at every try and for nothing else; `incident` is the same from beginning to end.
"""

from __future__ import annotations

import json

from alerting.message import Notification

VERSION = 1
LEFT_OUT = {"began", "ended", "series", "series_seconds"}


def document(notification: Notification) -> bytes:
    """The document as UTF-8."""
    told = notification.model_dump(mode="json", exclude=LEFT_OUT)
    return json.dumps({"version": VERSION, **told}, ensure_ascii=False).encode()
