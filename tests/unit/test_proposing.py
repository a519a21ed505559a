"""What records look like is proposed as a config: fields, events, dimensions, a first funnel, each with its reason; nobody's data is shown."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.config import Config, parse
from schemas.errors import UsageError
from streams.cli import run
from streams.proposing import Found, Where, found_in
from streams.proposing_text import proposal
from streams.replay import replay
from tests.integration.test_taobao import FILE as TAOBAO
from tests.integration.test_taobao import needs_file

NOW_US = 1_780_000_000_000_000
START_MS = 1_777_000_000_000
CHAIN = ("kx", "qo", "zu", "ab")  # names that say nothing, and not in the order of the alphabet
GOES_ON = (0.6, 0.7, 0.8)
PEOPLE = 240
WHERE = Where("clicks", "the newest 1,000 records of topic clicks", keyed=True)
Click = dict[str, Any]


@cache
def clicks(seed: int = 1) -> tuple[Click, ...]:
    """Visits of a few minutes over two days; foreign events in between; names that tell nothing."""
    dice = random.Random(seed)
    found = [click for person in range(PEOPLE) for _ in range(dice.randrange(1, 4)) for click in visit(dice, person)]
    return tuple(sorted(found, key=lambda click: click["c"]))


def visit(dice: random.Random, person: int) -> list[Click]:
    at = START_MS + dice.random() * 2 * 86_400_000
    split = {"f1": ("left", "right", "up")[person % 3], "f2": dice.choice(("red", "blue"))}
    out: list[Click] = []

    def did(name: str, **more: Any) -> None:
        nonlocal at
        at += dice.uniform(1_000, 90_000)
        mine = {
            "mail": f"someone{person}@example.org",
            "tel": f"+49 170 55{person:05}",
            "net": f"10.0.{person % 250}.7",
            "thing": f"i{dice.randrange(900)}",
        }
        out.append(
            {"b": name, "c": int(at), "d": f"w{person * 7919 % 100_003}", "e": {**split, **mine, **more}, "a": f"{dice.getrandbits(60):x}"}
        )

    for place, name in enumerate(CHAIN):
        if place and dice.random() > GOES_ON[place - 1]:
            break
        did(name, **({"g": round(dice.uniform(5, 90), 2)} if name == CHAIN[-1] else {}))
        while dice.random() < 0.3:
            did("noise")
    return out


def lines(found: tuple[Click, ...] | list[Click]) -> list[bytes]:
    return [json.dumps(click).encode() for click in found]


def look(records: list[bytes | None], keys: list[bytes | None] | None = None, where: Where = WHERE) -> Found:
    return found_in(records, keys or [None] * len(records), where, NOW_US)


def config_of(found: Found) -> Config:
    return parse(proposal(found).text)


def keys() -> list[bytes | None]:
    return [click["d"].encode() for click in clicks()]


@pytest.mark.parametrize("keyed", [True, False])
def test_fields_are_found_by_how_they_behave_whatever_their_names(keyed: bool) -> None:
    found = look([*lines(clicks())], keys() if keyed else None)
    assert {name: guess.path for name, guess in found.fields.items()} == {"event": "b", "timestamp": "c", "user_id": "d"}
    assert (found.people, found.entity_key) == (PEOPLE, keyed)
    source = config_of(found).sources[0]
    assert (source.topic, source.entity_key, source.fields.event, source.fields.properties) == ("clicks", keyed, "b", "e")


def test_an_event_id_is_found_where_its_name_says_so() -> None:
    found = look(lines([{**click, "msg_id": click["a"]} for click in clicks()]))
    assert found.fields["event_id"].path == "msg_id"


def test_the_first_funnel_is_the_way_that_people_walk_without_what_they_do_on_the_side() -> None:
    found = look([*lines(clicks())])
    assert [step.event for step in found.steps] == [*CHAIN]
    assert found.steps[0].people == PEOPLE
    assert all(step.had_before is not None and step.had_before > 0.95 for step in found.steps[1:])
    funnel = config_of(found).funnels[0]
    assert [stage.event for stage in funnel.stages] == [(name,) for name in CHAIN]
    assert funnel.stages[-1].value == "properties.g"
    assert str(funnel.conversion_window) in ("10m", "15m", "30m")
    assert {name: dimension.field for name, dimension in funnel.dimensions.items()} == {"f1": "properties.f1", "f2": "properties.f2"}


def test_what_the_proposal_says_of_the_sample_is_what_the_engine_counts_in_it() -> None:
    """The proposed config over the very records: people of every stage, and the rates in the comments."""
    found = look([*lines(clicks())])
    stages = replay(config_of(found), lines(clicks())).to_json()["funnels"]["first"]["stages"]
    assert [stage["reached"] for stage in stages] == [found.rates[0][1], *(on for on, _ in found.rates)]
    for (on, of), rate in zip(found.rates, GOES_ON):
        assert f"({on:,} of {of:,} people)" in proposal(found).text
        assert on / of > rate * 0.9  # a person may come several times


def test_every_guess_says_what_it_rests_on() -> None:
    text = proposal(look([*lines(clicks())], keys())).text
    for said in (
        "the newest 1,000 records of topic clicks", f"{PEOPLE} people within", "100.0% of the records have it", "milliseconds since the epoch",
        "the key is the person's id in 100.0% of the records", "of them had done the one before", "passages from the first stage to the last",
        "100% of the records have it: ", "write what you want",
    ):  # fmt: skip
        assert said in text, said


def test_personal_data_is_neither_proposed_nor_shown() -> None:
    """Whatever it is called: mail addresses, telephone numbers, network addresses, ids; not as event names either."""
    odd = [
        {**click, "e": {**click["e"], "email_domain": "x.org", "user_ip": "home", "firstName": ("Ann", "Bo")[i % 2]}}
        for i, click in enumerate(clicks())
    ]
    odd += [{**click, "b": f"mailed someone{i}@example.org", "a": f"n{i}"} for i, click in enumerate(clicks()[:7])]
    found = look(lines(odd))
    text = proposal(found).text + "".join(proposal(found).notes)
    assert set(found.dimensions) == {"e.f1", "e.f2"}
    people = (
        {str(click["d"]) for click in clicks()} | {str(click["a"]) for click in clicks()} | {str(click["e"]["thing"]) for click in clicks()}
    )
    words = set(text.replace(",", " ").split())
    assert not words & people
    for shown in ("example.org", "+49", "10.0.", "Ann", "user_ip", "firstName", "mailed"):
        assert shown not in text, shown
    assert "7 records have a name that looks like personal data" in text


def test_a_value_that_hardly_anybody_has_is_not_shown() -> None:
    rare = [{**click, "e": {**click["e"], "f3": "secretive" if i < 4 else ("one", "two")[i % 2]}} for i, click in enumerate(clicks())]
    text = proposal(look(lines(rare))).text
    assert "f3" in text
    assert "secretive" not in text


@pytest.mark.parametrize(
    ("records", "complaint"),
    [
        ([], "there are none; send some events first"),
        ([b"\x00\x01binary", b"plain text", b"[1, 2]", b"", None], "none is a JSON object"),
        ([b'{"a": 1}'] * 5, "no field has a time"),
        (
            [json.dumps({"t": START_MS + i, "kind": "ab"[i % 2]}).encode() for i in range(50)],
            "nothing was found that a person comes back with",
        ),
        ([json.dumps({"t": START_MS + i, "who": f"u{i % 25}"}).encode() for i in range(100)], "no field tells what happened"),
    ],
)
def test_records_that_no_config_can_be_made_of_say_why(records: list[bytes | None], complaint: str) -> None:
    with pytest.raises(UsageError) as refused:
        look(records)
    assert complaint in str(refused.value)
    assert WHERE.said in str(refused.value)


def test_records_that_are_no_json_are_counted_and_the_others_looked_at() -> None:
    found = look([b"\xff\xfe", b"not json", *lines(clicks()), b"5", None])
    assert found.unread == 4
    assert any("4 of" in note and "no JSON" in note for note in proposal(found).notes)
    assert found.fields["user_id"].path == "d"


def test_a_second_id_is_proposed_for_those_without_the_first() -> None:
    mixed = [{**click, "d": None, "anon": f"g{click['d']}"} if int(click["d"][1:]) % 2 else click for click in clicks()]
    found = look(lines(mixed))
    assert {name: guess.path for name, guess in found.fields.items() if name.endswith("_id")} == {"user_id": "d", "anonymous_id": "anon"}
    assert found.people == PEOPLE


def as_segment(click: Click) -> Click:
    stamp = f"2026-05-{1 + (click['c'] - START_MS) // 86_400_000:02}T{(click['c'] // 3_600_000) % 24:02}:{(click['c'] // 60_000) % 60:02}:{(click['c'] // 1000) % 60:02}Z"
    context = {"library": {"name": "analytics.js"}, "campaign": {"source": click["e"]["f1"]}}
    call = {"type": "page", "name": "Home"} if click["b"] == CHAIN[0] else {"type": "track", "event": click["b"]}
    properties = {"color": click["e"]["f2"], "revenue": click["e"].get("g")}
    return {
        **call,
        "userId": click["d"],
        "anonymousId": f"x{click['d']}",
        "messageId": click["a"],
        "timestamp": stamp,
        "context": context,
        "properties": properties,
    }


def as_cloud_event(click: Click) -> Click:
    return {
        "specversion": "1.0",
        "id": click["a"],
        "source": "/shop",
        "type": click["b"],
        "subject": click["d"],
        "time": as_segment(click)["timestamp"],
        "data": click["e"],
    }


@pytest.mark.parametrize(
    ("make", "preset", "first", "split"),
    [(as_segment, "segment", "page", "properties.context.campaign.source"), (as_cloud_event, "cloudevents", CHAIN[0], "properties.f1")],
)
def test_records_of_a_well_known_kind_are_read_by_their_preset(make: Callable[[Click], Click], preset: str, first: str, split: str) -> None:
    found = look(lines([make(click) for click in clicks()]))
    assert found.preset == preset
    proposed = config_of(found)
    assert proposed.sources[0].preset == preset
    assert proposed.funnels[0].stages[0].event == (first,)
    assert split in {dimension.field for dimension in proposed.funnels[0].dimensions.values()}
    counted = replay(proposed, lines([make(click) for click in clicks()])).to_json()
    assert counted["rejected"] == {}
    assert counted["funnels"]["first"]["stages"][0]["reached"] == PEOPLE


def test_where_people_go_no_way_the_proposal_says_so() -> None:
    dice = random.Random(3)
    records = [json.dumps({"t": START_MS + i * 1000, "who": f"u{dice.randrange(40)}", "event": "ab"[i % 2]}).encode() for i in range(400)]
    found = look(records)
    assert len(found.steps) == 2
    config_of(found)


@pytest.mark.parametrize("odd", ["yes", "a: b", "#x", "x" * 200, "日本 語", '"', "no", "12", "-", "a\nb", "{"])
def test_whatever_an_event_is_called_the_proposal_is_a_valid_config(odd: str) -> None:
    records = lines([{**click, "b": odd if click["b"] == CHAIN[0] else click["b"]} for click in clicks()[:500]])
    assert config_of(look(records)).funnels[0].stages[0].event == (odd,)


def test_whatever_records_look_like_a_proposal_is_valid_or_says_why_there_is_none() -> None:
    dice = random.Random(7)
    proposed = 0
    for _ in range(80):
        makers = [*odd_makers(dice, "time"), *odd_makers(dice, "who"), *odd_makers(dice, "what")]
        makers += [make for _ in range(dice.randrange(4)) for make in odd_makers(dice, "else")]
        shape = list(zip(dice.sample(NAMES, len(makers)), makers))
        records = [json.dumps({name: make(n) for name, make in shape}).encode() for n in range(dice.choice((1, 20, 60)))]
        try:
            found = look(records)
        except UsageError:
            continue
        config_of(found)
        proposed += 1
    assert proposed > 10


NAMES = (
    "t",
    "at",
    "ü",
    "a.b",
    "user",
    "",
    "event",
    "x y",
    "id",
    "no",
    "1",
    "properties",
    "ctx",
    '"',
    "#",
    "a" * 300,
    "ip",
    "yes",
    "-",
    "{",
    "~",
)


def odd_makers(dice: random.Random, kind: str) -> list[Callable[[int], Any]]:
    few = [dice.choice(["a", "b: c", "true", "é", "-", "x" * 90, "1e3", "a@b.c", "{}", "yes"]) + "xyz"[n] for n in range(3)]
    made: dict[str, list[Callable[[int], Any]]] = {
        "time": [lambda n: START_MS + n * 1000, lambda n: START_MS / 1000 + n, lambda n: f"2026-04-24T00:00:{n:02}Z"],
        "who": [lambda n: f"u{n % 4}", lambda n: n % 5, lambda n: None if n % 3 else f"u{n % 4}"],
        "what": [lambda n: few[n % 3], lambda n: few[n * n % 3], lambda n: few[n // 4 % 3]],
        "else": [
            lambda n: n % 2 == 0,
            lambda n: {"k": few[n % 3], "n": n, "deep": {"deeper": {"deepest": {"out": n}}}},
            lambda n: [n],
            lambda n: None,
            lambda n: 10**30 + n,
            lambda n: n / 7,
            lambda n: few[n % 2],
        ],
    }
    return [dice.choice(made[kind])]


# The command


def test_a_file_is_looked_at_and_the_proposal_replays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events, out = tmp_path / "shop events.jsonl.gz", tmp_path / "funnel.yaml"
    events.write_bytes(gzip.compress(b"\n".join(lines(clicks()))))
    assert run(["init", "--from-file", str(events), "--out", str(out)]) == 0
    commands = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert [command.split()[1] for command in commands] == ["check", "dictionary", "replay"]
    assert run(["check", str(out)]) == 0
    assert run(["replay", str(events), "--config", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["funnels"]["first"]["stages"][0]["reached"] == PEOPLE


def test_a_file_that_is_there_is_not_written_over_unless_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "funnel.yaml"
    out.write_text("mine")
    assert run(["init", "--template", "saas", "--out", str(out)]) == 2
    assert (out.read_text(), "--force" in capsys.readouterr().err) == ("mine", True)
    assert run(["init", "--template", "saas", "--out", str(out), "--force"]) == 0
    assert yaml.safe_load(out.read_text())["funnels"]


@pytest.mark.parametrize(
    "arguments", [[], ["--template", "saas", "--from-topic", "t"], ["--template", "bakery"], ["--from-file", "nowhere.jsonl"], ["--template", "saas", "--out", "/nowhere/f.yaml"]]
)  # fmt: skip
def test_a_wrong_use_is_one_line_that_says_what_is_right(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["init", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@needs_file
def test_a_real_shop_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    """UserBehavior of Taobao: who and what, though item and category have ids too."""
    assert run(["init", "--from-file", str(TAOBAO), "--out", "-", "--records", "8000"]) == 0
    proposed = parse(capsys.readouterr().out)
    fields, funnel = proposed.sources[0].fields, proposed.funnels[0]
    assert (fields.event, fields.timestamp, fields.user_id) == ("behavior", "ts", "user_id")
    assert (funnel.stages[0].event, funnel.stages[-1].event) == (("pv",), ("buy",))
    assert not funnel.dimensions
