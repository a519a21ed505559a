"""The OpenAPI document and the API are held to each other by schemathesis: no answer that the document does not know."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any, cast

import schemathesis
from hypothesis import HealthCheck, Phase, settings

from alerting.desk import Desk
from alerting.memory_store import MemoryAlertStore
from schemas.explanation import EntityExplanation
from schemas.report import Transition
from streams.web.api import create_api
from streams.web.entities import explained
from streams.web.readings import Readings
from streams.web.renderings import Renderings
from streams.web.stream import Client, Hub, Selection
from tests.parts.answering import ShopReadings
from tests.parts.lines import lined

EXAMPLES = 6  # of an operation and a mode


class Passing(Hub):
    def join(self, selection: Selection, last_id: str = "") -> Client:
        client = super().join(selection, last_id)
        client.end()
        return client


class Whole(ShopReadings):
    """A shop with everything that the API shows; its stream ends after the first events."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryAlertStore()
        self.desk = Desk(self.config, self.store)
        self.hub = Passing(Renderings(self.report), self.alerts_shown)
        asyncio.run(self.shop.run(600))

    async def explanation(self, entity: str) -> EntityExplanation | None:
        return await explained(self.shop.ledger, self.shop.reader.views, entity)

    async def transitions(self, limit: int) -> list[Transition]:
        return await self.store.transitions(limit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.desk, name)

    def alive(self) -> tuple[bool, str]:
        return True, "it turns"

    async def ready(self) -> tuple[bool, str]:
        return True, "it is"

    def metrics(self) -> list[bytes]:
        return [b"funnel_stage_users 3\n"]


# What is well-formed may still be what a funnel does not have, or an end before its beginning.
accepted = ["2xx", "400", "403", "404", "409", "5xx"]
config = schemathesis.Config.from_dict({"checks": {"positive_data_acceptance": {"expected-statuses": accepted}}})
with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of anyio, by what schemathesis imports
    api = schemathesis.openapi.from_asgi("/openapi.json", lined(create_api(cast("Readings", Whole()), "1.2.3")), config=config)


@api.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_api_does_as_its_document_says(case: schemathesis.Case) -> None:
    case.call_and_validate()
