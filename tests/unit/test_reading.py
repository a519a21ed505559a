"""Records that need a schema wait while the registry is away: nothing is lost, nothing counted twice, and what needs none is written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from schemas.config import Source
from schemas.errors import RegistryUnavailable, UsageError
from schemas.settings import RegistrySettings
from streams import payloads
from streams.reading import Reading, reading_of
from streams.records import Readers
from tests.parts.registry import framed
from tests.unit import test_agents
from tests.unit.test_agents import PEOPLE, SETUP, MakeDesk, Record, expected

make_desk = test_agents.make_desk


class Away:
    """A registry that knows schema 1 from the beginning, and 2 once it has been asked so often."""

    def __init__(self, times: int) -> None:
        self.times, self.known, self.position = times, {1}, lambda: 0
        self.written: list[int] = []

    def missing(self, ids: Iterable[int]) -> bool:
        return not set(ids) <= self.known

    async def readers(self, ids: Iterable[int]) -> Readers:
        if self.missing(ids):
            self.written.append(self.position())
            if self.times:
                self.times -= 1
                raise RegistryUnavailable("http://registry", "does not answer")
            self.known.add(2)
        return dict.fromkeys(ids, bytes)


def source(form: str = "json_schema") -> Source:
    return SETUP.sources[0].model_copy(update={"format": form})


@pytest.mark.parametrize("size", [0, 7, 100])
async def test_a_chunk_waits_for_its_schema_and_all_before_it_is_written_meanwhile(make_desk: MakeDesk, size: int) -> None:
    log = [Record(n, framed(1 if n < 300 else 2, value)) for n, value in enumerate(PEOPLE)]
    away = Away(times=4)
    desk = await make_desk(SETUP, log)
    desk.agent._reading = Reading(source(), away)  # type: ignore[arg-type]  # what a reading asks of a registry
    away.position = lambda: desk.partitions[0].stored if desk.partitions else -1
    await desk.count(size=size)
    assert await desk.books() == await expected(make_desk)
    assert {kind: count for kind, count in desk.conflicts().items() if count} == {"unavailable": 4}
    assert away.written[-1] >= 300 - 100  # all but the chunk that needs the schema


async def test_records_that_cannot_be_read_are_set_aside_as_they_are(make_desk: MakeDesk) -> None:
    bad = [b"no frame", framed(1, b"no json"), framed(1, b'{"event": "a"}')]
    log = [*(framed(1, value) for value in PEOPLE[:20]), *bad, *(framed(1, value) for value in PEOPLE[20:])]
    desk = await make_desk(SETUP, [Record(n, value) for n, value in enumerate(log)])
    desk.agent._reading = Reading(source(), Away(0))  # type: ignore[arg-type]  # as above
    await desk.count()
    books, fates = await desk.books()
    assert books == (await expected(make_desk))[0]
    assert fates == {"applied": len(PEOPLE), "rejected:no_schema_id": 1, "rejected:bad_json": 1, "rejected:no_timestamp": 1}
    assert [letter[2] for letter in desk.letters.sent] == bad


@pytest.mark.parametrize(("form", "package"), [("avro", "fastavro"), ("json_schema", "jsonschema_rs")])
def test_a_missing_package_is_named_before_anything_starts(form: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(payloads, "import_module", nothing)
    with pytest.raises(UsageError, match=package):
        reading_of(source(form), RegistrySettings(url="http://registry:8081"))


def test_plain_json_needs_neither_registry_nor_packages() -> None:
    assert not reading_of(source("json"), RegistrySettings()).must_ask([Record(0, framed(1, b""))])
