"""Metrics of continuations and predictions as table entries: mean, interval, number of texts, unit, signature."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from .. import files
from ..checkpoint_files import BLOCKS_FILE
from ..metrics import mean_interval, share_interval
from ..scores.signature import prediction_signature, signature
from ..scores.tables import score_records
from ..scores.training_set import read_training_set
from .models import Model, context_losses, read_continuations, read_predictions
from .setting import StudySetting
from .steps import Step, StepContext

KIND, VERSION = "study-scores", 1
FILE = "scores.json"
METRICS_SECONDS = 3.0


def metrics_step(step: Step, training: Model) -> Step:
    """Metrics of the continuations of a step; overlaps are those with the blocks that `training` was trained on."""

    def make(context: StepContext) -> None:
        generation, records = read_continuations(context, step)
        training_set = read_training_set(training.checkpoint(context) / BLOCKS_FILE)
        tables = score_records(generation, records, training=training_set)
        files.write_json(context.folder / FILE, KIND, VERSION, {"tables": tables})

    name = f"score/{step.name.removeprefix('continue/')}"
    return Step(name, make, {"of": step.name}, (step, *training.needs), METRICS_SECONDS)


def read_metrics(context: StepContext, step: Step) -> dict[str, Any]:
    """Tables of `scores.score_records` that a metrics step left."""
    return files.read_json(context.folder_of(step) / FILE, KIND, VERSION)["tables"]


def highest(entry: dict[str, Any]) -> dict[str, Any]:
    """The highest value over the texts, of an entry with a mean: a table's column `max`."""
    if "max" not in entry:
        return entry
    return {"value": entry["max"], "n": entry["n"], "unit": entry["unit"], "signature": entry["signature"] + "|max"}


def distribution_entries(setting: StudySetting, context: StepContext, step: Step) -> dict[str, dict[str, Any]]:
    """Table 3 and the first column of Table 1: what a model predicts along the original texts."""
    arrays = read_predictions(context, step)
    losses = arrays["nll"]
    entries = {
        "context_perplexity": perplexity(context_losses(arrays), "context_perplexity"),
        "perplexity": perplexity(losses.mean(axis=1), "perplexity"),
        "entropy_bits": mean_entry(arrays["entropy_bits"].mean(axis=1), "bits", "entropy_bits"),
    }
    for column, k in enumerate((1, 3, 5)):
        mass = 100 * arrays["top_mass"][:, :, column].mean(axis=1)
        entries[f"top_{k}_mass"] = mean_entry(mass, "%", f"top_{k}_mass")
    for name, entry in entries.items():
        entry["signature"] = prediction_signature(
            name, N=len(losses), dtype=str(arrays["dtype"]), texts=setting.texts.fingerprint,
            tok_hash=str(arrays["tokenizer"]), bos=int(arrays["first_scored"]) == 0,
        )  # fmt: skip
    return entries


def recipe_of(setting: StudySetting, arrays: dict[str, np.ndarray], length: int) -> dict[str, Any]:
    """Fields of the signature of what was measured on `models.predictions`, along `length` tokens of each text."""
    return {
        "texts": setting.texts.fingerprint,
        "N": len(arrays["ids"]),
        "len": length,
        "dtype": str(arrays["dtype"]),
        "tok_hash": str(arrays["tokenizer"]),
    }


def mean_entry(values: np.ndarray, unit: str, metric: str, **recipe: Any) -> dict[str, Any]:
    """A mean over texts with its interval."""
    return {**mean_interval(values).as_dict(), "unit": unit, "signature": signature(metric, **recipe)}


def share_entry(has: np.ndarray, metric: str, **recipe: Any) -> dict[str, Any]:
    """Percentage of texts that have a property, bool of shape (texts,), with Wilson's interval."""
    return {**share_interval(100.0 * has).as_dict(), "unit": "%", "signature": signature(metric, **recipe)}


def perplexity(losses: np.ndarray, metric: str, *, avg: str = "all-tokens", **recipe: Any) -> dict[str, Any]:
    """Exp of the mean loss over texts; the interval is that of the mean loss, exponentiated.

    Args:
        losses: mean of each text, nats, shape (texts,).
        avg: what has equal weight: all tokens, where the texts have one length; else the texts.
    """
    entry = mean_entry(losses, "perplexity", metric, avg=avg, **recipe)
    return entry | {end: math.exp(entry[end]) for end in ("mean", "low", "high")}


def write_values(path: Path, values: dict[str, Any]) -> None:
    """Numbers behind a figure, as JSON beside it."""
    files.write_text(path, json.dumps(values, indent=1) + "\n")
