"""Type-token ratio of generated texts on whose quality all annotators agree (paper, Figure 9 left)."""

from pathlib import Path
from typing import Any

import numpy as np

from ..files import atomic_path
from .votes import ORIGINAL_BETTER, Votes

GOOD, BAD = "preferred or equal", "original preferred"
OUTLIERS = 0.05
"""Share of the texts that the figure leaves out, half at each end of a group; numbers are of all texts."""
_COLORS = {BAD: "#d55e00", GOOD: "#0072b2"}


def ttr_consensus(votes: Votes, annotations: int) -> dict[str, Any]:
    """Group the generated texts by what all annotators of their pair said.

    The paper does not say what its annotators agreed on. Here a text is in consensus good if every
    annotator preferred it or found it equally good, in consensus bad if every one preferred the original:
    the two sides of the preference that the tables report.

    Args:
        votes: of one length.
        annotations: that a pair must have to count.
    Returns:
        {"groups": {GOOD or BAD: {"n", "mean", "quartiles", "lowest", "values"}}, "mixed": n, "auc"}: TTR as
        percentages; "auc" is the chance that a random good text has the higher TTR than a random bad one
        (ties count half), or None where a group is empty.
    """
    table = votes.table()
    complete = table.sum(axis=1) >= annotations
    against = table[:, ORIGINAL_BETTER]
    good, bad = complete & (against == 0), complete & (against == table.sum(axis=1))
    ttr = np.array([100 * (pair.ttr or 0.0) for pair in votes.pairs])
    groups = {GOOD: np.sort(ttr[good]), BAD: np.sort(ttr[bad])}
    return {
        "groups": {name: _described(values) for name, values in groups.items()},
        "mixed": int(complete.sum() - good.sum() - bad.sum()),
        "auc": _auc(groups[GOOD], groups[BAD]),
        "unit": "%",
    }


def plot_consensus(path: Path, by_scenario: dict[str, dict[str, Any]]) -> None:
    """Draw the distributions for each length as a PNG, SVG or PDF file, by the path's ending.

    Args:
        by_scenario: from `ttr_consensus`, by the length's name.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.2 + 2.4 * len(by_scenario), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(by_scenario), sharey=True, squeeze=False)[0]
    generator = np.random.default_rng(0)
    for axis, (scenario, consensus) in zip(axes, by_scenario.items(), strict=True):
        labels = []
        for place, (name, color) in enumerate(_COLORS.items()):
            values = np.array(consensus["groups"][name]["values"])
            labels.append(f"{name}\n(n = {len(values)})")
            if not len(values):
                continue
            outside = int(len(values) * OUTLIERS / 2)  # at each end; the values are sorted
            values = values[outside : len(values) - outside]
            if len(values) > 2 and np.ptp(values) > 0:
                for body in axis.violinplot(values, [place], widths=0.8, showextrema=False)["bodies"]:
                    body.set(facecolor=color, alpha=0.25)
            jitter = generator.uniform(-0.09, 0.09, len(values))
            axis.plot(place + jitter, values, "o", color=color, markersize=2.5, alpha=0.6, markeredgewidth=0)
            axis.plot([place - 0.2, place + 0.2], [np.median(values)] * 2, color=color, linewidth=2)
        axis.set_title(f"{scenario} tokens", fontsize=10)
        axis.set_xticks([0, 1], labels, fontsize=8)
        axis.set_xlim(-0.6, 1.6)
        axis.set_ylim(0, 100)
        axis.grid(axis="y", color="0.9")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("TTR of the last 96 tokens, %")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=200)


def _described(values: np.ndarray) -> dict[str, Any]:
    if not len(values):
        return {"n": 0, "mean": None, "quartiles": None, "lowest": None, "values": []}
    return {
        "n": len(values),
        "mean": float(values.mean()),
        "quartiles": np.quantile(values, [0.25, 0.5, 0.75]).tolist(),
        "lowest": float(values[0]),
        "values": values.tolist(),
    }


def _auc(good: np.ndarray, bad: np.ndarray) -> float | None:
    if not len(good) or not len(bad):
        return None
    higher = np.sign(good[:, None] - bad[None, :])
    return float((higher.mean() + 1) / 2)
