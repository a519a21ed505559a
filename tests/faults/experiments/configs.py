"""Configs that are wrong, and configs that mean harm."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Mapping

from tests.faults.catalogue import experiment
from tests.faults.scene import Scene
from tests.traffic import CONFIG

GOOD = CONFIG.format(topic="clicks", source="")
BYTES_MAX = 2 * 1024**3  # of memory: a bomb that goes off fails instead of taking the machine along
SECONDS_MAX = 20.0
LINE_MAX = 2_000  # characters of it
LINES_MAX = 200


def _bomb() -> str:
    lines = ["a0: &a0 [boom, boom, boom, boom, boom, boom, boom, boom, boom]"]
    return "\n".join([*lines, *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))])


HOSTILE: Mapping[str, bytes] = {
    "nothing": b"",
    "blank": b"\n\n  \n",
    "no-utf-8": b"sources: \xff\xfe",
    "utf-16": GOOD.encode("utf-16"),
    "zeros": b"\x00" * 1000,
    "binary": bytes(range(256)) * 40,
    "a-list": b"- 1\n- 2\n",
    "a-text": b"hello",
    "unclosed": b"sources: [{name: web",
    "tabs": b"sources:\n\t- name: web\n",
    "two-documents": GOOD.encode() + b"\n---\n" + GOOD.encode(),
    "key-twice": GOOD.encode() + b"\nfunnels: []\n",
    "alias-bomb": _bomb().encode(),
    "alias-to-itself": b"sources: &a [*a]\n",
    "merge-key": b"x: &x {name: web}\nsources:\n  - <<: *x\n",
    "python-tag": b'sources: !!python/object/apply:os.system ["touch /tmp/funnelwatch-was-here"]\n',
    "deep": b"sources: " + b"[" * 100_000 + b"]" * 100_000,
    "deep-maps": b"{a: " * 5_000 + b"1" + b"}" * 5_000,
    "long-key": b"x" * 2_000_000 + b": 1\n",
    "large-number": b"sources: " + b"9" * 100_000 + b"\n",
    "many-funnels": b"funnels: [" + b"{name: x}," * 50_000 + b"]\n",
    "bad-regex": GOOD.replace("event: product_view", "event: product_view, where: {properties.x: {matches: '(((('}}").encode(),
    "endless-window": GOOD.replace("conversion_window: 5m", "conversion_window: 99999999999999999999d").encode(),
    "negative-window": GOOD.replace("conversion_window: 5m", "conversion_window: -5m").encode(),
    "path-as-topic": GOOD.replace("topic: clicks", "topic: ../../etc/passwd").encode(),
    "line-break-in-name": GOOD.replace("name: purchase", 'name: "pur\\nchase"').encode(),
    "unknown-key": GOOD.replace("stages:", "stagse:").encode(),
}


@experiment(once=True)
def hostile_config(scene: Scene) -> None:
    """Malformed and hostile configs (bombs of aliases, tags, depth, size): `check` and `worker` exit with 2, clear lines, no traceback"""
    complaints = []
    for name, text in HOSTILE.items():
        path = scene.folder / f"{name}.yaml"
        path.write_bytes(text)
        for command in (["check", str(path)], ["worker", "--config", str(path)]):
            complaints += [f"{command[0]} of {name}: {what}" for what in _complaints(command, SECONDS_MAX * scene.parts.patience)]
    directory = [what for path in (scene.folder, scene.folder / "none.yaml") for what in _complaints(["check", str(path)], SECONDS_MAX)]
    complaints += [f"check of a folder or of no file: {what}" for what in directory]
    assert not os.path.exists("/tmp/funnelwatch-was-here"), "a config had a command run"  # noqa: PTH110
    assert not complaints, "\n".join(complaints)


def _complaints(command: list[str], seconds: float) -> list[str]:
    """What is not as it should be when a command is given a bad config."""
    limited = ["env", "FUNNELWATCH_COMPILED=0", sys.executable, "-m", "streams.cli", *command]
    try:
        done = subprocess.run(limited, capture_output=True, timeout=seconds, check=False, preexec_fn=_limit)
    except subprocess.TimeoutExpired:
        return [f"not done after {seconds:g} s"]
    said = done.stderr.decode(errors="replace")
    found = [] if done.returncode == 2 else [f"ended with {done.returncode}: {said[-200:]}"]
    found += ["said nothing"] * (not said.strip()) + ["showed a traceback"] * ("Traceback" in said)
    found += [f"said {len(said.splitlines())} lines"] * (len(said.splitlines()) > LINES_MAX)
    return found + [f"a line of {len(line)} characters" for line in said.splitlines() if len(line) > LINE_MAX][:1]


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (BYTES_MAX, BYTES_MAX))
