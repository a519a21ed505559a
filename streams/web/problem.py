"""An error as the API tells it: RFC 9457."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

PROBLEM_TYPE = "application/problem+json"


class Problem(BaseModel):
    """An error as RFC 9457 has it."""

    type: str = Field(default="about:blank", description="about:blank: the status says what kind of error this is")
    title: str = Field(description="the status in words")
    status: int
    detail: str = Field(description="what happened, and what there is instead")


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer to a request that gets nothing else."""
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail)
    return JSONResponse(body.model_dump(), status, headers, media_type=PROBLEM_TYPE)
