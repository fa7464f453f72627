"""Where the hyperfitted model's choices stood before: ranks, views of each other, dimension of hidden states.

The paper suggests that hyperfitting teaches to put good tokens at the top ranks (Section 7, "top-rank
encouragement"); arXiv 2605.22579 finds the change in the last block, whose states spread over more dimensions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..generation import cut_passages
from ..records import LONG
from ..tokenizers import bos_ids
from . import drawing
from .models import READING_SECONDS, Model, predictions, reading
from .plan import Plan
from .scores import mean_entry, perplexity, recipe_of, write_values
from .section import Figure, Row, Section, Table
from .steps import Step, Workplace

BEYOND = (1, 10, 100)
STATES = "dimensions.npz"


def promoted(rank: np.ndarray, recipe: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Share of choices from beyond some ranks of the base model, as table entries.

    Args:
        rank: in the base model, 1 for its own choice, shape (texts, tokens).
        recipe: of the signature.
    """
    return {
        f"beyond_{limit}": mean_entry(100 * (rank > limit).mean(axis=1), "%", "promoted", beyond=limit, **recipe)
        for limit in BEYOND
    }


def ranks(plan: Plan) -> Step:
    """For each greedy choice of the hyperfitted model its rank in the base model; each model's view of the texts."""
    readers = {"base": plan.base, "hyperfitted": plan.hyperfitted}
    texts = {"base": plan.continuations["base"], "hyperfitted": plan.continuations["hyperfitted"]}
    read = {(text, reader): reading(readers[reader], step) for text, step in texts.items() for reader in readers}

    def make(place: Workplace) -> None:
        seen = predictions(place, read["hyperfitted", "base"])
        rank = seen["rank"][:, -LONG:]
        recipe = recipe_of(plan.setting, seen, LONG)
        chosen = promoted(rank, recipe)
        moved = np.array([row[row > 1].mean() for row in rank if (row > 1).any()])
        median = float(np.median(rank[rank > 1])) if (rank > 1).any() else 1.0
        if len(moved):  # a text all of whose choices are the base model's, too, has no depth
            chosen["depth"] = mean_entry(moved, "rank", "promotion_depth", **recipe | {"N": len(moved)})
        views = [
            Row(
                f"text by {text}, greedy",
                {f"by_{reader}": _view(place, read[text, reader], plan) for reader in readers},
                text,
            )
            for text in texts
        ]
        _draw(place, rank)
        write_values(place.folder / "ranks.json", {"histogram": np.bincount(rank.ravel())[:1000].tolist()})
        share = {limit: chosen[f"beyond_{limit}"]["mean"] for limit in BEYOND}
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
        ).write(place.folder)

    return Step("ranks", make, {}, tuple(read.values()))


def _draw(place: Workplace, rank: np.ndarray) -> None:
    with drawing.figure(place.folder / "ranks.png") as axes:
        limits = np.unique(np.logspace(0, np.log10(max(int(rank.max()), 10)), 60).astype(int))
        axes.plot(limits, [100 * (rank > limit).mean() for limit in limits], color=drawing.COLORS[1])
        axes.set_xscale("log")
        axes.set_yscale("log")
        drawing.plain_ticks(axes.xaxis, 1)
        drawing.plain_ticks(axes.yaxis, 1)
        axes.set_xlabel("rank in the base model")
        axes.set_ylabel("choices from beyond it, %")
        axes.grid(color="0.92")


def _view(place: Workplace, step: Step, plan: Plan) -> dict[str, Any]:
    seen = predictions(place, step)
    return perplexity(seen["nll"][:, -LONG:].mean(axis=1), "perplexity", **recipe_of(plan.setting, seen, LONG))


def dimensions(plan: Plan) -> Step:
    """Effective dimension of the hidden states of each layer along the original texts, before and after."""
    steps = {model.name: _measuring(model) for model in (plan.base, plan.hyperfitted)}

    def make(place: Workplace) -> None:
        values = {}
        for name, step in steps.items():
            with np.load(place.of(step) / STATES) as arrays:
                values[name] = arrays["dimensions"]
        with drawing.figure(place.folder / "dimensions.png") as axes:
            for name, dims in values.items():
                axes.plot(range(len(dims)), dims, **drawing.style(name), label=name)
            axes.set_xlabel("layer (0: embeddings; the last after the final norm)")
            axes.set_ylabel("participation ratio")
            axes.set_ylim(bottom=0)
            axes.grid(color="0.92")
            axes.legend(frameon=False)
        write_values(place.folder / "dimensions.json", {name: dims.tolist() for name, dims in values.items()})
        last = {name: dims[-1] for name, dims in values.items()}
        # The last states have gone through the final norm and are on another scale than the others.
        change = (values["hyperfitted"] / values["base"])[:-1]
        Section(
            "dimensions", "Dimension of the hidden states", "beyond the paper (arXiv 2605.22579)",
            [
                f"Participation ratio after the final norm: {last['base']:.1f} -> {last['hyperfitted']:.1f}; before it "
                f"the largest change is at layer {int(np.abs(np.log(change)).argmax())} "
                f"({change[np.abs(np.log(change)).argmax()]:.2f} times)."
            ],
            figures=[
                Figure("dimensions.png", "(sum of the covariance's eigenvalues)² / sum of their squares, by layer.")
            ],
        ).write(place.folder)  # fmt: skip

    return Step("dimensions", make, {}, tuple(steps.values()))


def _measuring(model: Model) -> Step:
    setting = model.setting

    def make(place: Workplace) -> None:
        loaded, tokenizer = model.load(place)
        rows = [context + original for context, original in cut_passages(tokenizer, setting.texts.passages)]
        found = participation_ratios(loaded, rows, bos_ids(tokenizer), setting.batch_size)
        np.savez(place.folder / STATES, dimensions=found)

    inputs = {"model": setting.model_fingerprint, "texts": setting.texts.fingerprint}
    return Step(f"states/{model.name}", make, inputs, model.needs, READING_SECONDS)


def participation_ratios(model: Any, rows: Sequence[Sequence[int]], prefix: list[int], batch_size: int) -> np.ndarray:
    """Effective dimension of each layer's states over all tokens of the texts.

    The participation ratio of the covariance's eigenvalues, (sum)² / sum of squares: 1 if all states lie on a
    line, the width of the model if they spread evenly (Gao et al., 2017).

    Returns:
        float64, shape (layers + 1,); the first is that of the embeddings.
    """
    import torch

    sums: list[Any] = []
    products: list[Any] = []
    count = 0
    with torch.inference_mode():
        for start in range(0, len(rows), batch_size):
            ids = torch.tensor([[*prefix, *row] for row in rows[start : start + batch_size]], device=model.device)
            states = model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
            flat = [state[:, len(prefix) :].flatten(0, 1).double() for state in states]
            if not sums:
                sums, products = [0.0] * len(flat), [0.0] * len(flat)
            for layer, state in enumerate(flat):
                sums[layer] = sums[layer] + state.sum(0)
                products[layer] = products[layer] + state.T @ state
            count += len(flat[0])
    ratios = []
    for total, product in zip(sums, products, strict=True):
        mean = total / count
        covariance = product / count - torch.outer(mean, mean)
        ratios.append(float(covariance.trace() ** 2 / (covariance * covariance).sum()))
    return np.array(ratios)
