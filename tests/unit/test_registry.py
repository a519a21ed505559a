"""A schema registry is asked once for each schema, believed when it knows one not, and waited for when it does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from schemas.errors import RegistryUnavailable, SettingsError
from schemas.event import Reject
from schemas.settings import RegistrySettings
from streams import registry as clients
from streams.registry import SchemaRegistry
from tests.parts.certificates import Authority
from tests.parts.registry import Registry, avro

VIEW = {"type": "record", "name": "View", "fields": [{"name": "path", "type": "string"}]}


@pytest.fixture
def stub() -> Iterator[Registry]:
    with Registry().running() as found:
        found.add(1, VIEW)
        yield found


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "SECOND_ASKING_SECONDS", 0.0)


def settings(stub: Registry, **more: Any) -> RegistrySettings:
    return RegistrySettings(url=stub.url, timeout_seconds=2.0, **more)


async def test_a_schema_is_asked_for_once(stub: Registry) -> None:
    registry = SchemaRegistry(settings(stub), "avro")
    assert registry.missing({1})
    for _ in range(3):
        readers = await registry.readers({1})
        reader = readers[1]
        assert not isinstance(reader, Reject)
        assert reader(avro(VIEW, {"path": "/"})) == b'{"path":"/"}'
    assert not registry.missing({1})
    assert stub.asked == ["/schemas/ids/1"]
    await registry.close()


async def test_an_id_that_it_does_not_know_is_asked_for_twice_and_then_believed_for_a_while(
    stub: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "UNKNOWN_SECONDS", 0.5)
    registry = SchemaRegistry(settings(stub), "avro")
    for _ in range(3):
        assert (await registry.readers({7})) == {}
    assert stub.asked == ["/schemas/ids/7"] * 2
    stub.add(7, VIEW)
    while not registry.missing({7}):
        await asyncio.sleep(0.02)
    assert (await registry.readers({7})).keys() == {7}
    await registry.close()


@pytest.mark.parametrize("mood", ["broken", "denied", "nonsense"])
async def test_a_registry_that_does_not_answer_with_schemas_is_unavailable_until_it_does(stub: Registry, mood: str) -> None:
    registry = SchemaRegistry(settings(stub), "avro")
    stub.mood = mood
    with pytest.raises(RegistryUnavailable) as refused:
        await registry.readers({1})
    assert refused.value.retriable
    assert stub.url in str(refused.value)
    stub.mood = ""
    assert (await registry.readers({1})).keys() == {1}
    await registry.close()


async def test_a_registry_that_is_not_there_is_unavailable() -> None:
    gone = Registry()
    with gone.running():
        pass
    registry = SchemaRegistry(settings(gone), "avro")
    with pytest.raises(RegistryUnavailable, match="does not answer"):
        await registry.readers({1})
    await registry.close()


async def test_name_and_password_are_told(stub: Registry) -> None:
    stub.user = "reader:s3cret"
    registry = SchemaRegistry(settings(stub, username="reader", password=SecretStr("s3cret")), "avro")
    assert (await registry.readers({1})).keys() == {1}
    await registry.close()


async def test_a_registry_over_tls_must_show_a_certificate_of_the_named_authority(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with Registry(certificate=authority.server()).running() as stub:
        stub.add(1, VIEW)
        trusting = SchemaRegistry(settings(stub, ca_file=str(authority.file)), "avro")
        assert (await trusting.readers({1})).keys() == {1}
        await trusting.close()
        doubting = SchemaRegistry(settings(stub), "avro")
        with pytest.raises(RegistryUnavailable, match="certificate"):
            await doubting.readers({1})
        await doubting.close()


async def test_schemas_of_another_kind_are_no_schemas_of_the_source(stub: Registry) -> None:
    stub.add(2, {"type": "object"}, "JSON")
    stub.add(3, "syntax", "PROTOBUF")
    stub.add(4, {"type": "record", "name": "N", "fields": [{"name": "next", "type": ["null", "N"]}]})
    stub.schemas[5] = {"schema": "not json"}
    registry = SchemaRegistry(settings(stub), "avro")
    readers = await registry.readers({1, 2, 3, 4, 5})
    details = {key: str(reader) for key, reader in readers.items() if isinstance(reader, Reject)}
    assert details.keys() == {2, 3, 4, 5}
    assert "schema 2 is JSON, and the source's format avro" in details[2]
    assert "holds itself" in details[4]
    await registry.close()


@pytest.mark.parametrize("kind", ["AVRO", "JSON"])
async def test_references_are_followed_however_deep(stub: Registry, kind: str) -> None:
    name = (lambda text: text) if kind == "AVRO" else (lambda text: f"{text}.json")
    leaf, middle, root = SCHEMAS[kind]
    stub.subjects[("a/leaf", 2)] = {"schema": leaf}
    stub.subjects[("middle", 1)] = {"schema": middle, "references": [{"name": name("Leaf"), "subject": "a/leaf", "version": 2}]}
    stub.schemas[9] = {
        "schema": root,
        "schemaType": kind,
        "references": [
            {"name": name("Middle"), "subject": "middle", "version": 1},
            {"name": name("Leaf"), "subject": "a/leaf", "version": 2},
        ],
    }
    registry = SchemaRegistry(settings(stub), "avro" if kind == "AVRO" else "json_schema")
    reader = (await registry.readers({9}))[9]
    assert not isinstance(reader, Reject), str(reader)
    payload = b"\x02" if kind == "AVRO" else b'{"middle":{"leaf":"x"}}'
    assert reader(payload) == b'{"middle":{"leaf":"x"}}'
    if kind == "JSON":
        with pytest.raises(Reject):
            reader(b'{"middle":{"leaf":5}}')
    assert "/subjects/a%2Fleaf/versions/2" in stub.asked
    await registry.close()


SCHEMAS = {
    "AVRO": (
        '{"type":"enum","name":"Leaf","symbols":["w","x"]}',
        '{"type":"record","name":"Middle","fields":[{"name":"leaf","type":"Leaf"}]}',
        '{"type":"record","name":"Root","fields":[{"name":"middle","type":"Middle"}]}',
    ),
    "JSON": (
        '{"type":"string"}',
        '{"type":"object","properties":{"leaf":{"$ref":"Leaf.json"}}}',
        '{"type":"object","properties":{"middle":{"$ref":"Middle.json"}}}',
    ),
}


async def test_a_reference_that_leads_nowhere_or_to_itself_ends(stub: Registry) -> None:
    stub.add(8, {"type": "record", "name": "A", "fields": []}, references=({"name": "B", "subject": "b", "version": 1},))
    stub.add(9, VIEW, references=({"name": "C", "subject": "c", "version": 1},))
    stub.subjects[("c", 1)] = {
        "schema": '{"type":"record","name":"C","fields":[]}',
        "references": [{"name": "C", "subject": "c", "version": 1}],
    }
    registry = SchemaRegistry(settings(stub), "avro")
    readers = await registry.readers({8, 9})
    assert "refers to B, which the registry does not know" in str(readers[8])
    assert not isinstance(readers[9], Reject)
    await registry.close()


async def test_no_more_schemas_are_kept_than_so_many(stub: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "SCHEMAS_MAX", 3)
    for schema_id in range(1, 7):
        stub.add(schema_id, VIEW)
    registry = SchemaRegistry(settings(stub), "avro")
    assert (await registry.readers(range(1, 7))).keys() == set(range(1, 7))  # a chunk that names more is read all the same
    assert [registry.missing({schema_id}) for schema_id in range(1, 7)] == [True, True, True, False, False, False]
    await registry.readers({4})
    await registry.readers({1})
    assert not registry.missing({4})  # what was used lately stays
    await registry.close()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"url": ""}, "__URL: a source's format needs a schema registry"),
        ({"url": "registry:8081"}, "__URL: a source's format needs a schema registry"),
        ({"url": "https://me:secret@registry"}, "__URL: holds a password"),
        ({"url": "http://registry:8081", "username": "me", "password": SecretStr("secret")}, "__PASSWORD: would travel readably"),
        ({"url": "https://registry", "username": "me"}, "__USERNAME: user and password go together"),
        ({"url": "https://registry", "ca_file": "/nowhere.pem"}, "__CA_FILE: /nowhere.pem cannot be read"),
        ({"url": "http://registry:8081", "ca_file": "/nowhere.pem"}, "__CA_FILE: is set, but"),
        (
            {"url": "https://registry", "username": "me", "password": SecretStr("env:NOT_THERE")},
            "__PASSWORD: the environment has no NOT_THERE",
        ),
    ],
)
def test_settings_that_cannot_be_used_or_would_leak_are_refused(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SettingsError) as refused:
        SchemaRegistry(RegistrySettings(**given), "avro")
    assert complaint in str(refused.value)
    assert "secret" not in str(refused.value)
