"""A secret of the config: written there, or only named there: `env:NAME`, `file:/PATH`.

Beside `settings` the only reader of the environment: which variable it is, the config says.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from schemas.errors import SettingsError

ENV, FILE = "env:", "file:"


def _named(value: SecretStr) -> SecretStr:
    if value.get_secret_value() in (ENV, FILE):
        raise ValueError("names nothing; write env:NAME or file:/PATH, or the secret itself")
    return value


Secret = Annotated[SecretStr, Field(min_length=1, max_length=2000), AfterValidator(_named)]


def reveal(secret: SecretStr, whose: str) -> str:
    """The secret itself. Raises SettingsError when the variable or the file is not there or empty."""
    written = secret.get_secret_value()
    if written.startswith(ENV):
        found = os.environ.get(written[len(ENV) :], "")
        return _present(found, f"{whose}: the environment has no {written[len(ENV) :]}; set it, or write another name after env:")
    if written.startswith(FILE):
        path = written[len(FILE) :]
        try:
            found = Path(path).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{whose}: {path} cannot be read ({error}); name a readable file after file:") from None
        return _present(found, f"{whose}: {path} is empty; write the secret into it")
    return written


def _present(found: str, otherwise: str) -> str:
    if not found:
        raise SettingsError(otherwise)
    return found
