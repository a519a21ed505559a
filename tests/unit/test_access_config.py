"""Tokens as the config writes them: made by a command, kept as hashes, and never repeated where one was written by mistake."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import yaml

from schemas.access import new_token
from schemas.config import Config, warnings_of
from schemas.errors import ConfigError
from streams.cli import run
from streams.web.access import unguarded
from tests.parts.guarded import config_with

HASH = f"sha256:{'0' * 64}"
OTHER = f"sha256:{'1' * 64}"
SECRET = new_token()


def refused(access: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        config_with(access)
    return str(caught.value)


def token(**more: Any) -> dict[str, Any]:
    return {"name": "wall", "hash": HASH, **more}


def test_a_token_reads_every_funnel_by_default() -> None:
    access = config_with({"tokens": [token()]}).access
    (found,) = access.tokens
    assert (found.scopes, found.funnels, found.concurrent, found.expires) == (("read",), ("*",), 8, None)
    assert (int(found.limit.per), found.limit.most, access.cors, access.metrics) == (60, 600, (), "open")


@pytest.mark.parametrize(
    ("access", "said"),
    [
        ({"tokens": [token(scopes=["raed"])]}, "access.tokens[0].scopes: there is no scope 'raed'; did you mean 'read'?"),
        ({"tokens": [token(scopes="read")]}, "is no list of scopes; write some of read, entities, metrics, admin"),
        ({"tokens": [token(), token(hash=OTHER)]}, "access.tokens[1].name: 'wall' is there already"),
        ({"tokens": [token(), token(name="b")]}, "access.tokens[1].hash: is that of 'wall' too"),
        ({"tokens": [token(funnels=["purchse"])]}, "access.tokens[0].funnels[0]: no funnel matches 'purchse'; did you mean 'purchase'?"),
        ({"tokens": [token(scopes=["admin"], funnels=["purchase"])]}, "admin cannot be bound to some funnels"),
        ({"tokens": [token(scopes=["metrics", "admin"], funnels=["purchase"])]}, "metrics and admin cannot be bound"),
        ({"tokens": [token(hash="sha256:12")]}, "is no hash of a token; write sha256: and 64 hexadecimal digits"),
        ({"tokens": [{"name": "wall"}]}, "'hash' is missing"),
        ({"tokens": [token(scope=["read"])]}, "unknown key 'scope'; did you mean 'scopes'?"),
        ({"tokens": [token(expires="soon")]}, "access.tokens[0].expires"),
        ({"tokens": [token(concurrent=0)]}, "greater than or equal to 1"),
        ({"metrics": "token"}, "access.metrics: no token has the scope metrics"),
        ({"cors": ["*"]}, "access.cors[0]: is no origin"),
        ({"cors": ["https://wiki.example/page"]}, "scheme, host and port alone"),
        ({"cors": ["https://kim@wiki.example"]}, "is no origin"),
        ({"cors": ["https://wiki.example:x"]}, "is no origin"),
    ],
)
def test_what_is_wrong_is_said_with_what_would_be_right(access: Any, said: str) -> None:
    assert said in refused(access)


@pytest.mark.parametrize(
    "access",
    [
        {"tokens": [token(hash=SECRET)]},
        {"tokens": [token(hash=SECRET.removeprefix("fw_"))]},
        {"tokens": [token(hash=f"sha256:{SECRET}")]},
        {"tokens": [token(hash=[SECRET])]},
        {"tokens": [SECRET]},
        {"tokens": SECRET},
        {"tokens": [token(scopes=[SECRET])]},
        {"tokens": [token(expires=SECRET)]},
        {"tokens": [token(funnels=SECRET)]},
        {"cors": [SECRET]},
        {"metrics": SECRET},
        pytest.param(SECRET, id="instead of everything"),
    ],
)
def test_a_token_that_stands_in_the_config_is_not_repeated(access: Any) -> None:
    assert SECRET.removeprefix("fw_") not in refused(access)


def test_a_plain_token_instead_of_its_hash_is_known_for_what_it_is() -> None:
    assert "may be the token itself, which has no place in a config: `funnelwatch token new`" in refused({"tokens": [token(hash=SECRET)]})


def test_one_that_has_expired_is_warned_of() -> None:
    warnings = warnings_of(config_with({"tokens": [token(expires="2020-01-01")]}))
    assert [warning.split(":")[0] for warning in warnings if "token" in warning] == ["token 'wall' expired on 2020-01-01"]


def test_a_new_token_is_printed_once_with_lines_that_a_config_takes(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["token", "new", "--name", "shop team", "--scope", "read", "--scope", "entities", "--funnel", "pur*", "--expires", "2100-01-01"]
    assert run(asked) == 0
    out, err = capsys.readouterr()
    made = out.splitlines()[0]
    assert made.startswith("fw_")
    assert len(made) == 46
    assert made not in out.split("\n", 1)[1] + err
    (found,) = config_with(yaml.safe_load(out.split("\n\n", 1)[1])["access"]).access.tokens
    assert found.hash.get_secret_value() == f"sha256:{hashlib.sha256(made.encode()).hexdigest()}"
    assert (found.name, found.scopes, found.funnels, str(found.expires)) == ("shop team", ("read", "entities"), ("pur*",), "2100-01-01")
    assert run(asked) == 0
    assert capsys.readouterr().out.splitlines()[0] != made


def test_a_new_token_can_be_taken_by_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["token", "new", "--name", "ci", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["config"]["hash"] == f"sha256:{hashlib.sha256(made['token'].encode()).hexdigest()}"


@pytest.mark.parametrize("wrong", [["--name", ""], ["--name", "a", "--scope", "write"], ["--name", "a", "--expires", "soon"]])
def test_a_new_token_that_no_config_would_take_is_not_made(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["token", "new", *wrong]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), err.startswith("error: ")) == ("", 1, True)


@pytest.mark.parametrize("host", ["0.0.0.0", "127.example.org", "localhost.example", "::", "10.0.0.5", ""])
def test_open_to_others_and_without_tokens_is_warned_of(host: str) -> None:
    config: Config = config_with({})
    assert "funnelwatch token new" in str(unguarded(host, config.access))
    assert unguarded(host, config_with({"tokens": [token()]}).access) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_open_to_this_machine_alone_is_not(host: str) -> None:
    assert unguarded(host, config_with({}).access) is None


def test_neither_config_nor_token_shows_a_hash_when_it_is_printed() -> None:
    config = config_with({"tokens": [token()]})
    assert "0" * 20 not in repr(config) + repr(config.access.tokens) + config.model_dump_json()
