"""Presets of a source: where well-known kinds of records keep each field.

| preset | event | timestamp | user_id | anonymous_id | event_id | properties |
|---|---|---|---|---|---|---|
| cloudevents | type | time | subject | anonymousid | id | data |
| segment, rudderstack | event, else type | timestamp | userId | anonymousId | messageId | properties |

CloudEvents 1.0 are read in structured mode as they are, and in binary mode (attributes in the Kafka
headers ce_type, ce_time, ...) as if they were structured: see `streams.records`. Of a track call of
Segment or RudderStack the event is its name; of the other calls it is their type: `page`, `screen`,
`identify`, `group`, `alias`. What such a call says beside its properties is found among them, unless
they say otherwise: `properties.name` and `.category` (of a page or screen), `properties.context.…`
(campaign, device, page), `properties.traits.…` (of identify and group).

A source's `fields` go over those of its preset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

PresetName = Literal["cloudevents", "segment", "rudderstack"]
Format = Literal["json", "avro", "json_schema"]


@dataclass(frozen=True)
class Preset:
    """Where each field is. What is absent (or null, or empty) at a path of `otherwise`, or below it, is looked for there."""

    fields: Mapping[str, str]
    otherwise: Mapping[str, str] = field(default_factory=dict)
    objects: tuple[str, ...] = ()  # what must be an object, where it is there


_CALL = Preset(
    fields={"user_id": "userId", "anonymous_id": "anonymousId", "event_id": "messageId"},
    otherwise={
        "event": "type",
        "properties.name": "name",
        "properties.category": "category",
        "properties.context": "context",
        "properties.traits": "traits",
    },
    objects=("context", "traits"),
)
PRESETS: Mapping[str, Preset] = {
    "cloudevents": Preset(
        {"event": "type", "timestamp": "time", "user_id": "subject", "anonymous_id": "anonymousid", "event_id": "id", "properties": "data"}
    ),
    "segment": _CALL,
    "rudderstack": _CALL,
}
NONE = Preset({})


def preset_of(name: PresetName | None) -> Preset:
    """The preset of that name; without a name, one that says nothing."""
    return NONE if name is None else PRESETS[name]


def elsewhere(otherwise: Mapping[str, str], path: str) -> str | None:
    """Where to look for what is absent at a path; None: nowhere."""
    for at, instead in otherwise.items():
        if path == at or path.startswith(f"{at}."):
            return instead + path[len(at) :]
    return None
