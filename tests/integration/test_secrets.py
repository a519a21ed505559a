"""No secret of a worker is told: not in its log, not in an answer, not by a command, though everything it sends is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from redis import Redis

from schemas.access import hash_of, new_token
from streams.embedded import Tansu, Valkey
from streams.process import free_port
from tests.books import becomes
from tests.parts.worker import Deployment, Worker
from tests.traffic import Click, make_topic, produce

SECRETS = {
    name: f"{name}-hush-{'0123456789abcdef' * 2}"
    for name in ("redis", "privacy", "hook", "query", "header", "pager", "apprise", "registry", "user")
}
TOKEN = new_token()
COMMANDS = (
    ("settings",), ("check", "CONFIG"), ("doctor", "--config", "CONFIG"), ("alerts", "list"), ("alerts", "dead-letters"),
    ("alerts", "audit"), ("dictionary", "--config", "CONFIG"), ("rules", "--config", "CONFIG", "--out", "RULES"),
)  # fmt: skip
CONFIG = """
sources: [{name: web, topic: TOPIC}]
funnels:
  - name: purchase
    source: web
    conversion_window: 1s
    windows: [1m]
    stages: [{name: view, event: v}, {name: pay, event: p}]
alerts:
  - {name: PayLow, funnel: purchase, stage: pay, basis: users, window: 1m, below: 0.9, min_entrants: 1, for: 0s,
     notify: [hook, pager, team, lost]}
channels:
  hook: {type: webhook, url: "http://127.0.0.1:REFUSED/in?key=QUERY", secret: env:HOOK, headers: {X-Key: HEADER}}
  lost: {type: webhook, url: "http://user:USER@127.0.0.1:CLOSED/in"}
  pager: {type: pagerduty, routing_key: env:PAGER, url: "http://127.0.0.1:REFUSED/v2/enqueue"}
  team: {type: apprise, urls: ["json://me:APPRISE@127.0.0.1:CLOSED/in"]}
access: {tokens: [{name: ops, hash: "HASH", scopes: [admin, entities, metrics]}]}
"""


class Refuses(BaseHTTPRequestHandler):
    """Refuses every notification and, as some services do, says what it was told."""

    def do_POST(self) -> None:
        said = f"bad request: {self.path} {self.headers} ".encode() + self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(400)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        """Not in the test's output."""


@contextmanager
def refusing() -> Iterator[int]:
    """Its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        serving = Thread(target=server.serve_forever)
        serving.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            serving.join()


@pytest.fixture
def config(unique_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("hook", "pager"):
        monkeypatch.setenv(name.upper(), SECRETS[name])
    text = CONFIG.replace("TOPIC", unique_name).replace("HASH", hash_of(TOKEN)).replace("CLOSED", str(free_port()))
    for name in ("query", "header", "apprise", "user"):
        text = text.replace(name.upper(), SECRETS[name])
    file = tmp_path / "funnel.yaml"
    with refusing() as port:
        file.write_text(text.replace("REFUSED", str(port)))
        yield file


def test_no_secret_is_told_whatever_is_asked_and_whatever_fails(tansu: Tansu, unique_name: str, config: Path, tmp_path: Path) -> None:
    with Valkey() as store, Redis.from_url(store.url) as client:
        client.config_set("requirepass", SECRETS["redis"])
        address = f"redis://:{SECRETS['redis']}@{store.address}/0"
        settings = {
            "KAFKA__END_OFFSET_SLACK": "1000000", "KAFKA__SESSION_TIMEOUT_SECONDS": "6", "LOG_LEVEL": "debug",
            "WORKER__TICK_SECONDS": "0.2", "PRIVACY__KEY": SECRETS["privacy"], "REGISTRY__PASSWORD": SECRETS["registry"],
            "WEB__TOKEN": TOKEN,
        }  # fmt: skip
        make_topic(tansu.address, unique_name, 1)
        deployment = Deployment(tansu.address, address, unique_name, config, settings)
        with deployment.worker() as worker:
            worker.start()
            produce(tansu.address, unique_name, [visit(number) for number in range(50)], enable_idempotence=False)
            becomes(lambda: len(ask(worker, "/api/v1/alerts/dead-letters").json()["dead_letters"]) >= 2, wanted=True)
            told = worker.log(1_000_000) + "".join(answers(worker)) + "".join(printed(deployment, worker, config, tmp_path))
    found = {name for name, secret in {**SECRETS, "token": TOKEN, "hash": hash_of(TOKEN).removeprefix("sha256:")}.items() if secret in told}
    assert found == set(), [
        line[max(0, at - 200) : at + 60] for name in found for line in told.splitlines() if (at := line.find(SECRETS.get(name, TOKEN))) >= 0
    ]
    assert "PayLow" in told


def visit(number: int) -> Click:
    record = {"event": "v", "timestamp": time.time() - 5, "user_id": f"u{number}"}
    return Click(f"u{number}".encode(), json.dumps(record).encode())


def ask(worker: Worker, path: str) -> httpx.Response:
    return httpx.get(f"http://{worker.address}{path}", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10.0)


def answers(worker: Worker) -> Iterator[str]:
    """Whatever can be asked without naming something; a page that is not there too."""
    paths = [path for path, does in ask(worker, "/openapi.json").json()["paths"].items() if "get" in does and "stream" not in path]
    assert len(paths) > 10
    for path in [*paths, "/", "/no/such/page", "/api/v1/funnels/purchase", "/api/v1/entities/u1"]:
        answer = ask(worker, path.replace("{name}", "purchase"))
        yield f"{path} {answer.status_code} {answer.headers} {answer.text}\n"


def printed(deployment: Deployment, worker: Worker, config: Path, folder: Path) -> Iterator[str]:
    """What commands say that have the worker's settings."""
    settings = {"KAFKA__BROKERS": deployment.kafka, "REDIS__URL": deployment.redis, **deployment.settings, "WEB__PORT": str(worker.port)}
    environment = [f"FUNNELWATCH_{name}={value}" for name, value in settings.items()]
    for command in COMMANDS:
        arguments = [{"CONFIG": str(config), "RULES": str(folder / "rules")}.get(word, word) for word in command]
        done = subprocess.run(
            ["env", *environment, sys.executable, "-m", "streams.cli", *arguments], capture_output=True, text=True, timeout=60
        )
        assert done.returncode in ((0, 1, 2) if "doctor" in command else (0, 1)), (command, done.stderr)
        yield done.stdout + done.stderr
    yield "".join(file.read_text() for file in (folder / "rules").iterdir())
