"""[pure] The files of `funnelwatch rules`: YAML with what differs written beside it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from alerting.prometheus_health import JOB, RUNBOOKS, health_groups
from alerting.prometheus_pipeline import sources_group
from alerting.prometheus_rules import EVERY_RULE, Translation, translate
from alerting.promtool import Test, document, pipeline_tests, tests_of
from alerting.promtool_health import SAMPLE_SECONDS, health_tests
from schemas.config import Config

RULES, TESTS, LONG_TESTS = "rules.yaml", "rules_test.yaml", "rules_long_test.yaml"
PIPELINE, PIPELINE_TESTS = "pipeline.yaml", "pipeline_test.yaml"
COLUMNS = 140

WRITTEN = "Written by `funnelwatch rules`; do not edit, write it anew."
HEADER = (
    "The funnels' rules. For Prometheus 2.42 or later, which scrapes every worker at least every 30 s. `promtool check rules` and `promtool test rules`",
    "(the files beside it) say that it is right. Alerts carry the labels that the Alertmanager channel gives them, so both group",
    "alike: an alert of both with the same labels is one to Alertmanager, so notify from one of the two. A rule with an",
    "empty `notify` is judged by the worker and told by nobody but Prometheus.",
    "",
    "What Prometheus cannot express of any rule:",
)
PIPELINE_HEADER = (
    "Alerts on the pipeline itself: what keeps counts from being right, current, or told. For Prometheus 2.42 or later, which scrapes",
    "every worker at least every 30 s under the one `job`. Each has its page among the runbooks.",
)


def files(config: Config, job: str = JOB, runbooks: str = RUNBOOKS) -> dict[str, str]:
    """The text of each file by its name; `runbooks` is the address of the folder with a page for each alert."""
    translations = translate(config, runbooks)
    tests = list(tests_of(translations))
    health = [*pipeline_tests(config, runbooks), *(Test(long=False, test=test) for test in health_tests(job, runbooks))]
    written = {RULES: _rules(translations), PIPELINE: _pipeline(config, job, runbooks)}
    chosen = {TESTS: [test for test in tests if not test.long], LONG_TESTS: [test for test in tests if test.long], PIPELINE_TESTS: health}
    for name, of in chosen.items():
        if of:
            read = document(of, PIPELINE, SAMPLE_SECONDS) if of is health else document(of, RULES)
            written[name] = f"# {WRITTEN}\n# promtool test rules {name}\n{_dumped(read)}"
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


def _rules(translations: Sequence[Translation]) -> str:
    parts = [_comment([WRITTEN, "", *HEADER, *(f"- {limit}" for limit in EVERY_RULE)])]
    parts += ["groups:\n"] if translations else ["groups: []\n"]
    parts += [_group(dict(translation.group), list(_told(translation))) for translation in translations]
    return "".join(parts)


def _pipeline(config: Config, job: str, runbooks: str) -> str:
    groups = [sources_group(config, runbooks), *health_groups(job, runbooks)]
    return "".join([_comment([WRITTEN, "", *PIPELINE_HEADER]), "groups:\n", *(_group(group, ()) for group in groups)])


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
