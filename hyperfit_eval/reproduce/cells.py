"""Metrics of continuations and predictions as the scores in a table's cells."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import files
from ..checkpoint_files import BLOCKS_FILE
from ..documents import Value
from ..metrics import mean_interval, share_interval
from ..scores.predictions import perplexity_score, prediction_scores
from ..scores.score import Score
from ..scores.signature import signature
from ..scores.tables import score_records
from ..scores.training_set import read_training_set
from .models import Model, read_continuations, read_predictions
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


@dataclass(frozen=True)
class Curve:
    """A value for each length, with its interval where there is one."""

    first: int
    """The length that the first value belongs to."""
    values: list[float]
    low: list[float] | None = None
    high: list[float] | None = None


@dataclass(frozen=True)
class ScoreTables:
    """The scores of some continuations by `scores.score_records`: by source of the texts (or `all`), by metric."""

    sources: dict[str, int]
    generated: dict[str, dict[str, Score]]
    original: dict[str, dict[str, Score]]
    curves: dict[str, dict[str, Curve]]
    """By side, of all texts."""


def metrics_json(context: StepContext, step: Step) -> dict[str, Any]:
    """The tables that a metrics step left, as they are in its file."""
    return files.read_json(context.folder_of(step) / FILE, KIND, VERSION)["tables"]


def read_metrics(context: StepContext, step: Step) -> ScoreTables:
    """The tables that a metrics step left."""
    tables = Value(metrics_json(context, step), f"{step.name}/{FILE}", "tables")
    scores: dict[str, dict[str, dict[str, Score]]] = {"generated": {}, "original": {}}
    curves: dict[str, dict[str, Curve]] = {"generated": {}, "original": {}}
    for side, groups in scores.items():
        for group, entries in tables[side].items():
            groups[group] = {}
            for name, entry in entries.items():
                if "values" in entry.names():
                    fields = ("first", "values", "low", "high")
                    curves[side][name] = Curve(**{f: entry.content[f] for f in fields if f in entry.content})
                else:
                    groups[group][name] = Score.from_json(name, entry)
    sources = {name: count.integer() for name, count in tables["sources"].items()}
    return ScoreTables(sources, scores["generated"], scores["original"], curves)


def highest(score: Score, metric: str) -> Score:
    """The highest value over the texts, of a mean: a table's column `max`."""
    if score.highest is None:
        return score
    return Score(metric, score.highest, score.unit, f"{score.signature}|max", n=score.n)


def distribution_scores(setting: StudySetting, context: StepContext, step: Step) -> dict[str, Score]:
    """Table 3 and the first column of Table 1: what a model predicts along the original texts."""
    arrays = read_predictions(context, step)
    return prediction_scores(
        arrays["nll"], arrays["entropy_bits"], arrays["top_mass"], int(arrays["first_scored"]),
        dtype=str(arrays["dtype"]), texts=setting.texts.fingerprint, tok_hash=str(arrays["tokenizer"]),
    )  # fmt: skip


def recipe_of(setting: StudySetting, arrays: dict[str, np.ndarray], length: int) -> dict[str, str]:
    """Fields of the signature of what was measured on `models.predictions`, along `length` tokens of each text."""
    return {
        "texts": setting.texts.fingerprint,
        "N": str(len(arrays["ids"])),
        "len": str(length),
        "dtype": str(arrays["dtype"]),
        "tok_hash": str(arrays["tokenizer"]),
    }


def mean_score(values: np.ndarray, unit: str, metric: str, **recipe: Any) -> Score:
    """A mean over texts with its interval."""
    return Score.of(metric, mean_interval(values), unit, signature(metric, **recipe))


def share_score(has: np.ndarray, metric: str, **recipe: Any) -> Score:
    """Percentage of texts that have a property, bool of shape (texts,), with Wilson's interval."""
    return Score.of(metric, share_interval(100.0 * has), "%", signature(metric, **recipe))


def perplexity(losses: np.ndarray, metric: str, *, avg: str = "all-tokens", **recipe: Any) -> Score:
    """Exp of the mean loss over texts with its interval.

    Args:
        losses: mean of each text, nats, shape (texts,).
        avg: what has equal weight: all tokens, where the texts have one length; else the texts.
    """
    return perplexity_score(losses, metric, signature(metric, avg=avg, **recipe))


def write_values(path: Path, values: Mapping[str, list[Any] | dict[str, Any]]) -> None:
    """Numbers behind a figure, as JSON beside it."""
    files.write_text(path, json.dumps(values, indent=1) + "\n")
