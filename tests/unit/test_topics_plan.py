"""Which topics a config needs, and what is done about them."""

from __future__ import annotations

from schemas.config import parse
from streams.topics_plan import Need, Step, needs_of, steps

CONFIG = parse("""
sources:
  - {name: web, topic: clicks}
  - {name: app, topic: taps, entity_key: false, dead_letter: bad}
funnels:
  - {name: f, source: web, conversion_window: 5m, windows: [5m], stages: [{name: a, event: a}, {name: b, event: b}]}
  - {name: g, source: app, conversion_window: 5m, windows: [5m], stages: [{name: a, event: a}, {name: b, event: b}]}
channels:
  ours: {type: kafka, topic: told}
  theirs: {type: kafka, topic: elsewhere, brokers: "other:9092"}
  log: {type: log}
""")
NEEDS = needs_of(CONFIG)


def found(there: dict[str, int], partitions: int | None = None) -> dict[str, tuple[str, int]]:
    return {step.topic: (step.action, step.partitions) for step in steps(NEEDS, there, partitions)}


def test_every_topic_is_named_once_the_sources_first() -> None:
    assert [
        Need("clicks", "source"),
        Need("taps", "source"),
        Need("clicks.dead-letter", "dead-letter"),
        Need("taps.by-entity", "re-keyed", like="taps"),
        Need("bad", "dead-letter"),
        Need("told", "alerts"),
    ] == NEEDS


def test_a_re_keyed_topic_gets_as_many_partitions_as_its_source_has() -> None:
    assert found({"clicks": 4, "taps": 7}) == {
        "clicks": ("exists", 4),
        "taps": ("exists", 7),
        "clicks.dead-letter": ("create", 1),
        "taps.by-entity": ("create", 7),
        "bad": ("create", 1),
        "told": ("create", 1),
    }


def test_a_source_that_is_missing_gets_what_is_asked_for_and_its_copy_likewise() -> None:
    made = found({}, 12)
    assert (made["clicks"], made["taps"], made["taps.by-entity"], made["bad"]) == (
        ("create", 12), ("create", 12), ("create", 12), ("create", 1),
    )  # fmt: skip
    assert found({})["clicks"] == ("create", 6)


def test_a_partition_count_that_is_there_is_never_changed_and_it_is_said_why() -> None:
    by_name: dict[str, Step] = {step.topic: step for step in steps(NEEDS, {"clicks": 4, "taps": 4, "taps.by-entity": 3}, 8)}
    assert (by_name["clicks"].action, by_name["clicks"].partitions) == ("exists", 4)
    assert by_name["clicks"].note.startswith("has 4 partitions, not 8: a partition count is never changed: ")
    assert (by_name["taps.by-entity"].action, by_name["taps.by-entity"].partitions) == ("differs", 3)
    assert by_name["taps.by-entity"].note.startswith("must have 4 partitions, as taps has; ")
