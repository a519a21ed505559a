"""The command line does what it says, in one line where it cannot, with the exit code for it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
from aiokafka import AIOKafkaConsumer
from pydantic import BaseModel
from typer.main import get_command

from schemas.explanation import EntityExplanation, FormerStanding
from schemas.report import Breakdown, FunnelReport, Rate, StageReport
from streams.cli import app, run
from streams.demo_parts import choose_port, create_topic
from streams.embedded import KafkaProcess
from streams.process import free_port
from streams.web import entities

CONFIG = """
sources: [{name: web, topic: clicks}]
funnels:
  - {name: f, source: web, conversion_window: 1h, windows: [1m, 1h], stages: [{name: a, event: a}, {name: b, event: b}]}
"""
FORMER = "Counted under a former definition: none of 2 stages is on record as reached."
EVENTS = [
    {"event": name, "timestamp": 1_700_000_000 + at, "user_id": user} for name, at, user in (("a", 0, "u"), ("b", 1, "u"), ("a", 2, "v"))
]


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "funnel.yaml"
    path.write_text(CONFIG)
    return str(path)


@pytest.fixture
def events(tmp_path: Path) -> str:
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in EVENTS))
    return str(path)


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and the one line on stderr of a command that cannot do what it should."""
    code = run(list(arguments))
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    return code, line.removeprefix("error: ")


def test_a_good_config_is_ok_in_one_line(capsys: pytest.CaptureFixture[str], config: str) -> None:
    assert run(["check", config]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"ok: {config}: 1 source, 1 funnel, 2 stages, 0 alerts, 0 channels\n"
    assert printed.err == ""


def test_a_warning_goes_to_stderr_and_the_config_is_still_ok(capsys: pytest.CaptureFixture[str], config: str) -> None:
    Path(config).write_text(CONFIG + "alerts: [{name: low, funnel: f, stage: b, window: 1h, below: 0.1}]\n")
    assert run(["check", config]) == 0
    assert capsys.readouterr().err == "warning: alert 'low' notifies nobody; name a channel in `notify`\n"


def test_every_problem_of_a_config_has_a_line_of_its_own(capsys: pytest.CaptureFixture[str], config: str) -> None:
    Path(config).write_text(CONFIG.replace("source: web", "source: wob").replace("[1m, 1h]", "[1m, 1m]"))
    assert run(["check", config]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"error: {config}:4: ") for line in lines)


def test_the_schema_of_the_config_is_printed_without_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "--print-schema"]) == 0
    assert "funnels" in json.loads(capsys.readouterr().out)["properties"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("chek", "No such command 'chek'"),
        ("check", "name a config file"),
        ("check nowhere.yaml", "nowhere.yaml:0: cannot be read"),
        ("check --nope x", "No such option: --nope"),
        ("worker", "Missing option '--config'"),
        ("send events.jsonl", "Missing option '--topic'"),
        ("send events.jsonl --topic t", "events.jsonl: cannot be read"),
        ("send events.jsonl --topic t --rate 1 --speed 1", "give --rate or --speed"),
        ("send events.jsonl --topic t --rate 0", "above 0"),
        ("demo --port 70000", "Invalid value for '--port'"),
        ("rates f --url nonsense", "'nonsense' is no address"),
        ("explain", "Missing argument 'ENTITY'"),
        ("explain u --config funnel.yaml", "go with --file"),
        ("explain u --at 1700000000", "go with --file"),
        ("explain u --file events.jsonl", "with --file give --config"),
        ("explain u --file events.jsonl --config funnel.yaml --url http://127.0.0.1:1", "no --url"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str], arguments: str, says: str) -> None:
    code, line = complaint(capsys, *arguments.split())
    assert code == 2
    assert says in line


def test_every_command_has_help_and_no_arguments_print_it(capsys: pytest.CaptureFixture[str]) -> None:
    for name in get_command(app).commands:  # type: ignore[attr-defined]  # typer's group of commands
        assert run([name, "--help"]) == 0
        assert "Usage: funnelwatch" in capsys.readouterr().out
    assert run([]) == 0
    assert "Commands:" in capsys.readouterr().out


