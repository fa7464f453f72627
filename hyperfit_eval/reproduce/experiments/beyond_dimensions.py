"""Effective dimension of the hidden states, layer by layer, before and after hyperfitting.

arXiv 2605.22579 finds the change in the last block, whose states spread over more dimensions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...tokenizers import bos_ids
from .. import drawing
from ..cells import write_values
from ..models import SCORING_SECONDS, Model
from ..plan import Plan
from ..section import Figure, Section
from ..steps import Step, StepContext

STATES = "dimensions.npz"


def dimensions(plan: Plan) -> Step:
    """Effective dimension of the hidden states of each layer along the original texts, before and after."""
    steps = {model.name: states_step(model) for model in (plan.base, plan.hyperfitted)}

    def make(context: StepContext) -> None:
        values = {}
        for name, step in steps.items():
            with np.load(context.folder_of(step) / STATES) as arrays:
                values[name] = arrays["dimensions"]
        with drawing.figure(context.folder / "dimensions.png") as axes:
            for name, dims in values.items():
                axes.plot(range(len(dims)), dims, **drawing.style(name), label=name)
            layers = "layer (0: embeddings; the last after the final norm)"
            drawing.label_axes(axes, layers, "participation ratio", {"bottom": 0})
        write_values(context.folder / "dimensions.json", {name: dims.tolist() for name, dims in values.items()})
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
        ).write(context.folder)  # fmt: skip

    return Step("dimensions", make, {}, tuple(steps.values()))


def states_step(model: Model) -> Step:
    """The step that keeps a model's hidden states."""
    setting = model.setting

    def make(context: StepContext) -> None:
        loaded, tokenizer = model.load(context)
        rows = model.token_rows(tokenizer)
        ratios = participation_ratios(loaded, rows, bos_ids(tokenizer), setting.batch_size)
        np.savez(context.folder / STATES, dimensions=ratios)

    inputs = {"model": setting.model_fingerprint, "texts": setting.texts.fingerprint}
    return Step(f"states/{model.name}", make, inputs, model.needs, SCORING_SECONDS)


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
