"""Type-token ratio of generated texts by how far annotators agree on their quality (paper, Figure 9 left)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ..documents import Value
from ..files import atomic_path
from ..metrics.statistics import CONFIDENCE
from ..scores.score import Score
from .votes import ORIGINAL_BETTER, Votes

GOOD, SPLIT, BAD = "preferred or equal", "no consensus", "original preferred"
"""Groups of generated texts by what all annotators of their pair said."""
OUTLIERS = 0.05
"""Share of the texts that the figure leaves out, half at each end of a group; numbers are of all texts."""
_COLORS = {BAD: "#d55e00", SPLIT: "0.55", GOOD: "#0072b2"}


@dataclass(frozen=True)
class Group:
    """TTR of the texts of one group of the `Consensus`, percent.

    Attributes:
        n: texts.
        mean, quartiles, lowest: None without texts.
        low, high, method: of the interval of the mean over contexts; None with fewer than two.
        values: sorted.
    """

    n: int
    contexts: int
    mean: float | None
    low: float | None
    high: float | None
    method: str | None
    quartiles: list[float] | None
    lowest: float | None
    values: list[float]

    @classmethod
    def from_json(cls, entry: Value) -> "Group":
        """Read `asdict` back.

        Raises:
            HyperfitError: it is damaged.
        """
        quartiles = entry.get("quartiles")
        return cls(
            n=entry["n"].integer(),
            contexts=entry["contexts"].integer(),
            mean=entry.optional("mean", Value.number),
            low=entry.optional("low", Value.number),
            high=entry.optional("high", Value.number),
            method=entry.optional("method", Value.text),
            quartiles=[value.number() for value in quartiles.elements()] if quartiles else None,
            lowest=entry.optional("lowest", Value.number),
            values=[value.number() for value in entry["values"].elements()],
        )

    @property
    def score(self) -> Score:
        """The mean as a score; unavailable without texts."""
        if self.mean is None:
            return Score.missing("ttr", "no texts")
        return Score("ttr", self.mean, "%", low=self.low, high=self.high, method=self.method, n=self.contexts)


@dataclass(frozen=True)
class Share:
    """Chance that a random good text has the higher TTR than a random bad one, percent; ties count half."""

    mean: float
    low: float | None
    high: float | None
    method: str | None

    @classmethod
    def from_json(cls, entry: Value) -> "Share":
        """Read `asdict` back.

        Raises:
            HyperfitError: it is damaged.
        """
        low, high = (entry.optional(end, Value.number) for end in ("low", "high"))
        return cls(entry["mean"].number(), low, high, entry.optional("method", Value.text))

    @property
    def score(self) -> Score:
        """The same as a score."""
        return Score("auc", self.mean, "%", low=self.low, high=self.high, method=self.method)


@dataclass(frozen=True)
class Consensus:
    """TTR of generated texts by how far annotators agree on their quality, at one length.

    Attributes:
        groups: by GOOD, SPLIT and BAD.
        auc: None unless there are good and bad texts.
    """

    groups: dict[str, Group]
    auc: Share | None
    unit: str = "%"
    signature: str = ""

    @classmethod
    def from_json(cls, entry: Value) -> "Consensus":
        """Read `asdict` back.

        Raises:
            HyperfitError: it is damaged.
        """
        groups = {name: Group.from_json(entry["groups"][name]) for name in (GOOD, SPLIT, BAD)}
        auc = entry.optional("auc", Share.from_json)
        return cls(groups, auc, entry["unit"].text(), entry["signature"].text())


def ttr_consensus(votes: Votes, annotations: int, signature: str = "") -> Consensus:
    """Group the generated texts by what all annotators of their pair said.

    The paper does not say what its annotators agreed on. Here a text is in consensus good if every
    annotator preferred it or found it equally good, in consensus bad if every one preferred the original:
    the two sides of the preference that the tables report. The rest are texts without a consensus.

    Args:
        votes: of one length.
        annotations: that a pair must have to count.
        signature: recipe of the numbers.
    """
    table = votes.table()
    complete = table.sum(axis=1) >= annotations
    against = table[:, ORIGINAL_BETTER]
    good, bad = complete & (against == 0), complete & (against == table.sum(axis=1))
    masks = {GOOD: good, SPLIT: complete & ~good & ~bad, BAD: bad}
    ttr = 100 * np.array([pair.ttr for pair in votes.pairs], dtype=float)
    contexts = np.unique([pair.context for pair in votes.pairs], return_inverse=True)[1]
    groups = {name: _described(ttr[mask], contexts[mask]) for name, mask in masks.items()}
    return Consensus(groups, _auc(ttr, contexts, good, bad), signature=signature)


def draw_consensus(axes: Any, consensus: Consensus) -> None:
    """Draw one length on matplotlib axes: each text a point, the distribution behind, the mean with its interval."""
    generator = np.random.default_rng(0)
    labels = []
    for column, (name, color) in enumerate(_COLORS.items()):
        group = consensus.groups[name]
        values = np.array(group.values)
        labels.append(name.replace(" ", "\n", 1) + f"\n(n = {len(values)})")
        if not len(values):
            continue
        outside = int(len(values) * OUTLIERS / 2)  # at each end; the values are sorted
        values = values[outside : len(values) - outside]
        if len(values) > 2 and np.ptp(values) > 0:
            for body in axes.violinplot(values, [column], widths=0.8, showextrema=False)["bodies"]:
                body.set(facecolor=color, alpha=0.25)
        axes.plot(column + generator.uniform(-0.09, 0.09, len(values)), values, "o", color=color, markersize=2.5,
                  alpha=0.5, markeredgewidth=0)  # fmt: skip
        axes.plot([column - 0.2, column + 0.2], [group.mean] * 2, color=color, linewidth=2)
        if group.low is not None:
            axes.plot([column] * 2, [group.low, group.high], color="black", linewidth=1.5)
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.set_ylim(0, 100)
    axes.set_ylabel("TTR of the last 96 tokens, %")
    axes.grid(axis="y", color="0.92")


def plot_consensus(path: Path, by_scenario: Mapping[str, Consensus]) -> None:
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


def _described(values: np.ndarray, contexts: np.ndarray) -> Group:
    """A group of texts, with an interval for the mean."""
    count = len(np.unique(contexts))
    if not len(values):
        return Group(0, count, None, None, None, None, None, None, [])
    mean = float(values.mean())
    low, high, method = _interval(mean, (values - mean) / len(values), contexts, count)
    quartiles = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return Group(len(values), count, mean, low, high, method, quartiles, float(values.min()), np.sort(values).tolist())


def _auc(ttr: np.ndarray, contexts: np.ndarray, good: np.ndarray, bad: np.ndarray) -> Share | None:
    """How well TTR alone tells good from bad texts (DeLong et al., 1988; with clusters Obuchowski, 1997)."""
    if not good.any() or not bad.any():
        return None
    higher = (np.sign(ttr[good][:, None] - ttr[bad][None, :]) + 1) / 2
    share = float(higher.mean())
    # What each text moves the share by: its rank among those of the other group.
    moves = [(higher.mean(axis=1) - share) / good.sum(), (higher.mean(axis=0) - share) / bad.sum()]
    both = np.concatenate([contexts[good], contexts[bad]])
    smaller = min(len(np.unique(contexts[group])) for group in (good, bad))
    return Share(100 * share, *_interval(100 * share, 100 * np.concatenate(moves), both, smaller))


def _interval(
    value: float, moves: np.ndarray, contexts: np.ndarray, count: int
) -> tuple[float, float, str] | tuple[None, None, None]:
    """Limits on a percentage and their method, from what each text moves it by; a context's texts move it together.

    Groups can be of a dozen texts, where Student's t covers better than a bootstrap (docs/preference.md).

    Args:
        moves, contexts: of each text, shape (N,).
        count: contexts, one more than the degrees of freedom.
    """
    if count < 2:
        return None, None, None
    sums = np.bincount(np.unique(contexts, return_inverse=True)[1], weights=moves)
    error = np.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum())
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * error)
    return max(value - half, 0.0), min(value + half, 100.0), f"cluster-t|conf:{CONFIDENCE:g}"
