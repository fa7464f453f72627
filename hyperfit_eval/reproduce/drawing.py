"""One look for all figures: readable in print, without color, and on a dark page."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from .. import files

# Okabe and Ito's colors, told apart by readers of any color vision; markers tell the series apart in gray.
SERIES = {
    "original texts": ("0.35", ":", ""),
    "base": ("#0072b2", "-", "o"),
    "top_p": ("#56b4e9", "--", "s"),
    "hyperfitted": ("#d55e00", "-", "^"),
    "blocked": ("#cc79a7", "--", "v"),
}
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


@contextmanager
def figure(path: Path, width: float = 5.5, height: float = 3.4, **grid: Any) -> Iterator[Any]:
    """Axes to draw on (one, or an array with nrows and ncols); the PNG is written on leaving."""
    drawn = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(drawn)
    axes = drawn.subplots(**grid)
    yield axes
    for panel in drawn.axes:
        panel.spines[["top", "right"]].set_visible(False)
    with files.atomic_path(path) as temporary:
        # Tight: a legend beside or above the axes stays whole.
        drawn.savefig(temporary, format="png", dpi=160, bbox_inches="tight", pad_inches=0.05)


PERCENT = {"bottom": 0, "top": 100}
"""Limits of an axis of shares."""
ABOVE = {"fontsize": 8, "loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 2}
"""Place of a legend above the axes."""


def label_axes(axes: Any, x: str, y: str, ylim: Mapping[str, float] | None = None, **legend: Any) -> None:
    """Titles of both axes, a grid, limits of the upright axis, and a legend where series have names.

    Args:
        ylim: arguments of `set_ylim`.
        legend: arguments of `legend`.
    """
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if ylim:
        axes.set_ylim(**ylim)
    axes.grid(color="0.92")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, **legend)


def name_points(axes: Any, points: Sequence[tuple[float, float, str]]) -> None:
    """Write a name beside each point, where it meets no other name, no point and no edge.

    Called last, when limits and scales are set.
    Each name takes the first free place among right, left, above, below, and then farther out, with a line.

    Args:
        points: x, y, name.
    """
    axes.figure.draw_without_rendering()  # what is placed by the layout has its place now
    renderer = axes.figure.canvas.get_renderer()
    frame, taken = axes.get_window_extent(renderer), []
    pixels = axes.figure.dpi / 72
    for x, y, _ in points:
        a, b = axes.transData.transform((x, y))
        taken.append(Bbox.from_bounds(a - 3 * pixels, b - 3 * pixels, 6 * pixels, 6 * pixels))
    for x, y, name in sorted(points):
        for right, up in _PLACES:
            far = max(abs(right), abs(up)) > 12
            label = axes.annotate(
                name, (x, y), xytext=(right, up), textcoords="offset points", fontsize=7, color="0.3",
                ha="left" if right > 0 else "right" if right < 0 else "center", va="center",
                arrowprops={"arrowstyle": "-", "color": "0.7", "linewidth": 0.6, "shrinkB": 3} if far else None,
            )  # fmt: skip
            label.update_positions(renderer)
            box = Text.get_window_extent(label, renderer)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if (inside and not any(box.overlaps(other) for other in taken)) or (right, up) == _PLACES[-1]:
                break
            label.remove()
        taken.append(box)


_PLACES = [
    (right * reach, up * reach)
    for reach in (6, 10, 18, 28, 40, 54)
    for right, up in ((1, 0), (-1, 0), (0, 1.3), (0, -1.3), (1, 1), (1, -1), (-1, 1), (-1, -1))
]
"""Offsets of names from their points, in points of 1/72 inch."""


def plain_ticks(axis: Any, *steps: int) -> None:
    """Numbers in place of powers of ten at a logarithmic axis, at these multiples of each power."""
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def style(name: str) -> dict[str, str | float]:
    """Color, line and marker of a series, as arguments of `plot`."""
    color, line, marker = SERIES[name]
    return {"color": color, "linestyle": line, "marker": marker, "markersize": 3.5}
