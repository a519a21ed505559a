"""[pure] Lines and bars as SVG, for pages that are read in the light and in the dark.

The reader's own colour scheme chooses the colours (`prefers-color-scheme`), which are those of Okabe and Ito, lighter in the dark.
Every line and bar has its name beside it, so there is no legend. Axes of lines are linear from zero or logarithmic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

WIDTH = 760
LEFT, RIGHT, TOP, BOTTOM = 78, 170, 84, 56
BARS_TOP = 62
PLOT_HEIGHT = 260
BAR, GAP = 20, 10  # px
BAR_LEFT = 300
CHARACTER = 7  # px, about
NAME_PX = 16  # that two names need between them
STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600; font-size: 15px } .faint { fill: #59636e }
.grid { stroke: #d8dee4; stroke-width: 1 } .line { fill: none; stroke-width: 2.2 } .bar { stroke: none }
.s0 { stroke: #0072b2 } .s1 { stroke: #d55e00 } .s2 { stroke: #00795a } .s3 { stroke: #8a5a00 }
.f0 { fill: #0072b2 } .f1 { fill: #d55e00 } .f2 { fill: #00795a } .f3 { fill: #8a5a00 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .faint { fill: #9198a1 } .grid { stroke: #3d444d }
.s0 { stroke: #56b4e9 } .s1 { stroke: #f08a4b } .s2 { stroke: #3fc9a0 } .s3 { stroke: #e0b040 }
.f0 { fill: #56b4e9 } .f1 { fill: #f08a4b } .f2 { fill: #3fc9a0 } .f3 { fill: #e0b040 }
}
</style>"""


@dataclass(frozen=True)
class Line:
    """A named line; its points go from left to right."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Axis:
    """What is along an axis."""

    label: str
    log: bool = False


@dataclass(frozen=True)
class _Scale:
    """From values to pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    def at(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1, 2, 5) if self.high / self.low < 200 else (1,)
            ticks = [step * 10.0**power for power in powers for step in steps]
        else:
            step = _nice(self.high / 5)
            ticks = [step * number for number in range(int(self.high / step) + 1)]
        return [tick for tick in ticks if self.low * 0.999 <= tick <= self.high * 1.001]


def lines(title: str, message: str, x: Axis, y: Axis, shown: Sequence[Line]) -> str:
    """A chart of lines."""
    height = TOP + PLOT_HEIGHT + BOTTOM
    places = _scale([p[0] for line in shown for p in line.points], x, LEFT, WIDTH - RIGHT)
    values = _scale([p[1] for line in shown for p in line.points], y, height - BOTTOM, TOP)
    parts = [*_grid(places, values, x, y, height, shown[0])]
    ends = _apart([values.at(line.points[-1][1]) for line in shown])
    for number, (line, end) in enumerate(zip(shown, ends)):
        dots = [(places.at(px), values.at(py)) for px, py in line.points]
        parts.append(f'<polyline class="line s{number}" points="{" ".join(f"{dx:.1f},{dy:.1f}" for dx, dy in dots)}"/>')
        parts += [f'<circle class="f{number}" cx="{dx:.1f}" cy="{dy:.1f}" r="3.5"/>' for dx, dy in dots]
        parts.append(_text(dots[-1][0] + 10, end + 4, line.name, f"f{number}"))
    return _document(height, title, message, parts)


def bars(title: str, message: str, unit: str, rows: Sequence[tuple[str, Sequence[tuple[str, float]]]]) -> str:
    """Horizontal bars from zero: in each row one for each name and value; the names are told once, in the first row."""
    height, parts = BARS_TOP, []
    most = max(value for _, row in rows for _, value in row)
    scale = _Scale(0, most, BAR_LEFT, WIDTH - RIGHT + 20, log=False)
    for place, (name, row) in enumerate(rows):
        middle = height + len(row) * BAR / 2
        parts.append(_text(BAR_LEFT - 10, middle + 4, name, anchor="end"))
        for number, (kind, value) in enumerate(row):
            end = scale.at(value)
            parts.append(
                f'<rect class="bar f{number}" x="{BAR_LEFT}" y="{height + 1}" width="{end - BAR_LEFT:.1f}" height="{BAR - 2}" rx="2"/>'
            )
            shown = f"{spoken(value)} {unit}" + (f" {kind}" if place == 0 and kind else "")
            parts.append(_text(end + 6, height + BAR / 2 + 5, shown, f"f{number}" if kind else ""))
            height += BAR
        height += GAP
    return _document(height + GAP, title, message, parts)


def spoken(value: float) -> str:
    """A number as one says it: 1,200,000 is 1.2M."""
    for limit, letter in ((1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e6 if letter == 'M' else 1e3):.3g}{letter}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _grid(places: _Scale, values: _Scale, x: Axis, y: Axis, height: int, first: Line) -> Iterator[str]:
    """Along x the places of the first line's points have a number."""
    bottom = height - BOTTOM
    for tick in values.ticks():
        at = values.at(tick)
        yield f'<line class="grid" x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}"/>'
        yield _text(LEFT - 8, at + 4, spoken(tick), "faint", anchor="end")
    for tick, _ in first.points:
        yield _text(places.at(tick), bottom + 20, spoken(tick), "faint", anchor="middle")
    yield _text((LEFT + WIDTH - RIGHT) / 2, bottom + 42, x.label, "faint", anchor="middle")
    yield _text(LEFT, TOP - 10, y.label, "faint")


def _scale(found: Sequence[float], axis: Axis, start: float, end: float) -> _Scale:
    if axis.log:
        room = 1.0 if start < end else 1.15
        return _Scale(min(found) / room, max(found) * room, start, end, log=True)
    return _Scale(0.0, max(found) * 1.1, start, end, log=False)


def _nice(step: float) -> float:
    """1, 2 or 5 times a power of ten, not less."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(nice * power for nice in (1, 2, 5, 10) if nice * power >= step * 0.999)


def _apart(wanted: Sequence[float]) -> list[float]:
    """The heights nearest to those wanted at which names do not lie upon each other."""
    found = [*wanted]
    order = sorted(range(len(found)), key=found.__getitem__)
    for above, below in pairwise(order):
        found[below] = max(found[below], found[above] + NAME_PX)
    return found


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _document(height: int, title: str, message: str, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(f"{title}: {message}")}">'
    )
    return "\n".join([head, STYLE, _text(12, 22, title, "title"), _text(12, 42, message, "faint"), *parts, "</svg>\n"])
