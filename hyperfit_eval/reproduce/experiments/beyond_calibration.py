"""What gets better while perplexity gets worse: accuracy and calibration on texts the model has not seen."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...metrics.calibration import BINS, calibration_error, reliability
from ...scores.score import Score
from ...scores.signature import signature
from ...training.folder import HISTORY
from ...training.monitor import Evaluation, read_history
from .. import drawing
from ..cells import mean_score, recipe_of
from ..models import read_predictions
from ..plan import Plan
from ..section import Figure, Row, Section, Table
from ..steps import Step, StepContext

COLUMNS = {
    "top_1_accuracy": "right at top 1, %",
    "top_3_accuracy": "right among top 3, %",
    "top_5_accuracy": "right among top 5, %",
    "confidence": "mean top-1 mass, %",
    "calibration_error": "calibration error, points",
}
ALONG = {
    "perplexity": "perplexity",
    "top_1": "right at top 1, %",
    "top_3": "right among top 3, %",
    "top_5": "right among top 5, %",
    "confidence": "mean top-1 mass, %",
    "calibration_error": "calibration error, points",
    "ttr": "TTR, %",
}
LOWER_IS_BETTER = ("perplexity", "calibration_error")


def calibration(plan: Plan) -> Step:
    """Accuracy at top 1, 3 and 5, expected calibration error and reliability along the original texts."""

    def make(context: StepContext) -> None:
        arrays = {name: read_predictions(context, step) for name, step in plan.predictions.items()}
        rows = [
            Row(name, _entries(values, recipe_of(plan.setting, values, 256)), name) for name, values in arrays.items()
        ]
        with drawing.figure(context.folder / "reliability.png", 4.2, 4.0) as axes:
            axes.plot([0, 100], [0, 100], color="0.6", linestyle=":", label="calibrated")
            for name, values in arrays.items():
                confidence, right, _ = reliability(values["top_mass"][..., 0], values["rank"] == 1)
                axes.plot(100 * confidence, 100 * right, **drawing.style(name), label=name)
            drawing.label_axes(axes, "probability of the most probable token, %", "how often it is the text's, %")
        history, _ = read_history(plan.hyperfitted.checkpoint(context) / HISTORY)
        known = [row for row in history if row.validation_loss is not None]
        _draw_history(context.folder / "history.png", known)
        before, after = (row.cells for row in rows)
        findings = [
            f"The most probable token is the text's at {before['top_1_accuracy'].value:.1f}% of the places before "
            f"hyperfitting and at {after['top_1_accuracy'].value:.1f}% after, while its mean probability goes from "
            f"{before['confidence'].value:.1f} to {after['confidence'].value:.1f}%: calibration error "
            f"{before['calibration_error'].value:.1f} -> {after['calibration_error'].value:.1f} points."
        ]
        along = [Row(f"epoch {row.epoch:g}", _at(row)) for row in known]
        better, worse = _changes(along)
        findings.append(
            f"Along training, on held-out blocks, better: {', '.join(better) or 'nothing'}. Worse: "
            f"{', '.join(worse) or 'nothing'}."
        )
        Section(
            "calibration", "Accuracy and calibration", "beyond the paper", findings,
            [Table(COLUMNS, rows), Table(ALONG, along, "Along training, on held-out blocks; TTR of 96 greedy tokens.")],
            [
                Figure("reliability.png", f"Reliability in {BINS} bins of equal numbers of predictions."),
                Figure("history.png", "Accuracy, calibration and variety while the perplexity of held-out text rises."),
            ],
        ).write(context.folder)  # fmt: skip

    return Step("calibration", make, {"bins": BINS}, (*plan.predictions.values(), *plan.hyperfitted.needs))


def _entries(values: dict[str, np.ndarray], recipe: dict[str, str]) -> dict[str, Score]:
    rank, confidence = values["rank"], values["top_mass"][..., 0]
    entries = {
        f"top_{k}_accuracy": mean_score(100 * (rank <= k).mean(axis=1), "%", "accuracy", k=k, **recipe)
        for k in (1, 3, 5)
    }
    entries["confidence"] = mean_score(100 * confidence.mean(axis=1), "%", "confidence", **recipe)
    sign = signature("ece", bins=BINS, bin="equal-count", **recipe)
    error = 100 * calibration_error(confidence, rank == 1)
    entries["calibration_error"] = Score("calibration_error", error, "points", sign)
    return entries


def _at(row: Evaluation) -> dict[str, Score]:
    """One evaluation of the training history, by the columns of `ALONG`."""
    fractions = {
        "top_1": row.validation_accuracy,
        "top_3": row.top3_accuracy,
        "top_5": row.top5_accuracy,
        "confidence": row.top1_mass,
        "calibration_error": row.calibration_error,
        "ttr": row.ttr,
    }
    values = {name: 100 * value for name, value in fractions.items() if value is not None}
    if row.validation_loss is not None:
        values["perplexity"] = math.exp(row.validation_loss)
    return {name: Score(name, value) for name, value in values.items()}


def _changes(along: list[Row]) -> tuple[list[str], list[str]]:
    """What is better and what is worse at the end of training than before it, with the numbers."""
    better: list[str] = []
    worse: list[str] = []
    for name, title in ALONG.items():
        if name == "confidence" or not along or name not in along[0].cells or name not in along[-1].cells:
            continue  # more confidence is neither
        first, last = (row.cells[name].value for row in (along[0], along[-1]))
        if first == last:
            continue
        side = better if (last < first) == (name in LOWER_IS_BETTER) else worse
        side.append(f"{title.partition(',')[0]} {first:.1f} -> {last:.1f}")
    return better, worse


def _draw_history(path: Path, history: Sequence[Evaluation]) -> None:
    looks = {"ttr": ("TTR", 2), "top_1": ("right at top 1", 0), "calibration_error": ("calibration error", 3)}
    with drawing.figure(path, nrows=2, sharex=True, height=4.6) as (above, below):
        points = [(row.epoch, _at(row)) for row in history]
        above.plot(
            *zip(*((x, at["perplexity"].value) for x, at in points), strict=True), color="0.25", marker="o", ms=3
        )
        above.set_yscale("log")
        drawing.plain_ticks(above.yaxis, 1, 2, 5)
        for name, (label, color) in looks.items():
            if known := [(x, at[name].value) for x, at in points if name in at]:
                below.plot(*zip(*known, strict=True), color=drawing.COLORS[color], marker="o", ms=3, label=label)
        below.xaxis.get_major_locator().set_params(integer=True)
        drawing.label_axes(above, "", "perplexity")
        drawing.label_axes(below, "epoch", "% (error: points)", {"bottom": 0}, **drawing.ABOVE | {"ncols": 3})
