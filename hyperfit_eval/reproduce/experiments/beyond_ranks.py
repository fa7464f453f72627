"""Where the hyperfitted model's choices stood in the base model, and how each model scores the other's text.

The paper suggests that hyperfitting teaches to put good tokens at the top ranks (Section 7, "top-rank encouragement").
"""

import numpy as np

from ...records import LONG
from ...scores.score import Score
from .. import drawing
from ..cells import mean_score, perplexity, recipe_of, write_values
from ..models import read_predictions, scoring_step
from ..plan import Plan
from ..section import Figure, Row, Section, Table
from ..steps import Step, StepContext

BEYOND = (1, 10, 100)


def promoted(rank: np.ndarray, recipe: dict[str, str]) -> dict[str, Score]:
    """Share of choices from beyond some ranks of the base model, as scores.

    Args:
        rank: in the base model, 1 for its own choice, shape (texts, tokens).
        recipe: of the signature.
    """
    return {
        f"beyond_{limit}": mean_score(100 * (rank > limit).mean(axis=1), "%", "promoted", beyond=limit, **recipe)
        for limit in BEYOND
    }


def ranks(plan: Plan) -> Step:
    """For each greedy choice of the hyperfitted model its rank in the base model; each model's view of the texts."""
    readers = {"base": plan.base, "hyperfitted": plan.hyperfitted}
    texts = {"base": plan.continuations["base"], "hyperfitted": plan.continuations["hyperfitted"]}
    read = {(text, reader): scoring_step(readers[reader], step) for text, step in texts.items() for reader in readers}

    def make(context: StepContext) -> None:
        seen = read_predictions(context, read["hyperfitted", "base"])
        rank = seen["rank"][:, -LONG:]
        recipe = recipe_of(plan.setting, seen, LONG)
        chosen = promoted(rank, recipe)
        moved = np.array([row[row > 1].mean() for row in rank if (row > 1).any()])
        median = float(np.median(rank[rank > 1])) if (rank > 1).any() else 1.0
        if len(moved):  # a text all of whose choices are the base model's, too, has no depth
            chosen["depth"] = mean_score(moved, "rank", "promotion_depth", **recipe | {"N": len(moved)})
        views = [
            Row(
                f"text by {text}, greedy",
                {f"by_{reader}": _view(context, read[text, reader], plan) for reader in readers},
                text,
            )
            for text in texts
        ]
        _draw(context, rank)
        write_values(context.folder / "ranks.json", {"histogram": np.bincount(rank.ravel())[:1000].tolist()})
        share = {limit: chosen[f"beyond_{limit}"].value for limit in BEYOND}
        Section(
            "ranks",
            "Where the choices stood before",
            "beyond the paper (Section 7 suggests it)",
            [
                f"{share[1]:.0f}% of the hyperfitted model's greedy choices are not what the base model finds most "
                f"probable at that place; {share[10]:.1f}% come from beyond its rank 10, {share[100]:.1f}% from beyond "
                f"100. The median rank of those that moved is {median:.0f}."
            ],
            [
                Table(
                    {
                        **{f"beyond_{limit}": f"beyond rank {limit}, %" for limit in BEYOND},
                        "depth": "mean rank of choices beyond rank 1",
                    },
                    [Row("hyperfitted, greedy", chosen, "hyperfitted")],
                    "Rank in the base model of each token that the hyperfitted model chose.",
                ),
                Table(
                    {f"by_{reader}": f"to {reader}" for reader in readers},
                    views,
                    "Perplexity of each model's greedy text to itself and to the other.",
                ),
            ],
            [
                Figure(
                    "ranks.png", "Share of the hyperfitted model's greedy choices from beyond a rank of the base model."
                )
            ],
        ).write(context.folder)

    return Step("ranks", make, {}, tuple(read.values()))


def _draw(context: StepContext, rank: np.ndarray) -> None:
    with drawing.figure(context.folder / "ranks.png") as axes:
        limits = np.unique(np.logspace(0, np.log10(max(int(rank.max()), 10)), 60).astype(int))
        axes.plot(limits, [100 * (rank > limit).mean() for limit in limits], color=drawing.COLORS[1])
        axes.set_xscale("log")
        axes.set_yscale("log")
        drawing.plain_ticks(axes.xaxis, 1)
        drawing.plain_ticks(axes.yaxis, 1)
        drawing.label_axes(axes, "rank in the base model", "choices from beyond it, %")


def _view(context: StepContext, step: Step, plan: Plan) -> Score:
    seen = read_predictions(context, step)
    return perplexity(seen["nll"][:, -LONG:].mean(axis=1), "perplexity", **recipe_of(plan.setting, seen, LONG))
