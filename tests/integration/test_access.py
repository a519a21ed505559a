"""A worker with tokens as one runs it: the command line asks with one, the audit log keeps it, and it stands nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess, run

import httpx
import pytest

from schemas.access import hash_of, new_token
from streams.embedded import Tansu, Valkey
from tests.books import counted
from tests.parts.worker import Deployment, Worker
from tests.traffic import clicks, make_topic, produce, write_config

READER, OPS, WRONG = new_token(), new_token(), new_token()
ON_TANSU = {"KAFKA__END_OFFSET_SLACK": "1000000", "KAFKA__SESSION_TIMEOUT_SECONDS": "6", "LOG_LEVEL": "debug"}
ACCESS = f"""
access:
  metrics: token
  tokens:
    - {{name: reader, hash: "{hash_of(READER)}", funnels: [purchase]}}
    - {{name: ops, hash: "{hash_of(OPS)}", scopes: [admin, entities, metrics]}}
"""
SECRETS = [one for token in (READER, OPS, WRONG) for one in (token, token.removeprefix("fw_"), hash_of(token).removeprefix("sha256:"))]


@pytest.fixture
def guarded(tansu: Tansu, valkey: Valkey, unique_name: str, tmp_path: Path) -> Iterator[Worker]:
    make_topic(tansu.address, unique_name, 2)
    config = write_config(tmp_path, unique_name)
    config.write_text(config.read_text() + ACCESS)
    deployment = Deployment(tansu.address, valkey.url, unique_name, config, ON_TANSU)
    ends = produce(tansu.address, unique_name, clicks(2_000), enable_idempotence=False)
    with deployment.worker(WEB__TOKEN=OPS) as worker:
        counted(deployment, ends)
        yield worker


def cli(worker: Worker, token: str | None, *arguments: str) -> CompletedProcess[str]:
    """The command line as somebody with that token has it."""
    settings = [f"FUNNELWATCH_WEB__PORT={worker.port}", *([f"FUNNELWATCH_WEB__TOKEN={token}"] if token else [])]
    return run(["env", *settings, sys.executable, "-m", "streams.cli", *arguments], capture_output=True, text=True, timeout=60)


def ask(worker: Worker, path: str, token: str | None = None, **what: object) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.get(f"http://{worker.address}{path}", headers=headers, timeout=10.0)


def test_with_a_token_of_the_environment_the_command_line_is_let_in(guarded: Worker) -> None:
    shut_out = cli(guarded, None, "rates", "purchase")
    assert (shut_out.returncode, shut_out.stdout, shut_out.stderr.count("\n")) == (2, "", 1)
    assert "this needs a token" in shut_out.stderr
    assert cli(guarded, READER, "rates", "purchase").returncode == 0
    hidden = cli(guarded, READER, "rates", "again")
    assert (hidden.returncode, "there is no funnel 'again'" in hidden.stderr) == (2, True)
    assert "has not the scope 'entities'" in cli(guarded, READER, "explain", "user-0").stderr
    assert cli(guarded, OPS, "explain", "user-0").returncode == 0
    looks = cli(guarded, OPS, "alerts", "audit")
    assert looks.returncode == 0
    assert "entity_read" in looks.stdout
    assert "token ops" in looks.stdout
    assert "user-0" not in looks.stdout
    assert cli(guarded, READER, "alerts", "audit").returncode == 2

    answers = [
        ask(guarded, path, token)
        for path in (
            "/metrics",
            "/openapi.json",
            "/session",
            "/api/v1/funnels",
            "/api/v1/audit",
            "/api/v1/no",
            f"/api/v1/entities/{WRONG}x",
        )
        for token in (None, READER, OPS, WRONG)
    ]
    assert {answer.status_code for answer in answers} >= {200, 401, 403, 404}
    refused = next(answer for answer in answers if answer.request.url.path == "/metrics" and answer.status_code == 401)
    assert refused.headers["www-authenticate"].startswith("Bearer")
    shown = "".join(answer.text + str(answer.headers) for answer in answers if not answer.request.url.path.startswith("/api/v1/entities"))
    printed = cli(guarded, OPS, "settings").stdout + guarded.log(100_000)
    assert "FUNNELWATCH_WEB__TOKEN" in printed
    assert "a wrong token was shown" in printed
    assert [secret for secret in SECRETS if secret in shown + printed] == []
