"""Apache Kafka with every lock on: TLS with passwords, TLS with client certificates, and permissions.

Its plain listener is the tests' own back door: whoever comes by it may do anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest

from streams.process import LOCALHOST, free_port
from tests.parts.certificates import Authority
from tests.parts.kafka import Kafka

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LOGIN = "org.apache.kafka.common.security"
RESOURCES = {"topic": 2, "group": 3, "cluster": 4}
OPERATIONS = {"READ": 3, "WRITE": 4, "CREATE": 5, "DESCRIBE": 8, "DESCRIBE_CONFIGS": 10}
LITERAL, ALLOW = 3, 3


@dataclass(frozen=True)
class Permission:
    """A principal may do something with a resource."""

    user: str
    operation: str
    resource: str
    name: str


class SecureKafka(Kafka):
    """`users` are known by SCRAM and by PLAIN, with these passwords; certificates by their common name."""

    name = "secure-kafka"

    def __init__(self, jars: Path, authority: Authority, users: dict[str, str]) -> None:
        super().__init__(jars)
        self._authority, self._users = authority, users
        self._sasl_port, self._mutual_port = free_port(), free_port()

    @property
    def with_password(self) -> str:
        return f"{LOCALHOST}:{self._sasl_port}"

    @property
    def with_certificate(self) -> str:
        return f"{LOCALHOST}:{self._mutual_port}"

    def format_arguments(self) -> list[str]:
        kinds = ("SCRAM-SHA-256", "SCRAM-SHA-512")
        return [
            part
            for user, password in self._users.items()
            for kind in kinds
            for part in ("--add-scram", f"{kind}=[name={user},password={password}]")
        ]

    def _server_properties(self) -> dict[str, str]:
        usual = super()._server_properties()
        open_to_us = f"SASL_SSL://{self.with_password},SSL://{self.with_certificate}"
        known = " ".join(f'user_{user}="{password}"' for user, password in self._users.items())
        stores = {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self._authority.server().both),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self._authority.file),
        }
        listener = "listener.name.sasl_ssl"
        return {
            **usual,
            **stores,
            "listeners": f"{usual['listeners']},{open_to_us}",
            "advertised.listeners": f"{usual['advertised.listeners']},{open_to_us}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            f"{listener}.plain.sasl.jaas.config": f"{LOGIN}.plain.PlainLoginModule required {known};",
            f"{listener}.scram-sha-256.sasl.jaas.config": f"{LOGIN}.scram.ScramLoginModule required;",
            f"{listener}.scram-sha-512.sasl.jaas.config": f"{LOGIN}.scram.ScramLoginModule required;",
            "listener.name.ssl.ssl.client.auth": "required",
            "listener.name.ssl.ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }

    async def permit(self, permissions: Iterable[Permission]) -> None:
        """Add permissions; what nobody was given is refused."""
        async with self._admin() as admin:
            for each in permissions:
                request = CreateAclsRequest(
                    RESOURCES[each.resource], each.name, LITERAL, f"User:{each.user}", "*", OPERATIONS[each.operation], ALLOW
                )
                answer = await admin._send_request(request)
                assert not any(code for code, _ in answer.creation_responses), answer

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()
