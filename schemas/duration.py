"""Durations as the config writes them (`10s`, `5m`, `1h`, `7d`), and buckets of event time."""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

MICROS: Final = 1_000_000
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
PATTERN = re.compile(r"([0-9]{1,9})([smhd])")


class Duration(int):
    """A whole number of seconds that remembers how it was written: `str(Duration('5m')) == '5m'`.

    Raises ValueError for anything but digits and one of the units s, m, h, d.
    """

    text: str

    def __new__(cls, text: str) -> Duration:
        match = PATTERN.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no duration; write a whole number and s, m, h or d, as in 30s, 5m, 1h, 7d")
        self = super().__new__(cls, int(match[1]) * UNITS[match[2]])
        self.text = text
        return self

    @property
    def micros(self) -> int:
        return int(self) * MICROS

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Duration({self.text!r})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validate, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{PATTERN.pattern}$", "examples": ["30s", "5m", "1h", "7d"]}

    @classmethod
    def _validate(cls, value: Any) -> Duration:
        if isinstance(value, Duration):
            return value
        try:
            return cls(str(value))
        except ValueError as error:
            raise PydanticCustomError("duration", "{message}", {"message": str(error)}) from None


def bucket_seconds(window: int) -> int:
    """The width of the buckets a trailing window of `window` seconds is made of (semantics: bucket)."""
    if window <= 3600:
        return 10
    return 60 if window <= 86_400 else 3600
