"""The schemas of a registry that speaks Confluent's HTTP API: by id, kept, at most so many.

A schema never changes, so what was read once is kept. That a registry does not know an id is believed
after a second asking (one of several may be behind), and for a minute. A registry that does not
answer, or says that it cannot, is `RegistryUnavailable`: whoever asked waits and asks again.

The whole client is two GETs over httpx, which is here anyway. The ready-made ones were looked at:
confluent-kafka brings a second Kafka client and an OAuth stack into the process;
python-schema-registry-client keeps schemas without bound, knows no references between them, and uses
a CA file only together with a client certificate.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import httpx
import orjson

from schemas.errors import RegistryUnavailable, SettingsError
from schemas.event import Reject
from schemas.presets import Format
from schemas.secret import reveal
from schemas.settings import RegistrySettings
from streams.loopback import is_loopback
from streams.payloads import avro_reader, json_reader, library_of
from streams.records import Readers, ReadPayload
from streams.tls import RenewedContext, TlsFiles

SCHEMAS_MAX = 1_000
TOGETHER_MAX = 8  # requests
UNKNOWN_SECONDS = 60.0  # for which an id that is unknown stays so
SECOND_ASKING_SECONDS = 1.0
REFERENCES_MAX = 100  # of one schema, those of its references too
ANSWER_BYTES_MAX = 5_000_000
ACCEPT = "application/vnd.schemaregistry.v1+json, application/json"
WHOSE = "FUNNELWATCH_REGISTRY"
KINDS: dict[str, Callable[[Any, dict[str, Any]], ReadPayload]] = {"AVRO": avro_reader, "JSON": json_reader}
OF_FORMAT: dict[Format, str] = {"avro": "AVRO", "json_schema": "JSON"}


class SchemaRegistry:
    """One registry, for sources of one format."""

    def __init__(self, settings: RegistrySettings, format_: Literal["avro", "json_schema"]) -> None:
        """Raises UsageError: the settings cannot be used, or a package is missing."""
        library_of(format_)
        self._kind = OF_FORMAT[format_]
        self._format = format_
        self._url = _checked_url(settings)
        self._client = httpx.AsyncClient(**_options(settings))
        self._kept: OrderedDict[int, ReadPayload | Reject] = OrderedDict()
        self._unknown: OrderedDict[int, float] = OrderedDict()  # and until when
        self._slots = asyncio.Semaphore(TOGETHER_MAX)

    def missing(self, ids: Iterable[int]) -> bool:
        """Whether any of the schemas would have to be asked for."""
        now = time.monotonic()
        return any(found not in self._kept and self._unknown.get(found, 0.0) < now for found in ids)

    async def readers(self, ids: Iterable[int]) -> Readers:
        """How payloads of each schema are read, or why they are not. Raises RegistryUnavailable."""
        wanted = set(ids)
        found = {schema_id: kept for schema_id in wanted if (kept := self._kept.get(schema_id)) is not None}
        for schema_id in found:
            self._kept.move_to_end(schema_id)
        now = time.monotonic()
        asked = sorted(schema_id for schema_id in wanted - found.keys() if self._unknown.get(schema_id, 0.0) < now)
        answers = await self._ask(asked)
        again = [schema_id for schema_id in asked if answers[schema_id] is None]
        if again:
            await asyncio.sleep(SECOND_ASKING_SECONDS)
            answers |= await self._ask(again)
        for schema_id, reader in answers.items():
            self._keep(schema_id, reader)
            if reader is not None:
                found[schema_id] = reader
        return found

    async def close(self) -> None:
        await self._client.aclose()

    def _keep(self, schema_id: int, reader: ReadPayload | Reject | None) -> None:
        if reader is not None:
            self._kept[schema_id] = reader
        else:
            self._unknown[schema_id] = time.monotonic() + UNKNOWN_SECONDS
        for kept in (self._kept, self._unknown):
            while len(kept) > SCHEMAS_MAX:
                kept.popitem(last=False)

    async def _ask(self, ids: list[int]) -> dict[int, ReadPayload | Reject | None]:
        return dict(zip(ids, await asyncio.gather(*map(self._reader, ids))))

    async def _reader(self, schema_id: int) -> ReadPayload | Reject | None:
        """None: the registry does not know it."""
        async with self._slots:
            answer = await self._get(f"/schemas/ids/{schema_id}")
            if answer is None:
                return None
            kind = answer.get("schemaType", "AVRO")
            if kind != self._kind:
                return Reject("unknown_schema", f"schema {schema_id} is {kind}, and the source's format {self._format}")
            try:
                parsed = orjson.loads(answer["schema"])
                return KINDS[kind](parsed, await self._references(answer.get("references") or []))
            except (KeyError, ValueError) as error:
                return Reject("unknown_schema", f"schema {schema_id}: {error}")

    async def _references(self, references: list[dict[str, Any]], found: dict[str, Any] | None = None) -> dict[str, Any]:
        """The schemas that a schema refers to, by name, each after those that it refers to itself. Raises ValueError, KeyError."""
        found = {} if found is None else found
        for reference in references:
            if reference["name"] in found:
                continue
            if len(found) >= REFERENCES_MAX:
                raise ValueError(f"it refers to more than {REFERENCES_MAX} others")
            path = f"/subjects/{quote(reference['subject'], safe='')}/versions/{int(reference['version'])}"
            answer = await self._get(path)
            if answer is None:
                raise ValueError(f"it refers to {reference['name']}, which the registry does not know")
            found.setdefault(reference["name"], None)  # what refers back to it finds it taken care of
            await self._references(answer.get("references") or [], found)
            del found[reference["name"]]
            found[reference["name"]] = orjson.loads(answer["schema"])
        return found

    async def _get(self, path: str) -> dict[str, Any] | None:
        """None: not found."""
        try:
            response = await self._client.get(self._url + path)
        except httpx.HTTPError as error:
            raise RegistryUnavailable(self._url, f"does not answer ({str(error) or type(error).__name__})") from None
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise RegistryUnavailable(self._url, f"answers {response.status_code}; see {WHOSE}__USERNAME and __PASSWORD")
        if response.status_code != httpx.codes.OK:
            raise RegistryUnavailable(self._url, f"answers {response.status_code}")
        try:
            answer = orjson.loads(response.content)
        except orjson.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict) or "schema" not in answer or len(response.content) > ANSWER_BYTES_MAX:
            raise RegistryUnavailable(self._url, "answers something else than a schema")
        return answer


def _options(settings: RegistrySettings) -> dict[str, Any]:
    options: dict[str, Any] = {"timeout": settings.timeout_seconds, "headers": {"Accept": ACCEPT}}
    if settings.url.startswith("https:"):
        options["verify"] = RenewedContext(TlsFiles(ca=settings.ca_file, whose=WHOSE))
    if settings.username:
        options["auth"] = httpx.BasicAuth(settings.username, reveal(settings.password, f"{WHOSE}__PASSWORD"))
    return options


def _checked_url(settings: RegistrySettings) -> str:
    url = settings.url.rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"{WHOSE}__URL: a source's format needs a schema registry; name it, like https://registry:8081")
    if parts.username or parts.password:
        raise SettingsError(f"{WHOSE}__URL: holds a password, which logs would show; use {WHOSE}__USERNAME and __PASSWORD instead")
    if bool(settings.username) != bool(settings.password.get_secret_value()):
        raise SettingsError(f"{WHOSE}__USERNAME: user and password go together; set both, or neither")
    if parts.scheme == "http" and settings.username and not is_loopback(parts.hostname):
        raise SettingsError(f"{WHOSE}__PASSWORD: would travel readably; name an https:// address in {WHOSE}__URL")
    if parts.scheme == "http" and settings.ca_file:
        raise SettingsError(f"{WHOSE}__CA_FILE: is set, but {WHOSE}__URL is not encrypted; name an https:// address, or leave out the file")
    return url
