"""Is it only sharpening? The base model, sampled at the temperature whose entropy is the hyperfitted model's.

Open question 1 of the paper's readers: if low entropy were all, this control would do as well.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...files import write_text
from ...generation import Decoding
from ...generation.batching import in_batches
from ...records import LONG
from ...scores.score import difference
from ...tokenizers import bos_ids
from ..cells import metrics_step, perplexity, read_metrics, recipe_of
from ..models import SCORING_SECONDS, continuation_step, read_predictions, scoring_step
from ..plan import LABELS, Plan
from ..section import Row, Section, Table
from ..steps import Skipped, Step, StepContext
from .beyond_ranks import BEYOND, promoted

GRID = np.arange(0.05, 1.51, 0.05)
FILE = "temperature.json"
COLUMNS = {
    "ttr_at_128": "TTR at 128",
    "ttr_at_256": "TTR at 256",
    "rep_4_at_256": "rep-4 at 256",
    "self_bleu": "Self-BLEU",
    "dataset_overlap": "overlap, tokens",
    "fluency": "base model's perplexity of it",
    **{f"beyond_{limit}": f"beyond the base model's rank {limit}, %" for limit in BEYOND},
}


def temperature_step(plan: Plan) -> Step:
    """Find the temperature at which the base model's mean entropy along the texts is the hyperfitted one's."""
    setting = plan.setting

    def make(context: StepContext) -> None:
        model, tokenizer = plan.base.load(context)
        entropies = mean_entropies(model, plan.base.token_rows(tokenizer), bos_ids(tokenizer), GRID, setting.batch_size)
        aim = float(read_predictions(context, plan.predictions["hyperfitted"])["entropy_bits"].mean())
        if not entropies[0] <= aim <= entropies[-1]:
            raise Skipped(
                f"no temperature from {GRID[0]:g} to {GRID[-1]:g} gives the base model an entropy of {aim:.2f} bits "
                f"(it has {entropies[0]:.2f} to {entropies[-1]:.2f})"
            )
        found = {
            "temperature": round(float(np.interp(aim, entropies, GRID)), 3),
            "entropy_bits": aim,
            "at_temperature_1": float(np.interp(1.0, GRID, entropies)),
        }
        write_text(context.folder / FILE, json.dumps(found, indent=1) + "\n")

    needs = (plan.predictions["hyperfitted"],)
    inputs = {"model": setting.model_fingerprint, "texts": setting.texts.fingerprint, "grid": GRID.tolist()}
    return Step("temperature", make, inputs, needs, 3 * SCORING_SECONDS)


def mean_entropies(
    model: Any, rows: Sequence[Sequence[int]], prefix: list[int], temperatures: np.ndarray, batch_size: int
) -> np.ndarray:
    """Mean entropy of the predictions along texts of one length, at each temperature.

    Returns:
        Bits, shape (temperatures,); it rises with temperature.
    """
    import torch

    def run(batch: Sequence[Sequence[int]]) -> list[np.ndarray]:
        ids = torch.tensor([[*prefix, *row] for row in batch], device=model.device)
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits.float()
        means = []
        for temperature in temperatures:
            log_p = torch.log_softmax(logits / float(temperature), dim=-1)
            means.append(-(log_p.exp() * log_p).sum(-1).mean(dim=1) / np.log(2))
        return list(torch.stack(means, dim=1).double().cpu().numpy())

    with torch.inference_mode():
        return np.mean(in_batches(list(rows), min(batch_size, 8), run), axis=0)


def sharpening(plan: Plan) -> Step:
    """Base at the matched temperature beside base, Top-P and hyperfitted."""
    match = temperature_step(plan)

    def at_the_temperature(context: StepContext) -> Decoding:
        return Decoding(do_sample=True, temperature=read_temperature(context, match), seed=plan.setting.seeds[0])

    sampled = continuation_step(plan.base, "matched", at_the_temperature, after=(match,))
    compared = {**plan.continuations, "matched": sampled}
    scored = {**plan.metrics, "matched": metrics_step(sampled, plan.hyperfitted)}
    read = {name: scoring_step(plan.base, step) for name, step in compared.items()}

    def make(context: StepContext) -> None:
        found = json.loads((context.folder_of(match) / FILE).read_text())
        labels = LABELS | {"base": "base, greedy, at this or any temperature"}
        labels |= {"matched": f"base, sampled at temperature {found['temperature']:g}"}
        rows = []
        for name, step in scored.items():
            table = read_metrics(context, step).generated["all"]
            seen = read_predictions(context, read[name])
            losses = seen["nll"][:, -LONG:].mean(axis=1)
            recipe = recipe_of(plan.setting, seen, LONG)
            cells = {column: table[column] for column in COLUMNS if column in table}
            cells["fluency"] = perplexity(losses, "fluency", **recipe)
            rows.append(Row(labels[name], cells | promoted(seen["rank"][:, -LONG:], recipe), name))
        ttr = {row.group: row.cells["ttr_at_256"] for row in rows}
        gap = difference(ttr["matched"], ttr["hyperfitted"])
        reached = (
            "reaches the variety without hyperfitting" if gap.side > 0
            else "does not reach that variety" if gap.side < 0
            else "cannot be told from hyperfitting in its variety"
        )  # fmt: skip
        Section(
            "sharpening",
            "Is it only sharpening?",
            "beyond the paper",
            [
                f"At temperature {found['temperature']:g} the base model's mean entropy is the hyperfitted model's, "
                f"{found['entropy_bits']:.2f} bits (at 1: {found['at_temperature_1']:.2f}). Temperature never changes "
                "which token is the most probable: greedily, the sharpened base model writes what the base model "
                f"writes, with a TTR of {ttr['base'].value:.1f}.",
                f"TTR sampled at that temperature {ttr['matched'].value:.1f}, hyperfitted greedy "
                f"{ttr['hyperfitted'].value:.1f}, difference {gap.text(sign='+')}: here sampling {reached}.",
                f"Tokens in a row that are in the training set: {_mean(rows, 'matched', 'dataset_overlap'):.1f} on "
                f"average when sampled, {_mean(rows, 'hyperfitted', 'dataset_overlap'):.1f} when hyperfitted.",
                f"Of the sampled tokens {_mean(rows, 'matched', 'beyond_10'):.1f}% come from beyond the base model's "
                f"rank 10 and {_mean(rows, 'matched', 'beyond_100'):.1f}% from beyond 100; of the hyperfitted model's "
                f"choices {_mean(rows, 'hyperfitted', 'beyond_10'):.1f}% and "
                f"{_mean(rows, 'hyperfitted', 'beyond_100'):.1f}%. Sharpening alone leaves greedy choices at rank 1.",
            ],
            [Table(COLUMNS, rows, digits={"fluency": 0})],
        ).write(context.folder)

    return Step("sharpening", make, {}, (match, *scored.values(), *read.values()))


def read_temperature(context: StepContext, match: Step) -> float:
    """What `matching` found."""
    return float(json.loads((Path(context.folder_of(match)) / FILE).read_text())["temperature"])


def _mean(rows: list[Row], group: str, column: str) -> float:
    return next(row.cells[column].value for row in rows if row.group == group)
