"""The dictionary of the config: what every number and alert means, made once a language."""

from __future__ import annotations

from functools import cache
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from schemas.config import Config
from schemas.dictionary import Dictionary, Language
from streams.dictionary import dictionary
from streams.web.conditional import conditional


def meanings(config: Config) -> APIRouter:
    router = APIRouter(prefix="/api/v1/dictionary", tags=["dictionary"])

    @cache
    def made(language: Language) -> bytes:
        return dictionary(config, language).model_dump_json().encode()

    @router.get("", summary="The dictionary", response_model=Dictionary)
    async def words(request: Request, language: Annotated[Language, Query(description="en or zh (简体中文)")] = "en") -> Response:
        """Every funnel, stage, rate and alert of the config in words: what it means, how it is counted, target and owner."""
        return conditional(request, made(language))

    return router


EXAMPLE = dictionary(
    Config.model_validate(
        {
            "sources": [{"name": "web", "topic": "clicks"}],
            "funnels": [
                {
                    "name": "purchase",
                    "source": "web",
                    "conversion_window": "30m",
                    "windows": ["5m"],
                    "stages": [{"name": "view", "event": "product_view"}, {"name": "pay", "event": "purchase", "target": 0.3}],
                }
            ],
        }
    )
)
