"""[pure] A dictionary, or a difference, as Markdown. Whatever the config says stays text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from schemas.dictionary import AlertEntry, Dictionary, Difference, Entry, FunnelEntry, Kind, StepEntry
from streams.dictionary_words import Words, plain

NAMED = re.compile(r"“([^“”`]+)”")
SPECIAL = re.compile(r"([\\`*_\[\]<>&|~#])")
LEADING = re.compile(r"^(\d*)([-+=.)])")  # what begins a list, a rule or a heading
KINDS: tuple[Kind, ...] = ("meaning", "anew", "words", "running")


def markdown(found: Dictionary) -> str:
    """The whole dictionary, funnel by funnel, the glossary at the end."""
    words = Words(found.language)
    lines = [f"# {words('m_title')}", ""]
    for funnel in found.funnels:
        lines += _funnel(funnel, words)
    lines += _section("##", words("m_sources"), found.sources, words)
    lines += _section("##", words("m_pipeline"), [found.pipeline], words)
    lines += [f"## {words('m_terms')}", ""]
    lines += [f"- **{escaped(term.term)}**: {escaped(term.meaning)}" for term in found.terms]
    return "\n".join(lines) + "\n"


def difference_markdown(found: Difference) -> str:
    """What changes, by what it changes; the graver first."""
    words = Words(found.language)
    lines = [f"# {words('x_title')}", ""]
    if found.same:
        lines += [words("x_nothing" if found.changes else "x_same"), ""]
    for kind in KINDS:
        of_kind = [change for change in found.changes if change.kind == kind]
        if of_kind:
            lines += [f"## {words(f'x_kind_{kind}')}", ""]
            lines += [f"- **{escaped(change.subject)}**{words('colon')}{escaped(change.text)}" for change in of_kind]
            lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def escaped(text: str) -> str:
    """Text as Markdown shows it; names of the config as code."""
    parts = NAMED.split(plain(text))
    shown = "".join(f"`{part}`" if place % 2 else SPECIAL.sub(r"\\\1", part) for place, part in enumerate(parts))
    return LEADING.sub(r"\1\\\2", shown)


def _funnel(funnel: FunnelEntry, words: Words) -> Iterator[str]:
    yield from (f"## {escaped(words('m_funnel', title=funnel.title))}", "")
    if funnel.description:
        yield from (f"> {escaped(funnel.description)}", "")
    yield from (escaped(funnel.meaning), "")
    yield from (f"- {fact}" for fact in _facts(funnel, words))
    yield from ("", f"### {words('m_counted')}", "")
    yield from (f"- {escaped(sentence)}" for sentence in funnel.counted)
    yield ""
    yield from _section("###", words("m_stages"), funnel.stages, words)
    yield from _section("###", words("m_steps"), funnel.steps, words)
    yield from _section("###", words("m_dimensions"), funnel.dimensions, words)
    yield from _section("###", words("m_alerts"), funnel.alerts, words)


def _section(level: str, title: str, entries: Sequence[Entry], words: Words) -> Iterator[str]:
    if entries:
        yield from (f"{level} {title}", "")
    for entry in entries:
        yield from (f"{level}# {escaped(entry.title)}", "", escaped(entry.meaning), "")
        yield from (f"- {fact}" for fact in _facts(entry, words))
        yield from (f"- {escaped(sentence)}" for sentence in entry.counted)
        yield ""


def _facts(entry: Entry, words: Words) -> Iterator[str]:
    if entry.title != entry.name and not isinstance(entry, StepEntry):
        yield escaped(words("m_name", name=words.name(entry.name)))
    if isinstance(entry, FunnelEntry) and entry.owner:
        yield escaped(words("m_owner", owner=entry.owner))
    if entry.target is not None and not isinstance(entry, AlertEntry):
        yield escaped(words("m_target", rate=words.share(entry.target)))
    if entry.benchmark is not None:
        yield escaped(words("m_benchmark", rate=words.share(entry.benchmark)))
    if isinstance(entry, StepEntry) and entry.alerts:
        yield escaped(words("m_judged", names=words.names(entry.alerts)))
