"""A child process is up when `start` returns, says why when it cannot, and is never left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pytest

from streams.process import LOCALHOST, PORTS, Process, ProcessFailed, free_port

ROOT = Path(__file__).parents[2]

ECHO = """
import os, signal, socket, sys, time
{before}
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
while True:
    connection, _ = server.accept()
    connection.sendall(str(os.getpid()).encode())
    connection.close()
"""


class Echo(Process):
    """Answers each connection with its pid; `before` runs before it listens."""

    name: ClassVar[str] = "echo"
    start_seconds: ClassVar[float] = 5.0
    grace_seconds: ClassVar[float] = 0.5

    def __init__(self, before: str = "") -> None:
        super().__init__()
        self.before = before

    def command(self) -> list[str]:
        return [sys.executable, "-c", ECHO.format(before=self.before), str(self.port)]

    def answers(self) -> bool:
        with suppress(OSError):
            return self.ask() == self.pid
        return False

    def ask(self) -> int:
        with socket.create_connection((LOCALHOST, self.port), timeout=1) as connection:
            return int(connection.recv(20))


class Slow(Echo):
    start_seconds: ClassVar[float] = 1.0


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo() as started:
        yield started


def is_alive(pid: int) -> bool:
    """Whether the process still runs; a zombie that init has not yet reaped does not."""
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def failure_of(part: Process) -> ProcessFailed:
    """The error with which the part does not start."""
    with pytest.raises(ProcessFailed) as caught, part:
        pass
    return caught.value


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 5
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.01)


def test_a_started_process_answers_under_the_pid_it_reports(echo: Echo) -> None:
    assert echo.running
    assert echo.ask() == echo.pid


def test_starting_twice_is_starting_once(echo: Echo) -> None:
    pid = echo.pid
    echo.start()
    assert echo.pid == pid


def test_closing_leaves_neither_process_nor_folder() -> None:
    with Echo() as echo:
        pid, folder = echo.pid, echo.folder
    assert not echo.running
    assert not is_alive(pid)
    assert not folder.exists()


def test_closing_happens_when_the_block_fails() -> None:
    def fail_inside(echo: Echo) -> None:
        with echo:
            pids.append(echo.pid)
            raise InterruptedError

    pids: list[int] = []
    with pytest.raises(InterruptedError):
        fail_inside(Echo())
    assert not is_alive(pids[0])


def test_restart_keeps_port_and_folder_and_changes_the_process(echo: Echo) -> None:
    address, pid = echo.address, echo.pid
    (echo.folder / "data").write_text("kept")
    echo.restart()
    assert echo.address == address
    assert echo.pid != pid
    assert echo.ask() == echo.pid
    assert (echo.folder / "data").read_text() == "kept"


def test_a_killed_process_can_be_started_again(echo: Echo) -> None:
    pid = echo.pid
    echo.kill()
    assert not is_alive(pid)
    echo.start()
    assert echo.ask() != pid


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace() -> None:
    with Echo("signal.signal(signal.SIGTERM, signal.SIG_IGN)") as echo:
        pid = echo.pid
        begun = time.monotonic()
        echo.stop()
        assert echo.grace_seconds <= time.monotonic() - begun < echo.grace_seconds + 2
    assert not is_alive(pid)


def test_a_paused_process_does_not_answer_until_it_is_resumed(echo: Echo) -> None:
    echo.pause()
    assert not echo.answers()
    echo.resume()
    assert echo.answers()


def test_a_paused_process_stops_in_order() -> None:
    # Without a handler the kernel would end even a frozen process at once.
    with Echo("signal.signal(signal.SIGTERM, lambda *_: sys.exit())") as echo:
        echo.pause()
        begun = time.monotonic()
        echo.stop()
        assert time.monotonic() - begun < echo.grace_seconds


def test_a_process_takes_what_it_forked_along(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    fork = f"child = os.fork()\nif not child: time.sleep(60)\nopen({str(note)!r}, 'w').write(str(child))"
    with Echo(fork):
        child = int(note.read_text())
        assert is_alive(child)
    wait_until_gone(child)


def test_a_process_that_ends_at_once_reports_its_exit_code_and_the_end_of_its_log() -> None:
    failure = failure_of(Echo("print('disk on fire', flush=True); sys.exit(3)"))
    assert str(failure) == "echo ended with exit code 3; its log ends with:\ndisk on fire"


def test_only_the_last_lines_of_a_long_log_are_shown() -> None:
    failure = failure_of(Echo("print(*range(100), sep='\\n'); sys.exit(1)"))
    assert failure.log.splitlines() == [str(n) for n in range(80, 100)]


def test_a_process_that_never_answers_is_given_up_and_gone(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    stuck = f"open({str(note)!r}, 'w').write(str(os.getpid())); print('thinking', flush=True); time.sleep(60)"
    slow = Slow(stuck)
    try:
        with pytest.raises(ProcessFailed) as caught:
            slow.start()
        assert caught.value.what == f"did not answer on {slow.address} within 1 s"
        assert caught.value.log == "thinking"
        assert not is_alive(int(note.read_text()))
    finally:
        slow.close()


def test_a_process_that_cannot_start_leaves_no_folder() -> None:
    echo = Echo("sys.exit(1)")
    failure_of(echo)
    assert not echo.folder.exists()


def test_a_program_that_does_not_exist_is_named_in_the_error() -> None:
    class Absent(Echo):
        def command(self) -> list[str]:
            return ["/nowhere/server"]

    assert "cannot run /nowhere/server: " in failure_of(Absent()).log


def test_a_stranger_on_the_port_is_not_taken_for_the_server() -> None:
    class Trusting(Echo):
        def answers(self) -> bool:
            with suppress(OSError):
                self.ask()
                time.sleep(0.5)  # Long enough for the child to find its port taken.
                return True
            return False

    with Echo() as stranger:
        late = Trusting()
        late.port = stranger.port
        assert "Address already in use" in failure_of(late).log


def test_the_thread_that_started_a_process_may_end_before_it() -> None:
    with_thread = Echo()
    starter = threading.Thread(target=with_thread.start)
    starter.start()
    starter.join()
    try:
        time.sleep(0.1)
        assert with_thread.running
    finally:
        with_thread.close()


def test_ctrl_c_on_the_terminal_does_not_reach_the_process(echo: Echo) -> None:
    assert os.getpgid(echo.pid) == echo.pid != os.getpgid(0)
    assert os.getsid(echo.pid) == echo.pid


PARENT = """
import os, signal, sys
from tests.unit.test_process import Echo
echo = Echo().start()
print(echo.pid, echo.folder, flush=True)
{end}
"""


def run_parent(end: str) -> tuple[int, Path]:
    """Pid and folder of a process whose parent has ended in the given way."""
    code = PARENT.format(end=end)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=30, check=False)
    pid, folder = done.stdout.split()
    return int(pid), Path(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_a_process_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    pid, folder = run_parent("os.kill(os.getpid(), signal.SIGKILL)")
    wait_until_gone(pid)
    folder.rename(tmp_path / "left-by-the-killed-parent")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_a_process_whose_parent_is_already_gone_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.process.os.getpid", lambda: 2**30)
    assert failure_of(Echo()).log == "the parent ended before this process began"


def test_a_process_ends_with_a_parent_that_forgot_it() -> None:
    pid, folder = run_parent("")
    wait_until_gone(pid)
    assert not folder.exists()


def test_free_ports_are_free_and_outside_the_ephemeral_range() -> None:
    port = free_port()
    assert port in PORTS
    with socket.socket() as server:
        server.bind((LOCALHOST, port))


def test_signals_after_the_end_are_harmless() -> None:
    echo = Echo()
    with echo:
        os.kill(echo.pid, signal.SIGKILL)
        wait_until_gone(echo.pid)
        echo.pause()
        echo.stop()
    echo.close()
    with pytest.raises(ProcessFailed, match="is not running"):
        _ = echo.pid
