"""The paper's Figure 2 for a run: training loss, validation loss and TTR against epochs."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .. import files
from .monitor import Evaluation

TRAINING, VALIDATION, VARIETY = "#0072b2", "#d55e00", "#009e73"
"""Told apart by readers of any color vision; line styles and markers tell them apart in gray."""


def plot_history(path: str | Path, history: Sequence[Evaluation], original_ttr: float | None = None) -> None:
    """Draw the history into a PNG, SVG or PDF file, by the path's ending: losses above, TTR below.

    Args:
        original_ttr: TTR of the validation texts themselves, drawn as a level.
    """
    figure = Figure(figsize=(5.5, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    losses, variety = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    for label, name, color, style in (
        ("training (mean since the point before)", "train_loss", TRAINING, "-o"),
        ("validation", "validation_loss", VALIDATION, "--s"),
    ):
        points = [(row.epoch, getattr(row, name)) for row in history if getattr(row, name) is not None]
        if points:
            losses.plot(*zip(*points, strict=True), style, color=color, label=label, markersize=3.5)
    losses.set_ylabel("loss, nats per token")
    losses.set_ylim(bottom=0)
    losses.legend(frameon=False)
    points = [(row.epoch, 100 * row.ttr) for row in history if row.ttr is not None]
    if points:
        variety.plot(*zip(*points, strict=True), "-^", color=VARIETY, label="greedy continuations", markersize=3.5)
    if original_ttr is not None:
        variety.axhline(100 * original_ttr, color="0.4", linestyle=":", label="original texts")
    variety.set_ylabel("TTR of 96 tokens, %")
    variety.set_ylim(0, 100)
    variety.set_xlabel("epoch")
    variety.xaxis.set_major_locator(MaxNLocator(integer=True))
    if variety.get_legend_handles_labels()[0]:
        variety.legend(frameon=False, loc="lower right")
    for axes in (losses, variety):
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix[1:], dpi=200)
