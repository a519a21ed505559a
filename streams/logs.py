"""One pipe for every log line, ours and the libraries': structured, on stderr, and each trouble said once.

Warnings and errors that repeat are held back for a while, and then told by number (`streams.repeats`);
what informs is never held back.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any, Literal, TextIO, cast

import structlog

from streams.repeats import Repeats, key_of, kind_of

Event = MutableMapping[str, Any]
Format = Literal["console", "json"]
LIMITED = ("warning", "error", "critical", "exception")
LIBRARIES = logging.WARNING  # they inform of much that nobody asked for
_repeats = Repeats(0.0, time.monotonic)


class _Spoken:
    """Where lines go: stderr, as long as it takes them. A full disk costs lines, and never the work that they tell of."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()


def configure_logs(level: str, form: Format = "console", repeat_seconds: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
    """Set our end of the pipe up; the libraries' is `library_config`, since Faust sets that up when it starts."""
    _repeats.begin(repeat_seconds, clock)
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, _once, *_shared(), *_rendered(form)],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Spoken())),
        cache_logger_on_first_use=False,
    )


def library_config(level: str, form: Format = "console") -> dict[str, Any]:
    """What `logging.config.dictConfig` is told."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"ours": {"()": lambda: _library_handler(form)}},
        "root": {"level": max(LIBRARIES, getattr(logging, level.upper())), "handlers": ["ours"]},
    }


def _library_handler(form: Format) -> logging.Handler:
    """Takes what aiokafka, Faust and uvicorn log through the same pipe."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.stdlib.ExtraAdder(allow=("held_back",)),
                *_shared(),
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendered(form)],
        )
    )
    handler.addFilter(_once_of_library)
    return handler


def tell_held_back(*, ending: bool = False) -> None:
    """Say of what has stopped repeating how often it was held back; asked now and then, and at the end."""
    for shown, count in _repeats.over(ending=ending):
        structlog.get_logger().info("repeated, and held back", what=shown, times=count)


def quiet_libraries() -> None:
    """Kafka's client logs what a command says in one line itself."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def _shared() -> list[Any]:
    return [structlog.processors.TimeStamper(fmt="iso", utc=True), structlog.processors.format_exc_info]


def _rendered(form: Format) -> list[Any]:
    if form == "json":
        return [structlog.processors.JSONRenderer(default=str, ensure_ascii=False)]
    return [structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"])]


def _once(_logger: Any, method: str, event: Event) -> Event:
    """Hold a repeated line back."""
    if method not in LIMITED:
        return event
    error = event.get("exc_info")
    key = (*key_of(method, event), type(error).__name__ if isinstance(error, BaseException) else bool(error))
    held_back = _repeats.admit(key, str(event.get("event")))
    if held_back is None:
        raise structlog.DropEvent
    return {**event, "held_back": held_back} if held_back else event


def _once_of_library(record: logging.LogRecord) -> bool:
    """The same; two lines are the same if they come from one place in the code and are of one kind of error."""
    if record.levelno < logging.WARNING:
        return True
    error = record.exc_info[0] if record.exc_info else None
    said = kind_of(record.getMessage()) if not record.args else str(record.msg)
    held_back = _repeats.admit((record.name, record.levelno, said, error), f"{record.name}: {said}")
    if held_back:
        record.held_back = held_back
    return held_back is not None
