"""Certificates: checked, renewed while we run, and refused where they cannot be used."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from schemas.errors import SettingsError
from streams.process import LOCALHOST
from streams.tls import RenewedContext, TlsFiles
from tests.parts.certificates import Authority, Held, replace


class Server:
    """Speaks TLS, and says who each client is."""

    def __init__(self, held: Held, clients: Path | None) -> None:
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients)
        self.context.load_cert_chain(held.cert, held.key)
        self.context.verify_mode = ssl.CERT_REQUIRED if clients else ssl.CERT_NONE
        self.port = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        subject = (writer.get_extra_info("peercert") or {}).get("subject", ())
        writer.write(dict(pair for (pair,) in subject).get("commonName", "nobody").encode() + b"\n")
        await writer.drain()
        writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Server]:
        async with await asyncio.start_server(self.answer, LOCALHOST, 0, ssl=self.context) as served:
            self.port = served.sockets[0].getsockname()[1]
            yield self

    async def seen(self, context: ssl.SSLContext) -> str:
        """Who the server takes a client of this context for."""
        reader, writer = await asyncio.open_connection(LOCALHOST, self.port, ssl=context)
        try:
            return (await reader.readline()).decode().strip()
        finally:
            writer.close()
            await writer.wait_closed()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_a_server_that_another_authority_signed_is_refused(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")
    async with Server(authority.server(), None).running() as server:
        assert await server.seen(RenewedContext(TlsFiles(str(authority.file)))) == "nobody"
        with pytest.raises(ssl.SSLCertVerificationError):
            await server.seen(RenewedContext(TlsFiles(str(stranger.file))))
        with pytest.raises(ssl.SSLCertVerificationError):
            await server.seen(RenewedContext(TlsFiles()))


async def test_a_server_by_another_name_is_refused(authority: Authority) -> None:
    async with Server(authority.server("redis.example"), None).running() as server:
        with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
            await server.seen(RenewedContext(TlsFiles(str(authority.file))))


async def test_a_renewed_client_certificate_is_used_for_the_next_connection(authority: Authority, tmp_path: Path) -> None:
    first, second = authority.client("first"), authority.client("second")
    async with Server(authority.server(), authority.file).running() as server:
        context = RenewedContext(TlsFiles(str(authority.file), str(first.cert), str(first.key)))
        assert await server.seen(context) == "first"
        renew(first, second)
        assert await server.seen(context) == "second"


async def test_a_certificate_that_is_half_renewed_leaves_the_old_one_in_use_and_says_so_once(authority: Authority) -> None:
    first, second = authority.client("first"), authority.client("second")
    async with Server(authority.server(), authority.file).running() as server:
        context = RenewedContext(TlsFiles(str(authority.file), str(first.cert), str(first.key), whose="FUNNELWATCH_KAFKA"))
        structlog.reset_defaults()
        with capture_logs() as logs:
            replace(first.cert, second.cert.read_bytes())
            assert await server.seen(context) == "first"
            assert await server.seen(context) == "first"
            replace(first.key, second.key.read_bytes())
            assert await server.seen(context) == "second"
        assert [entry["log_level"] for entry in logs] == ["warning", "info"]
        assert "FUNNELWATCH_KAFKA__CERT_FILE" in logs[0]["error"]


async def test_a_new_authority_takes_the_place_of_the_old_one(authority: Authority, tmp_path: Path) -> None:
    """The old one is trusted no more."""
    other = Authority(tmp_path, "other")
    context = RenewedContext(TlsFiles(str(authority.file)))
    async with Server(authority.server(), None).running() as old, Server(other.server("127.0.0.1"), None).running() as new:
        assert await old.seen(context) == "nobody"
        replace(authority.file, other.file.read_bytes())
        assert await new.seen(context) == "nobody"
        with pytest.raises(ssl.SSLCertVerificationError):
            await old.seen(context)


@pytest.mark.parametrize(
    ("ca", "cert", "said"),
    [
        ("none.pem", "", "FUNNELWATCH_REDIS__CA_FILE: none.pem cannot be read"),
        ("", "none.pem", "FUNNELWATCH_REDIS__CERT_FILE: none.pem cannot be read"),
        (__file__, "", "FUNNELWATCH_REDIS__CA_FILE: cannot be used"),
        ("", __file__, "FUNNELWATCH_REDIS__CERT_FILE: cannot be used"),
    ],
)
def test_files_that_cannot_be_used_are_refused_by_the_name_of_their_setting(ca: str, cert: str, said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        RenewedContext(TlsFiles(ca, cert, whose="FUNNELWATCH_REDIS"))
    assert str(refused.value).startswith(said)


def renew(old: Held, new: Held) -> None:
    replace(old.key, new.key.read_bytes())
    replace(old.cert, new.cert.read_bytes())
