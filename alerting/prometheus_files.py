"""[pure] The files of `funnelwatch rules`: YAML with what differs written beside it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from alerting.prometheus_pipeline import sources_group
from alerting.prometheus_rules import EVERY_RULE, Translation, translate
from alerting.promtool import document, tests_of
from schemas.config import Config

RULES, TESTS, LONG_TESTS = "rules.yaml", "rules_test.yaml", "rules_long_test.yaml"
COLUMNS = 140

HEADER = (
    "Written by `funnelwatch rules`; do not edit, write it anew.",
    "",
    "For Prometheus 2.42 or later, which scrapes every worker at least every 30 s. `promtool check rules` and `promtool test rules`",
    "(the files beside it) say that it is right. Alerts carry the labels that the Alertmanager channel gives them, so both group",
    "alike: an alert of both with the same labels is one to Alertmanager, so notify from one of the two. A rule with an",
    "empty `notify` is judged by the worker and told by nobody but Prometheus.",
    "",
    "What Prometheus cannot express of any rule:",
)


def files(config: Config) -> dict[str, str]:
    """The text of each file by its name."""
    translations = translate(config)
    tests = list(tests_of(config, translations))
    written = {RULES: _rules(config, translations)}
    for name, long in ((TESTS, False), (LONG_TESTS, True)):
        chosen = [test for test in tests if test.long == long]
        if chosen:
            written[name] = f"# {HEADER[0]}\n# promtool test rules {name}\n{_dumped(document(chosen, RULES))}"
    return written


def limits(config: Config) -> list[str]:
    """What Prometheus cannot express: of any rule, then rule by rule."""
    lines = [f"every rule: {limit}" for limit in EVERY_RULE]
    for translation in translate(config):
        lines += [f"{translation.rule.name}: {what}" for what in _told(translation)]
    return lines


def _told(translation: Translation) -> Iterator[str]:
    if translation.follows:
        yield "follows funnelwatch's own verdict (funnel_alert_state), so a worker must have the rule too; Prometheus cannot express:"
    yield from translation.obstacles
    yield from translation.differences


def _rules(config: Config, translations: Sequence[Translation]) -> str:
    parts = [_comment([*HEADER, *(f"- {limit}" for limit in EVERY_RULE)]), "groups:\n", _group(sources_group(config), ())]
    parts += [_group(dict(translation.group), list(_told(translation))) for translation in translations]
    return "".join(parts)


def _group(group: dict[str, Any], told: Sequence[str]) -> str:
    shown = f"\n{_comment([group['name'], *(f'- {what}' for what in told)], '  ')}" if told else "\n"
    return f"{shown}{textwrap.indent(_dumped([group]), '  ', lambda line: bool(line.strip()))}"


def _comment(lines: Sequence[str], indent: str = "") -> str:
    """No text can break out of it."""
    wrapped: list[str] = []
    for line in lines:
        rest = "  " if line.startswith("- ") else ""
        wrapped += textwrap.wrap(" ".join(line.split()), COLUMNS - len(indent) - 2, subsequent_indent=rest, break_long_words=False) or [""]
    return "".join(f"{indent}# {line}".rstrip() + "\n" for line in wrapped)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, *_: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _dumped(data: Any) -> str:
    dumped: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return dumped
