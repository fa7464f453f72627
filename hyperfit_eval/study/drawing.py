"""One look for all figures: readable in print, without colour, and on a dark page."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .. import files

# Okabe and Ito's colours, told apart by readers of any colour vision; markers tell the series apart in grey.
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
    for each in drawn.axes:
        each.spines[["top", "right"]].set_visible(False)
    with files.atomic_path(path) as temporary:
        drawn.savefig(temporary, format="png", dpi=160)


def style(name: str) -> dict[str, Any]:
    """Colour, line and marker of a series, as arguments of `plot`."""
    color, line, marker = SERIES[name]
    return {"color": color, "linestyle": line, "marker": marker, "markersize": 3.5}