def test_help_and_check_need_none_of_the_heavy_libraries(config: str) -> None:
    code = f"import sys; from streams.cli import run; run(['check', {config!r}]); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"faust", "aiokafka", "redis", "fastapi", "httpx"} & set(loaded)


def test_what_nobody_foresaw_is_one_line_and_the_traceback_is_for_the_asking(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("no\nway")

    monkeypatch.setattr("schemas.config.load", fail)
    code, line = complaint(capsys, "check", config)
    assert code == 1
    assert line == r"internal error: RuntimeError('no\nway'); set FUNNELWATCH_LOG_LEVEL=debug for the traceback"
    monkeypatch.setenv("FUNNELWATCH_LOG_LEVEL", "debug")
    assert run(["check", config]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_wrong_variable_is_bad_usage(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNNELWATCH_WEB__PORT", "seventy")
    code, line = complaint(capsys, "settings")
    assert code == 2
    assert line.startswith("FUNNELWATCH_WEB__PORT: ")


def test_settings_are_listed_with_default_and_value_and_without_secrets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUNNELWATCH_REDIS__URL", "rediss://ann:hunter2@cache:6380/0?password=hunter3")
    assert run(["settings"]) == 0
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith("FUNNELWATCH_REDIS__URL "))
    assert line.split()[1:3] == ["redis://127.0.0.1:6379/0", "rediss://***@cache:6380/0?***"]
    assert "where the ledger is" in line
    assert "hunter" not in printed


def test_replay_prints_a_table_or_one_object_or_a_line_an_entity(capsys: pytest.CaptureFixture[str], config: str, events: str) -> None:
    assert run(["replay", events, "--config", config]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].startswith("3 records: 3 applied, 0 filtered, 0 late, 0 duplicate, 0 rejected; watermark 2023-11-14T22:13:22Z")
    assert table[-1].split() == ["b", "1", "1", "50.0%", "1", "50.0%", "1"]
    assert run(["replay", events, "--config", config, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["funnels"]["f"]["stages"][1]["windows"]["1m"] == {"users": 1, "of": 2, "rate": 0.5}
    assert run(["replay", events, "--config", config, "--per-entity"]) == 0
    assert [json.loads(line)["stage"] for line in capsys.readouterr().out.splitlines()] == [2, 1]


def test_replay_leaves_out_what_is_later_than_a_time(capsys: pytest.CaptureFixture[str], config: str, events: str) -> None:
    for time in ("2023-11-14T22:13:20Z", "1700000000", "1700000000000"):
        assert run(["replay", events, "--config", config, "--at", time, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["applied"] == 1
    assert complaint(capsys, "replay", events, "--config", config, "--at", "noon")[0] == 2


def test_replay_asks_which_source_when_there_are_several(capsys: pytest.CaptureFixture[str], config: str, events: str) -> None:
    second = CONFIG.split("funnels:\n")[1].replace("name: f, source: web", "name: g, source: app")
    Path(config).write_text(CONFIG.replace("topic: clicks}", "topic: clicks}, {name: app, topic: taps}") + second)
    code, line = complaint(capsys, "replay", events, "--config", config)
    assert code == 2
    assert "--source" in line
    assert run(["replay", events, "--config", config, "--source", "app", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["funnels"]) == ["g"]


def stage(name: str, users: int, before: int | None) -> StageReport:
    step = None if before is None else Rate(numerator=users, denominator=before, rate=users / before if before else None)
    return StageReport(name=name, users=users, step=step, lost=0 if before is None else before - users, events=users, value=0)


AGAIN = (("a", 0), ("b", 1), ("b", 2), ("a", 21_600))
EXAMPLE = EntityExplanation(
    entity="a/b",
    sources=tuple(
        source.model_copy(update={"former": (FormerStanding(definition=7, stages=2, deepest=0, reached=None, why=FORMER),)})
        for source in entities.EXAMPLE.sources
    ),
)
STAGES = (stage("a", 2000, None), stage("b", 500, 2000))
OVERALL = Rate(numerator=500, denominator=2000, rate=0.25)
REPORT = FunnelReport(
    name="f", title="F", source="web", window="5m", conversion_window="1h", at=None, stale=True, incomplete=False, lag=7,
    stages=STAGES, overall=OVERALL, by="d", values=(Breakdown(value="x", stages=STAGES, overall=OVERALL),),
)  # fmt: skip


class Answers(BaseHTTPRequestHandler):
    """A service with one funnel and one entity."""

    asked: ClassVar[list[str]] = []
    known: ClassVar[dict[str, BaseModel]] = {"/api/v1/funnels/f": REPORT, "/api/v1/entities/a%2Fb": EXAMPLE}

    def do_GET(self) -> None:
        self.asked.append(self.path)
        found = self.known.get(self.path.partition("?")[0])
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(found.model_dump_json().encode() if found else b'{"detail": "there is no funnel; there are: f"}')

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def service() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_rates_shows_a_running_services_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    with service() as url:
        assert run(["rates", "f", "--window", "5m", "--by", "d", "--url", url]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert Answers.asked.pop() == "/api/v1/funnels/f?window=5m&basis=users&by=d"
        assert lines[0] == "F, last 5m at no event yet, stale, 7 records behind"
        assert lines[3].split() == ["b", "500", "2,000", "25.0%", "1,500", "500"]
        assert lines[5].strip() == "d = x"
        assert run(["rates", "f", "--json", "--url", url]) == 0
        assert json.loads(capsys.readouterr().out) == json.loads(REPORT.model_dump_json())


def test_rates_of_what_the_service_does_not_have_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with service() as url:
        code, line = complaint(capsys, "rates", "../g h", "--url", url)
    assert code == 2
    assert line.endswith("there is no funnel; there are: f (HTTP 404)")


def test_rates_without_a_service_says_how_to_start_one(capsys: pytest.CaptureFixture[str]) -> None:
    code, line = complaint(capsys, "rates", "f", "--url", f"http://127.0.0.1:{free_port()}")
    assert code == 1
    assert "funnelwatch worker --config" in line


EXPLAINED = """\
u, source web, as of 2023-11-14T22:13:22Z; newest event 2023-11-14T22:13:21Z

f, order ordered, within 1h
Reached the last stage, "b", at 2023-11-14T22:13:21Z: complete.
  a  reached at 2023-11-14T22:13:20Z
     entry opened at 2023-11-14T22:13:20Z, converted
  b  reached at 2023-11-14T22:13:21Z
     entry opened at 2023-11-14T22:13:21Z
"""


def test_explain_counts_a_file_and_tells_where_the_entity_stands(capsys: pytest.CaptureFixture[str], config: str, events: str) -> None:
    offline = ["--file", events, "--config", config]
    assert run(["explain", "u", *offline]) == 0
    assert capsys.readouterr().out == EXPLAINED
    assert run(["explain", "v", *offline, "--at", "1700003602", "--json"]) == 0
    found = EntityExplanation.model_validate_json(capsys.readouterr().out)
    assert found.sources[0].funnels[0].why.startswith('Reached "a" at 2023-11-14T22:13:22Z. Waiting for "b" until 2023-11-14T23:13:22Z')
    assert run(["explain", "v", *offline, "--at", "1700003603", "--json"]) == 0
    assert EntityExplanation.model_validate_json(capsys.readouterr().out).sources[0].funnels[0].state == "passed"


def test_explain_of_an_entity_that_the_file_does_not_have_is_bad_usage(
    capsys: pytest.CaptureFixture[str], config: str, events: str
) -> None:
    code, line = complaint(capsys, "explain", "w", "--file", events, "--config", config)
    assert code == 2
    assert line.startswith(f"{events}: no event of entity 'w' is on record in source web")


def test_explain_asks_a_running_service(capsys: pytest.CaptureFixture[str]) -> None:
    """The entity is quoted whole; what stands under a former definition comes last."""
    with service() as url:
        assert run(["explain", "a/b", "--url", url]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "a/b, source web, partition 3, as of 2026-03-02T14:32:05Z; newest event 2026-03-02T14:20:41Z"
        assert lines[2] == "purchase (Browse to order), order ordered, within 30m"
        assert lines[3].startswith('Reached "cart" at 2026-03-02T14:20:41Z. Waiting for "pay" until 2026-03-02T14:48:12Z')
        assert lines[4] == "  view  reached at 2026-03-02T14:18:12Z, channel = email"
        assert lines[7] == "        entry opened at 2026-03-02T14:20:41Z, can convert until 2026-03-02T14:50:41Z"
        assert lines[8] == "  pay   no reach on record"
        assert lines[9:] == ["", "former definition 7", "Counted under a former definition: none of 2 stages is on record as reached."]
        assert run(["explain", "a/b", "--json", "--url", url]) == 0
        assert json.loads(capsys.readouterr().out) == json.loads(EXAMPLE.model_dump_json())
        assert complaint(capsys, "explain", "nobody", "--url", url)[0] == 2
    assert complaint(capsys, "explain", "u", "--url", f"http://127.0.0.1:{free_port()}")[0] == 1


def test_explain_says_between_where_only_the_bucket_is_known(capsys: pytest.CaptureFixture[str], config: str, tmp_path: Path) -> None:
    """Of an entry that could not convert it says until when it could have."""
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps({"event": e, "timestamp": 1_700_000_000 + at, "user_id": "u"}) + "\n" for e, at in AGAIN))
    assert run(["explain", "u", "--file", str(path), "--config", config, "--at", "1700030000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[5].endswith(", could convert until 2023-11-15T05:13:20Z")
    assert lines[6] == "  b  reached between 2023-11-14T22:13:21Z and 2023-11-14T22:13:30Z"


def test_a_taken_port_is_refused_when_asked_for_and_else_replaced(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with service() as url:
        taken = int(url.rpartition(":")[2])
        code, line = complaint(capsys, "demo", "--port", str(taken))
        assert code == 2
        assert f"port {taken}" in line
        monkeypatch.setattr("streams.demo_parts.DEFAULT_PORT", taken)
        assert choose_port(None) != taken


def test_send_puts_every_record_where_its_key_belongs(
    capsys: pytest.CaptureFixture[str], any_kafka: KafkaProcess, unique_name: str, events: str
) -> None:
    create_topic(any_kafka.address, unique_name, 3)
    with Path(events).open("a") as file:
        file.write('{"event": "a", "timestamp": 1}\n')
    assert run(["send", events, "--topic", unique_name, "--brokers", any_kafka.address]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"sent 4 records to 3 partitions of {unique_name} in ")
    assert "1 of them without an entity" in printed
    found = asyncio.run(read(any_kafka.address, unique_name, 4))
    assert [json.loads(value) for key, value in found if key == b"u"] == EVENTS[:2]
    assert sorted(key or b"" for key, _ in found) == [b"", b"u", b"u", b"v"]


def test_send_sorts_by_time_when_asked_and_keeps_bad_lines_when_told(
    capsys: pytest.CaptureFixture[str], tansu: KafkaProcess, unique_name: str, tmp_path: Path
) -> None:
    create_topic(tansu.address, unique_name, 1)
    path = tmp_path / "unsorted.jsonl"
    path.write_text('{"user_id": "u", "timestamp": 3}\n{"user_id": "u", "timestamp": 1}\noops\n')
    arguments = ["send", str(path), "--topic", unique_name, "--brokers", tansu.address, "--sort"]
    assert complaint(capsys, *arguments) == (2, f"{path}:3: is no JSON object; mend the line, or send it all the same with --keep-bad")
    assert run([*arguments, "--keep-bad", "--rate", "100"]) == 0
    values = [value for _, value in asyncio.run(read(tansu.address, unique_name, 3))]
    assert values == [b'{"user_id": "u", "timestamp": 1}', b"oops", b'{"user_id": "u", "timestamp": 3}']


def test_send_without_a_broker_says_so(capsys: pytest.CaptureFixture[str], events: str) -> None:
    code, line = complaint(capsys, "send", events, "--topic", "t", "--brokers", f"127.0.0.1:{free_port()}")
    assert code == 1
    assert "--brokers" in line


async def read(brokers: str, topic: str, count: int) -> list[tuple[bytes | None, bytes]]:
    """(key, value) of the first records of a topic, partition by partition in order."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=brokers, auto_offset_reset="earliest", enable_auto_commit=False)
    await consumer.start()
    found: list[Any] = []
    try:
        while len(found) < count:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                found += records
    finally:
        await consumer.stop()
    return [(record.key, record.value) for record in sorted(found, key=lambda r: (r.partition, r.offset))]
