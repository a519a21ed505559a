"""[pure] A picture of what a notification tells: the rate over time, its threshold, and when it began to fire."""

from __future__ import annotations

import io
from collections.abc import Sequence
from math import ceil, floor, log10

from PIL import Image, ImageDraw, ImageFont

from alerting.message import Notification
from alerting.reports import moment
from alerting.words import percent, short
from schemas.duration import MICROS

POINTS_MIN = 3
WIDTH, HEIGHT = 800, 400
SCALE = 2  # drawn so much larger and shrunk, which smooths the lines
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 52, 36
PAPER, INK, GREY, GRID, RATE, LIMIT = "#ffffff", "#24292f", "#57606a", "#e6e8eb", "#0b62c4", "#c9302c"
LINES_MAX = 5  # of the grid

Point = tuple[float, float]


def picture(notification: Notification) -> bytes | None:
    """A PNG of 800 × 400, or None when there is too little to draw."""
    series = notification.series
    if len(series) < POINTS_MIN:
        return None
    return _Plot(notification, series).png()


class _Plot:
    def __init__(self, notification: Notification, series: Sequence[tuple[int, float]]) -> None:
        self._told = notification
        self._series = series
        self._first, self._last = series[0][0], series[-1][0]
        levels = [rate for _, rate in series] + [level for level in (notification.threshold, notification.baseline) if level is not None]
        self._step = _round_step(max(levels) / (LINES_MAX - 1) or 0.01)
        self._top = self._step * ceil(max(levels) / self._step + 1e-9)
        self._image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def png(self) -> bytes:
        self._frame()
        self._level(self._told.baseline, GREY, "usual")
        self._level(self._told.threshold, LIMIT, "threshold")
        self._incident()
        self._rate()
        out = io.BytesIO()
        self._image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(out, "PNG", optimize=True)
        return out.getvalue()

    def _frame(self) -> None:
        title = f"{self._told.funnel}: rate of the step into {self._told.stage}, over {short(self._told.series_seconds)}"
        self._text((LEFT, 12), _latin(title), INK, 16, "la")
        for number in range(round(self._top / self._step) + 1):
            y = self._y(number * self._step)
            self._line([(LEFT, y), (WIDTH - RIGHT, y)], GRID, 1)
            self._text((LEFT - 8, y), percent(number * self._step), GREY, 12, "rm")
        for number in range(LINES_MAX):
            at_us = self._first + (self._last - self._first) * number // (LINES_MAX - 1)
            anchor = "la" if number == 0 else "ra" if number == LINES_MAX - 1 else "ma"
            self._text((self._x(at_us), HEIGHT - BOTTOM + 8), self._time(at_us), GREY, 12, anchor)

    def _time(self, at_us: int) -> str:
        shown = "%H:%M" if self._last - self._first < 86_400 * MICROS else "%d %b %H:%M"
        return f"{moment(at_us):{shown}}"

    def _level(self, level: float | None, colour: str, name: str) -> None:
        if level is None:
            return
        y = self._y(level)
        for x in range(LEFT, WIDTH - RIGHT, 10):
            self._line([(x, y), (min(x + 6, WIDTH - RIGHT), y)], colour, 1.5)
        self._text((WIDTH - RIGHT, y - 3), f"{name} {percent(level)}", colour, 12, "rd")

    def _incident(self) -> None:
        """A line where it began to fire."""
        began_us = int(self._told.began.timestamp()) * MICROS
        if self._first <= began_us <= self._last:
            x = self._x(began_us)
            self._line([(x, TOP), (x, HEIGHT - BOTTOM)], LIMIT, 1)
            anchor = "ra" if x > WIDTH / 2 else "la"
            self._text((x + (-5 if anchor == "ra" else 5), TOP), f"fires {moment(began_us):%H:%M:%S} UTC", LIMIT, 12, anchor)

    def _rate(self) -> None:
        points = [(self._x(at_us), self._y(rate)) for at_us, rate in self._series]
        self._line(points, RATE, 2)
        x, y = points[-1]
        self._draw.ellipse([SCALE * v for v in (x - 3.5, y - 3.5, x + 3.5, y + 3.5)], fill=RATE)

    def _x(self, at_us: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (at_us - self._first) / max(1, self._last - self._first)

    def _y(self, rate: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(rate, self._top) / self._top

    def _line(self, points: Sequence[Point], colour: str, width: float) -> None:
        self._draw.line([(SCALE * x, SCALE * y) for x, y in points], fill=colour, width=round(SCALE * width), joint="curve")

    def _text(self, at: Point, text: str, colour: str, size: int, anchor: str) -> None:
        font = ImageFont.load_default(SCALE * size)
        self._draw.text((SCALE * at[0], SCALE * at[1]), text, fill=colour, font=font, anchor=anchor)


def _round_step(least: float) -> float:
    """1, 2 or 5 times a power of ten."""
    power = 10.0 ** floor(log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))


def _latin(text: str) -> str:
    """What the font that comes with the library can write; the message beside it has the rest."""
    return "".join(mark if ord(mark) < 0x250 else "?" for mark in text)
