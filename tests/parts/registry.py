"""A stub of a schema registry's HTTP API: what readers ask of one, and its ways to fail."""

from __future__ import annotations

import base64
import json
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from threading import Thread
from typing import Any
from urllib.parse import unquote

import fastavro

from tests.parts.certificates import Held

STATUS = {"unknown": 404, "broken": 500, "denied": 401, "nonsense": 200}


@dataclass
class Registry:
    """Schemas by id, and by subject and version for references. `mood`: how it answers; "" as it should."""

    schemas: dict[int, dict[str, Any]] = field(default_factory=dict)
    subjects: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    user: str = ""  # NAME:PASSWORD, where it wants one
    mood: str = ""
    asked: list[str] = field(default_factory=list)
    port: int = 0
    certificate: Held | None = None  # of the server; without one it speaks in plain text

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}"

    def add(self, schema_id: int, schema: Any, kind: str = "AVRO", references: tuple[dict[str, Any], ...] = ()) -> None:
        found: dict[str, Any] = {"schema": json.dumps(schema)}
        if kind != "AVRO":  # which goes without saying
            found["schemaType"] = kind
        if references:
            found["references"] = list(references)
        self.schemas[schema_id] = found

    @contextmanager
    def running(self) -> Iterator[Registry]:
        """Answer on the port that it had the last time, or on a free one."""
        server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        self.port = server.server_address[1]
        if self.certificate is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(self.certificate.cert, self.certificate.key)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def answer(self, path: str, authorization: str | None) -> tuple[int, bytes]:
        self.asked.append(path)
        wanted = f"Basic {base64.b64encode(self.user.encode()).decode()}"
        if self.user and authorization != wanted:
            return 401, b'{"error_code": 401, "message": "Unauthorized"}'
        if self.mood:
            return STATUS[self.mood], b"<html>" if self.mood == "nonsense" else b'{"error_code": 1, "message": "no"}'
        parts = [unquote(part) for part in path.strip("/").split("/")]
        found = self.schemas.get(int(parts[2])) if parts[0] == "schemas" else self.subjects.get((parts[1], int(parts[3])))
        if found is None:
            return 404, b'{"error_code": 40403, "message": "Schema not found"}'
        return 200, json.dumps(found).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = registry.answer(self.path, self.headers["Authorization"])
                self.send_response(status)
                self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler


def framed(schema_id: int, payload: bytes) -> bytes:
    """The wire format."""
    return struct.pack(">bI", 0, schema_id) + payload


def avro(schema: Any, record: Any) -> bytes:
    """The record, written by the schema."""
    out = BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), record)
    return out.getvalue()
