"""A server run as a child process: started until it answers, stopped by its pid, never left behind.

The child gets a session of its own, so Ctrl-C on the terminal reaches only the parent, whose
orderly shutdown still finds its servers alive. The reverse is covered too: a child whose parent is
gone, even by SIGKILL, is killed by the kernel (Linux; elsewhere only a parent that exits in order
takes its children along).
"""

from __future__ import annotations

import atexit
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from schemas.errors import FunnelwatchError

if TYPE_CHECKING:
    from typing_extensions import Self

LOCALHOST = "127.0.0.1"
POLL_SECONDS = 0.02
LOG_LINES = 20

# Below every system's ephemeral range: there, a client that keeps reconnecting to a stopped server
# is in time given the server's own port as its local one, and the server cannot come back on it.
PORTS = range(15_000, 32_000)

# The kernel sends the death signal when the *thread* that forked ends, and a start may well be
# called from a short-lived one; this one lives as long as the process.
_FORKER = ThreadPoolExecutor(1, thread_name_prefix="forker")

# Runs in the child before the server's program replaces it. Not a `preexec_fn`: that runs Python
# between fork and exec, which can deadlock in a process that has threads.
_DIE_WITH_PARENT = """
import os, signal, sys
parent, command = int(sys.argv[1]), sys.argv[2:]
if sys.platform == "linux":
    import ctypes
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent ended before this process began")
try:
    os.execvp(command[0], command)
except OSError as error:
    sys.exit(f"cannot run {command[0]}: {error}")
"""


class ProcessFailed(FunnelwatchError):
    """A server did not come up; the message ends with the last lines of its log."""

    def __init__(self, name: str, what: str, log: str) -> None:
        self.name, self.what, self.log = name, what, log
        super().__init__(f"{name} {what}; its log ends with:\n{log or '(nothing was logged)'}")


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody holds at this moment."""
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((LOCALHOST, port))
            return port
    raise FunnelwatchError(f"no free port between {PORTS.start} and {PORTS.stop} on {LOCALHOST}")


class Process(ABC):
    """A server on a fixed port with a folder of its own; both outlive stop, kill and restart.

    Not to be driven by several threads at once.
    """

    name: ClassVar[str]
    start_seconds: ClassVar[float] = 20.0
    grace_seconds: ClassVar[float] = 10.0

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"funnelwatch-{self.name}-"))
        self._child: subprocess.Popen[bytes] | None = None
        self._prepared = False
        atexit.register(self.close)

    @abstractmethod
    def command(self) -> list[str]:
        """The program to run and its arguments."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server does its work now; must return within a second or two."""

    def prepare(self) -> None:  # noqa: B027 - most servers need nothing
        """Write into `folder` what the server needs; called once, before the first start."""

    @property
    def address(self) -> str:
        return f"{LOCALHOST}:{self.port}"

    @property
    def pid(self) -> int:
        if self._child is None:
            raise ProcessFailed(self.name, "is not running", self.log())
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self) -> Self:
        """Return once the server answers.

        Raises `ProcessFailed` when it ended or did not answer within `start_seconds`; it is gone then.
        """
        if self.running:
            return self
        if not self._prepared:
            self.prepare()
            self._prepared = True
        self._child = _FORKER.submit(self._spawn).result()
        try:
            self._wait_until_it_answers(self._child)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """End the server in order: SIGTERM, and SIGKILL once `grace_seconds` have passed."""
        if self._child is None:
            return
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(self.grace_seconds)
        self.kill()

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        if self._child is None:
            return
        self._signal(signal.SIGKILL)
        self._child.wait()
        self._child = None

    def restart(self) -> Self:
        """Stop and start again, on the same port and the same data."""
        self.stop()
        return self.start()

    def pause(self) -> None:
        """Freeze the server: its port is open, but nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop the server and remove its folder, for good."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.close)

    def log(self, lines: int = LOG_LINES) -> str:
        """The last lines that the server wrote to its output."""
        with suppress(FileNotFoundError):
            text = self._log_path.read_text(errors="replace")
            return "\n".join(text.splitlines()[-lines:])
        return ""

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _log_path(self) -> Path:
        return self.folder / "output.log"

    def _spawn(self) -> subprocess.Popen[bytes]:
        wrapper = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid())]
        with self._log_path.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - a server's own command, without a shell
                [*wrapper, *self.command()],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait_until_it_answers(self, child: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self.start_seconds
        while child.poll() is None:
            # Asked twice: an answer may come from a stranger on our port while our child gives up.
            if self.answers() and child.poll() is None:
                return
            if time.monotonic() > deadline:
                what = f"did not answer on {self.address} within {self.start_seconds:g} s"
                raise ProcessFailed(self.name, what, self.log())
            time.sleep(POLL_SECONDS)
        raise ProcessFailed(self.name, f"ended with exit code {child.returncode}", self.log())

    def _signal(self, number: signal.Signals) -> None:
        """Signal the whole group, since a server may have forked; none if it has ended."""
        if self._child is not None and self._child.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)
