"""`funnelwatch dictionary`: a config in words, and what another one changes in its meaning."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from streams.writing import write

MEANS_ANOTHER_THING = 1


class LanguageOption(str, Enum):
    """What the sentences are written in."""

    en = "en"
    zh = "zh"


def dictionary(
    config: Annotated[Path, typer.Option("--config", metavar="FILE", help="The config file.")],
    diff: Annotated[
        Path | None, typer.Option("--diff", metavar="OLD", help="Say what changes from this config; exit 1: meanings do.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of Markdown.")] = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write it to a file.")] = None,
    language: Annotated[LanguageOption, typer.Option("--language", help="English, or 简体中文.")] = LanguageOption.en,
) -> int:
    """What every number and alert of a config means and how it is counted, in words."""
    from schemas.config import load
    from streams import dictionary as wording
    from streams.dictionary_diff import difference
    from streams.dictionary_markdown import difference_markdown, markdown

    new = load(config)
    if diff is None:
        found = wording.dictionary(new, language.value)
        write(found.model_dump_json(indent=2) + "\n" if json_ else markdown(found), out)
        return 0
    changed = difference(load(diff), new, language.value)
    write(changed.model_dump_json(indent=2) + "\n" if json_ else difference_markdown(changed), out)
    return 0 if changed.same else MEANS_ANOTHER_THING
