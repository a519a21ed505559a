"""The incident as a picture: the rates of the whole time, and of the hours around it.

Colours are those of Okabe and Ito, which the colour-blind tell apart; every line has its name beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.simulation.people import HOUR_US
from tests.simulation.study import USUAL_WINDOW, Reading, Study

MISSING = "the picture needs matplotlib: pip install -e '.[docs]'"
BLACK, ORANGE, GREEN, BLUE, GREY = "#000000", "#D55E00", "#009E73", "#0072B2", "#666666"
TRUTH = "truth"
DAYS = {-36: "the day before", -12: "the day", 12: "the day after"}
ADJUSTED, PLAIN, MATURE = f"adjusted, {USUAL_WINDOW // 60} min", "plain, 24 h", "mature, newest hour"


def available() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw(study: Study, file: Path) -> None:
    """Write the picture; the ending of the file's name says in which format."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "funnelwatch"  # the same picture is the same file
    mpl.rcParams["font.size"] = 10
    from matplotlib import pyplot as plt

    figure, (whole, close) = plt.subplots(2, 1, figsize=(10, 8.6), height_ratios=(1, 1.15), layout="constrained")
    _panel(whole, study, -36, 36, closely=False)
    _panel(close, study, -1, 5, closely=True)
    metadata = {"Date": None} if file.suffix == ".svg" else {}
    figure.savefig(file, dpi=150, facecolor="white", metadata=metadata)
    plt.close(figure)


def _panel(axes: Any, study: Study, first: int, last: int, *, closely: bool) -> None:
    shown = [r for r in study.readings if first * HOUR_US <= r.moment_us - study.broken_us <= last * HOUR_US]
    if not closely:
        shown = [r for r in shown if (r.moment_us - study.broken_us) % (15 * 60 * 1_000_000) == 0]
    hours = [(r.moment_us - study.broken_us) / HOUR_US for r in shown]
    rates = [r.adjusted[USUAL_WINDOW] for r in shown]
    axes.fill_between(hours, [r.low for r in rates], [r.high for r in rates], color=BLUE, alpha=0.22, linewidth=0)
    axes.plot(hours, [r.rate for r in rates], color=BLUE, linewidth=1.6)
    axes.plot(hours, [r.plain.rate for r in shown], color=ORANGE, linewidth=2, linestyle=(0, (6, 2)))
    axes.plot(hours, [r.mature.rate for r in shown], color=GREEN, linewidth=2, linestyle="-.")
    axes.step(hours, [r.truth for r in shown], color=BLACK, linewidth=1.4, linestyle=":", where="pre")
    _frame(axes, first, last)
    _moments(axes, study, last, closely=closely)
    _names(axes, study, closely=closely)


def _frame(axes: Any, first: int, last: int) -> None:
    axes.set_xlim(first, last)
    axes.set_ylim(0, 0.4)
    axes.set_ylabel("pay rate")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    step = 1 if last < 12 else 6
    ticks = range(first, last + 1, step)
    axes.set_xticks(list(ticks), [_clock(hour) for hour in ticks])


def _clock(hour: int) -> str:
    """Hours after noon of the day of the incident as a time, with the day below each midnight."""
    return f"{(hour + 12) % 24:02d}:00\n{DAYS.get(hour, '')}"


def _moments(axes: Any, study: Study, last: int, *, closely: bool) -> None:
    """The incident, and when each rate shows it."""
    axes.axvline(0, color=GREY, linewidth=1.2)
    axes.annotate("paying breaks", (0, 0.395), xytext=(4, 0), textcoords="offset points", va="top", color=GREY)
    marks: Sequence[tuple[str, str, Callable[[Reading], float]]] = (
        (ADJUSTED, BLUE, lambda r: r.adjusted[USUAL_WINDOW].rate or 0.0),
        (PLAIN, ORANGE, lambda r: r.plain.rate),
        (MATURE, GREEN, lambda r: r.mature.rate),
    )
    for name, colour, of in marks:
        minutes = study.delays[name].shown
        if minutes is None or minutes / 60 > last:
            continue
        reading = next(r for r in study.readings if r.moment_us - study.broken_us >= minutes * 60_000_000)
        axes.plot([minutes / 60], [of(reading)], "o", color=colour, markersize=8, markeredgecolor="white", zorder=5)
        told = f"shows it after {minutes:.0f} min" if minutes < 60 else f"shows it after {minutes / 60:.1f} hours"
        offset = {ADJUSTED: (22, -58), PLAIN: (-4, -22)}.get(name, (8, 5)) if closely else (8, 5)
        axes.annotate(told, (minutes / 60, of(reading)), xytext=offset, textcoords="offset points", color=colour, fontweight="bold")


def _names(axes: Any, study: Study, *, closely: bool) -> None:
    """The name of each line, beside it."""
    axes.set_title(
        "The hours around it" if closely else "Three days; from noon of the second on, 60% of the conversions fail",
        loc="left",
        fontweight="bold",
    )
    if closely:
        places = {ADJUSTED: (2.2, 0.145), PLAIN: (0.75, 0.268), MATURE: (2.2, 0.308), TRUTH: (4.3, 0.085)}
        axes.plot([-1, 5], [study.lowest_plain] * 2, color=ORANGE, linewidth=0.9)
        axes.text(3.1, study.lowest_plain + 0.005, "the lowest it was on healthy days", color=ORANGE)
    else:
        places = {ADJUSTED: (-35, 0.352), PLAIN: (-35, 0.222), MATURE: (2.5, 0.318), TRUTH: (26, 0.135)}
    texts = {
        ADJUSTED: (f"adjusted rate, {USUAL_WINDOW // 60}-minute window, with 95% limits", BLUE),
        PLAIN: ("plain rate of the last 24 hours", ORANGE),
        MATURE: ("mature entries only (the newest finished hour)", GREEN),
        TRUTH: ("the truth", BLACK),
    }
    for name, (text, colour) in texts.items():
        axes.text(*places[name], text, color=colour)
