"""Type-token ratio of generated texts by how far annotators agree on their quality (paper, Figure 9 left)."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ..files import atomic_path
from ..metrics.statistics import CONFIDENCE
from .votes import ORIGINAL_BETTER, Votes

GOOD, SPLIT, BAD = "preferred or equal", "no consensus", "original preferred"
OUTLIERS = 0.05
"""Share of the texts that the figure leaves out, half at each end of a group; numbers are of all texts."""
_COLORS = {BAD: "#d55e00", SPLIT: "0.55", GOOD: "#0072b2"}


def ttr_consensus(votes: Votes, annotations: int, signature: str = "") -> dict[str, Any]:
    """Group the generated texts by what all annotators of their pair said.

    The paper does not say what its annotators agreed on. Here a text is in consensus good if every
    annotator preferred it or found it equally good, in consensus bad if every one preferred the original:
    the two sides of the preference that the tables report. The rest are texts without a consensus.

    Args:
        votes: of one length.
        annotations: that a pair must have to count.
        signature: recipe of the numbers.
    Returns:
        {"groups": {GOOD, SPLIT or BAD: {"n" (texts), "contexts", "mean", "low", "high", "method", "quartiles",
        "lowest", "values"}}, "auc": {"mean", "low", "high", "method"} or None, "unit", "signature"}: TTR as
        percentages. Intervals are over contexts; "low" and "high" are None with fewer than two. "auc" is the chance
        that a random good text has the higher TTR than a random bad one (ties count half), in percent.
    """
    table = votes.table()
    complete = table.sum(axis=1) >= annotations
    against = table[:, ORIGINAL_BETTER]
    good, bad = complete & (against == 0), complete & (against == table.sum(axis=1))
    masks = {GOOD: good, SPLIT: complete & ~good & ~bad, BAD: bad}
    ttr = 100 * np.array([pair.ttr for pair in votes.pairs], dtype=float)
    contexts = np.unique([pair.context for pair in votes.pairs], return_inverse=True)[1]
    return {
        "groups": {name: _described(ttr[mask], contexts[mask]) for name, mask in masks.items()},
        "auc": _auc(ttr, contexts, good, bad),
        "unit": "%",
        "signature": signature,
    }


def draw_consensus(axes: Any, consensus: dict[str, Any]) -> None:
    """Draw one length on matplotlib axes: each text a point, the distribution behind, the mean with its interval.

    Args:
        axes: to draw on.
        consensus: from `ttr_consensus`.
    """
    generator = np.random.default_rng(0)
    labels = []
    for place, (name, color) in enumerate(_COLORS.items()):
        group = consensus["groups"][name]
        values = np.array(group["values"])
        labels.append(name.replace(" ", "\n", 1) + f"\n(n = {len(values)})")
        if not len(values):
            continue
        outside = int(len(values) * OUTLIERS / 2)  # at each end; the values are sorted
        values = values[outside : len(values) - outside]
        if len(values) > 2 and np.ptp(values) > 0:
            for body in axes.violinplot(values, [place], widths=0.8, showextrema=False)["bodies"]:
                body.set(facecolor=color, alpha=0.25)
        axes.plot(place + generator.uniform(-0.09, 0.09, len(values)), values, "o", color=color, markersize=2.5,
                  alpha=0.5, markeredgewidth=0)  # fmt: skip
        axes.plot([place - 0.2, place + 0.2], [group["mean"]] * 2, color=color, linewidth=2)
        if group["low"] is not None:
            axes.plot([place] * 2, [group["low"], group["high"]], color="black", linewidth=1.5)
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.set_ylim(0, 100)
    axes.set_ylabel("TTR of the last 96 tokens, %")
    axes.grid(axis="y", color="0.92")


def plot_consensus(path: Path, by_scenario: dict[str, dict[str, Any]]) -> None:
    """Draw all lengths side by side as a PNG, SVG or PDF file, by the path's ending.

    Args:
        by_scenario: from `ttr_consensus`, by the length's name.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.2 + 2.8 * len(by_scenario), 3.6), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(by_scenario), sharey=True, squeeze=False)[0]
    for axes, (scenario, consensus) in zip(panels, by_scenario.items(), strict=True):
        draw_consensus(axes, consensus)
        axes.set_title(f"{scenario} tokens", fontsize=10)
        axes.label_outer()
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=200)


def _described(values: np.ndarray, contexts: np.ndarray) -> dict[str, Any]:
    """What a group's texts have, with an interval for the mean."""
    described: dict[str, Any] = {
        "n": len(values), "contexts": len(np.unique(contexts)), "mean": None, "low": None, "high": None, "method": None,
        "quartiles": None, "lowest": None, "values": np.sort(values).tolist(),
    }  # fmt: skip
    if len(values):
        described |= {"mean": float(values.mean()), "lowest": float(values.min())}
        described["quartiles"] = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
        described |= _interval(values.mean(), (values - values.mean()) / len(values), contexts, described["contexts"])
    return described


def _auc(ttr: np.ndarray, contexts: np.ndarray, good: np.ndarray, bad: np.ndarray) -> dict[str, Any] | None:
    """How well TTR alone tells good from bad texts (DeLong et al., 1988; with clusters Obuchowski, 1997)."""
    if not good.any() or not bad.any():
        return None
    higher = (np.sign(ttr[good][:, None] - ttr[bad][None, :]) + 1) / 2
    share = float(higher.mean())
    # What each text moves the share by: its own place among those of the other group.
    moves = [(higher.mean(axis=1) - share) / good.sum(), (higher.mean(axis=0) - share) / bad.sum()]
    both = np.concatenate([contexts[good], contexts[bad]])
    smaller = min(len(np.unique(contexts[group])) for group in (good, bad))
    return {"mean": 100 * share, **_interval(100 * share, 100 * np.concatenate(moves), both, smaller)}


def _interval(value: float, moves: np.ndarray, contexts: np.ndarray, count: int) -> dict[str, Any]:
    """Limits on a percentage, from what each text moves it by; texts of one context move it together.

    Groups can be of a dozen texts, where Student's t covers better than a bootstrap (docs/preference.md).

    Args:
        moves, contexts: of each text, shape (N,).
        count: contexts, one more than the degrees of freedom.
    """
    if count < 2:
        return {"low": None, "high": None, "method": None}
    sums = np.bincount(np.unique(contexts, return_inverse=True)[1], weights=moves)
    error = np.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum())
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * error)
    limits = {"low": max(float(value) - half, 0.0), "high": min(float(value) + half, 100.0)}
    return limits | {"method": f"cluster-t|conf:{CONFIDENCE:g}"}
