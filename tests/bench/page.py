"""`--report FILE`: every section is a command of its own in a process of its own, so that one which fails or hangs loses no other."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from schemas.errors import FunnelwatchError
from tests.bench.pictures import pictures
from tests.parts.requirements import ROOT

SECTION_SECONDS_MAX = 2_400.0
GRACE_SECONDS = 60.0  # to stop what it has started
REASON_CHARACTERS_MAX = 300
ABOUT = """\
Every section is what its command says. The contenders read the same records from one Apache Kafka node and write to one
redis-server, each in a process of its own; they take turns, and what each counted is compared with a recount. All share one
machine, so compare the figures of one page with each other only. Where something was to be reached, it says whether it was.

Why what is not held is not. Of the contenders, the lines under a short row say where an event's time goes. How soon: the worker, Redis,
Kafka and whoever writes the load share the cores of one machine, which at half of the worker's most have next to nothing left, and a
worker that falls behind shows events late. Ten million people: with every state cold, an event waits for memory. The file: a longer
one fills more of the windows' buckets. Readers while counting is as fast as it can be: a request waits for the step of counting that is on
its way, a millisecond or two, and for the one core it shares; a scrape is 35 ms of work by itself."""


@dataclass(frozen=True)
class Section:
    """A part of the page: what `python -m tests.bench` says with these flags."""

    title: str
    flags: tuple[str, ...]

    @property
    def shown(self) -> str:
        return f"python -m tests.bench {' '.join(self.flags)}"


@dataclass(frozen=True)
class Written:
    """A section as it came out; `failed` says why it is not whole, "" if it is."""

    section: Section
    lines: Sequence[str]
    failed: str = ""
    summary: str = ""  # the contenders' last line, a JSON object
    pictures: Mapping[str, str] = field(default_factory=dict)  # SVG by name, drawn from the tables among the lines


def command(section: Section) -> list[str]:
    return [sys.executable, "-m", "tests.bench", *section.flags]


def written(section: Section, say: Callable[[str], None], seconds_max: float = SECTION_SECONDS_MAX) -> Written:
    """Run a section to its end, or as far as it comes; each line is said as it comes."""
    lines: list[str] = []
    errors: list[str] = []
    late = threading.Event()
    with _begun(section) as child:
        watch = threading.Timer(seconds_max, lambda: (late.set(), _end(child)))
        other = threading.Thread(target=_pass_on, args=(child, errors))
        for thread in (watch, other):
            thread.daemon = True
            thread.start()
        try:
            assert child.stdout is not None
            for line in child.stdout:
                say(line.rstrip("\n"))
                lines.append(line.rstrip("\n"))
            code = child.wait()
            other.join()
        finally:
            watch.cancel()
            _end(child)
    failed = "" if code == 0 else reason(errors, code)
    summary = lines.pop() if lines and lines[-1].startswith("{") else ""
    return drawn(Written(section, lines, f"it took longer than {seconds_max:g} s" if late.is_set() else failed, summary))


def drawn(found: Written) -> Written:
    """With its pictures; that there are none is a failure, but loses no table."""
    try:
        return replace(found, pictures=pictures(found.lines))
    except Exception as error:
        return replace(found, failed=found.failed or f"its pictures cannot be drawn: {error}")


def _begun(section: Section) -> subprocess.Popen[str]:
    # Not in the group of this process: Ctrl-C is passed on, once; and heard, also where a shell that began this in the background ignores it.
    pipe, heard = subprocess.PIPE, ["env", "--default-signal=INT"]
    return subprocess.Popen([*heard, *command(section)], cwd=ROOT, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def _pass_on(child: subprocess.Popen[str], errors: list[str]) -> None:
    """How it is getting on, and the last thing it says when it fails."""
    assert child.stderr is not None
    for line in child.stderr:
        print(line, end="", file=sys.stderr, flush=True)
        errors.append(line.rstrip("\n"))


def page(found: Sequence[Written], facts: Iterable[str], folder: str = "pictures") -> Iterator[str]:
    """deploy/bench.md; `folder` is where the pictures are, seen from the page."""
    yield "# How fast it counts, what that costs, and beside what"
    yield ""
    yield "Written by `make bench` (`python -m tests.bench --report deploy/bench.md`); not by hand."
    yield ""
    yield from facts
    yield ""
    yield ABOUT
    if failed := [one.section.title for one in found if one.failed]:
        yield f"\n**Incomplete: {'; '.join(failed)}.**"
    for one in found:
        yield from _shown(one, folder)


def _shown(one: Written, folder: str, *of: str) -> Iterator[str]:
    """A section; `of` says what it is of, where that is not what the page says."""
    yield from ("", f"## {one.section.title}", "", f"`{one.section.shown}`", "")
    yield from of
    yield from one.lines
    for name in one.pictures:
        yield f"\n![{name}]({folder}/{name}.svg)"
    if one.failed:
        yield f"\n**This section is not whole: {one.failed}**"


def reason(last: Sequence[str], code: int) -> str:
    """The last thing that it said; no names of folders."""
    said = next((line for line in reversed(last) if line.strip()), f"exit code {code}")
    return re.sub(r"(?<![\w.:/])/[\w./-]*/([\w.-]+)", r"\1", said)[:REASON_CHARACTERS_MAX]


def _end(child: subprocess.Popen[str]) -> None:
    """As Ctrl-C does, so that it stops its servers."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()


def write(path: Path, found: Sequence[Written], facts: Iterable[str]) -> None:
    """The page, and beside it a folder of its pictures."""
    _draw(path, found)
    path.write_text("\n".join(page(found, facts, f"pictures/{path.stem}")) + "\n", "utf-8")


def write_again(path: Path, one: Written, of: str) -> None:
    """One section anew in a page that has it; `of` says when and of which commit. Raises FunnelwatchError where there is none such."""
    text, head = path.read_text("utf-8"), f"\n## {one.section.title}\n"
    before, found, rest = text.partition(head)
    if not found:
        raise FunnelwatchError(f"{path} has no section {one.section.title!r}; write all of it, without --again")
    _draw(path, [one])
    following = rest.find("\n## ")
    shown = "\n".join(_shown(one, f"pictures/{path.stem}", f"Run again by itself: {of}.", ""))
    path.write_text(before + shown + "\n" + (rest[following:] if following >= 0 else ""), "utf-8")


def _draw(path: Path, found: Sequence[Written]) -> None:
    folder = path.parent / "pictures" / path.stem
    folder.mkdir(parents=True, exist_ok=True)
    for one in found:
        for name, svg in one.pictures.items():
            (folder / f"{name}.svg").write_text(svg, "utf-8")
