"""What gets better while perplexity gets worse: accuracy and calibration on texts the model has not seen."""

from typing import Any

import numpy as np

from ..metrics import signature
from ..training.folder import HISTORY
from ..training.monitor import read_history
from . import drawing
from .models import CHECKPOINT, predictions
from .plan import Plan
from .scores import mean_entry
from .section import Figure, Row, Section, Table
from .steps import Step, Workplace

BINS = 15
COLUMNS = {
    "top_1_accuracy": "right at top 1, %",
    "top_3_accuracy": "right among top 3, %",
    "top_5_accuracy": "right among top 5, %",
    "confidence": "mean top-1 mass, %",
    "calibration_error": "calibration error, points",
}


def calibration(plan: Plan) -> Step:
    """Accuracy at top 1, 3 and 5, expected calibration error and reliability along the original texts."""
    trained = plan.hyperfitted.trained
    assert trained is not None

    def make(place: Workplace) -> None:
        arrays = {name: predictions(place, step) for name, step in plan.predictions.items()}
        recipe = {"texts": plan.setting.texts.fingerprint, "len": 256}
        rows = [Row(name, _entries(values, recipe), name) for name, values in arrays.items()]
        with drawing.figure(place.folder / "reliability.png", 4.2, 4.0) as axes:
            axes.plot([0, 100], [0, 100], color="0.6", linestyle=":", label="calibrated")
            for name, values in arrays.items():
                confidence, right, _ = reliability(values["top_mass"][..., 0], values["rank"] == 1)
                axes.plot(100 * confidence, 100 * right, **drawing.style(name), label=name)
            axes.set_xlabel("probability of the most probable token, %")
            axes.set_ylabel("how often it is the text's, %")
            axes.grid(color="0.92")
            axes.legend(frameon=False)
        history, _ = read_history(place.of(trained) / CHECKPOINT / HISTORY)
        known = [row for row in history if row.validation_accuracy is not None and row.validation_loss is not None]
        before, after = (row.cells for row in rows)
        findings = [
            f"The most probable token is the text's at {before['top_1_accuracy']['mean']:.1f}% of the places before "
            f"hyperfitting and at {after['top_1_accuracy']['mean']:.1f}% after, while its mean probability goes from "
            f"{before['confidence']['mean']:.1f} to {after['confidence']['mean']:.1f}%: calibration error "
            f"{before['calibration_error']['value']:.1f} -> {after['calibration_error']['value']:.1f} points."
        ]
        if known:
            first, last = known[0], known[-1]
            findings.append(
                f"Along training, on held-out blocks: accuracy {100 * (first.validation_accuracy or 0):.1f} -> "
                f"{100 * (last.validation_accuracy or 0):.1f}%, loss {first.validation_loss:.2f} -> "
                f"{last.validation_loss:.2f} nats (Figure 2 shows the way)."
            )
        Section(
            "calibration", "Accuracy and calibration", "beyond the paper", findings, [Table(COLUMNS, rows)],
            [Figure("reliability.png", f"Reliability in {BINS} bins of equal numbers of predictions.")],
        ).write(place.folder)  # fmt: skip

    return Step("calibration", make, {"bins": BINS}, (*plan.predictions.values(), trained))


def _entries(values: dict[str, np.ndarray], recipe: dict[str, Any]) -> dict[str, Any]:
    rank, confidence = values["rank"], values["top_mass"][..., 0]
    entries = {
        f"top_{k}_accuracy": mean_entry(100 * (rank <= k).mean(axis=1), "%", "accuracy", k=k, N=len(rank), **recipe)
        for k in (1, 3, 5)
    }
    entries["confidence"] = mean_entry(100 * confidence.mean(axis=1), "%", "confidence", N=len(rank), **recipe)
    mean, right, weight = reliability(confidence, rank == 1)
    sign = signature("ece", bins=BINS, bin="equal-count", N=len(rank), **recipe)
    error = float(100 * (weight * np.abs(mean - right)).sum())
    entries["calibration_error"] = {"value": error, "unit": "points", "signature": sign}
    return entries


def reliability(
    confidence: np.ndarray, right: np.ndarray, bins: int = BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean confidence and accuracy in bins with equal numbers of predictions (Nguyen and O'Connor, 2015).

    Args:
        confidence: probability of the most probable token, any shape.
        right: whether it is the text's, bool, the same shape.
    Returns:
        Mean confidence, accuracy and share of the predictions in each bin, shape (bins,); the expected
        calibration error is the weighted mean of their distance.
    """
    order = np.argsort(confidence, axis=None)
    groups = [group for group in np.array_split(order, bins) if len(group)]
    mean = np.array([confidence.ravel()[group].mean() for group in groups])
    share = np.array([right.ravel()[group].mean() for group in groups])
    return mean, share, np.array([len(group) / len(order) for group in groups])
