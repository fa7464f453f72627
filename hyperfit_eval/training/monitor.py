"""Measurements during training: the curves of the paper's Figure 2, and history.jsonl.

Validation loss alone misleads here: it rises while the model's choices get better. So token accuracy,
the sharpness of the predictions, how many of the base model's choices are left, and the variety of greedy
continuations stand beside it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import MISSING, asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from .. import files
from ..generation import Decoding, continue_ids, score_ids
from ..metrics import type_token_ratio
from ..metrics.calibration import calibration_error
from ..records import CONTEXT_TOKENS, SHORT
from .fast import plain

KIND = "history"
VERSION = 1

BASE = "base_top1.safetensors"
"""Beside the history: the base model's choice at each token of the validation blocks."""
SAMPLES = 3
"""Continuations kept as text at each evaluation."""


@dataclass(frozen=True)
class Predictions:
    """Means over all tokens of some blocks."""

    loss: float
    """Nats a token."""
    accuracy: float
    """Share of tokens that were the most probable one."""
    entropy_bits: float
    top1_mass: float
    """Probability of the most probable token."""
    top3_accuracy: float
    """Share of tokens that were among the three most probable."""
    top5_accuracy: float
    calibration_error: float
    """Expected calibration error of the most probable token, a fraction (`metrics.calibration`)."""
    top1: np.ndarray = field(repr=False, compare=False)
    """Id of the most probable token at each place, shape (blocks, tokens)."""


@dataclass(frozen=True)
class Evaluation:
    """One row of the history: the model after `step` updates. None stands for what was not measured."""

    step: int
    epoch: float
    train_loss: float | None
    """Mean over the blocks trained on since the row before, each as it was met; nats a token."""
    train_blocks: int
    """How many blocks that is."""
    validation_loss: float | None
    validation_accuracy: float | None
    entropy_bits: float | None
    top1_mass: float | None
    ttr: float | None
    """Type-token ratio of 96 greedy tokens after 32 tokens of each validation block, as a fraction."""
    seconds: float
    """Duration of this evaluation."""
    top1_agreement: float | None = None
    """Share of the validation tokens where the most probable token is the base model's."""
    top3_accuracy: float | None = None
    top5_accuracy: float | None = None
    calibration_error: float | None = None
    """As in `Predictions`."""
    samples: tuple[str, ...] = ()
    """The first of the greedy continuations, as text."""

    def metrics(self) -> dict[str, float]:
        """Values for trackers, by their names there."""
        measured = {
            "loss": self.validation_loss,
            "accuracy": self.validation_accuracy,
            "entropy_bits": self.entropy_bits,
            "top1_mass": self.top1_mass,
            "top1_agreement": self.top1_agreement,
            "top3_accuracy": self.top3_accuracy,
            "top5_accuracy": self.top5_accuracy,
            "calibration_error": self.calibration_error,
            "ttr": self.ttr,
        }
        return {name: value for name, value in measured.items() if value is not None}


class Monitor:
    """Evaluates a model on validation blocks, and keeps the history in a file.

    Args:
        path: history.jsonl; rewritten at each row, so that it is whole at any moment. None writes nothing.
        validation_ids: shape (V, T); V may be 0.
        prefix: ids that blocks are trained after: [BOS] or nothing.
        context_prefix: ids that contexts are continued after: [BOS], as in every evaluation here.
        batch_size: blocks or contexts at a time.
        history: rows of the same run before it was interrupted.
        decode: ids to text, for the samples; None keeps none.
        context_tokens, new_tokens: what is continued, and by how much.
    """

    def __init__(
        self,
        path: Path | None,
        validation_ids: np.ndarray,
        prefix: Sequence[int],
        context_prefix: Sequence[int],
        batch_size: int = 32,
        history: Sequence[Evaluation] = (),
        decode: Callable[[list[int]], str] | None = None,
        context_tokens: int = CONTEXT_TOKENS,
        new_tokens: int = SHORT,
    ) -> None:
        self.decode, self.context_tokens, self.new_tokens = decode, context_tokens, new_tokens
        self.path, self.validation_ids, self.batch_size = path, validation_ids, batch_size
        self.prefix, self.context_prefix = list(prefix), list(context_prefix)
        self.history = list(history)
        end = context_tokens + new_tokens
        self.original_ttr = mean_ttr(validation_ids[:, context_tokens:end]) if validation_ids.shape[1] >= end else None
        """TTR of the 96 tokens that the validation texts themselves go on with."""
        self._base_top1: np.ndarray | None = None
        if history and path and (base := path.with_name(BASE)).exists():
            self._base_top1 = load_file(base)["top1"]

    def predictions(self, model: Any, ids: np.ndarray) -> Predictions:
        """Score blocks, shape (N, T) with N > 0, in one pass."""
        with plain(model):
            scores = score_ids(model, ids.tolist(), prefix=self.prefix, batch_size=self.batch_size)
        targets = ids[:, scores[0].first_scored :]
        top1 = np.stack([score.top1 for score in scores])
        ranks = np.stack([score.rank for score in scores])
        confidence = np.stack([score.top_mass[:, 0] for score in scores])
        return Predictions(
            loss=float(np.mean([score.nll for score in scores])),
            accuracy=float(np.mean(top1 == targets)),
            entropy_bits=float(np.mean([score.entropy_bits for score in scores])),
            top1_mass=float(np.mean(confidence)),
            top3_accuracy=float(np.mean(ranks <= 3)),
            top5_accuracy=float(np.mean(ranks <= 5)),
            calibration_error=calibration_error(confidence, ranks == 1),
            top1=top1,
        )

    def continuations(self, model: Any) -> list[list[int]]:
        """Greedy continuations of the validation contexts, 96 tokens each."""
        contexts = [self.context_prefix + row for row in self.validation_ids[:, : self.context_tokens].tolist()]
        with plain(model):
            return continue_ids(model, contexts, Decoding(self.new_tokens), batch_size=self.batch_size)

    def ttr(self, model: Any) -> float | None:
        """Mean type-token ratio of greedy continuations of the validation contexts; None without any."""
        return mean_ttr(self.continuations(model))

    def agreement(self, found: Predictions) -> float | None:
        """Share of the validation tokens where `found` has the base model's choice; None if that is not known."""
        return None if self._base_top1 is None else float(np.mean(found.top1 == self._base_top1))

    def evaluate(self, model: Any, step: int, epoch: float, train_loss: float | None, train_blocks: int) -> Evaluation:
        """Measure the model, add the row to the history and write it."""
        started = time.monotonic()
        found = self.predictions(model, self.validation_ids) if len(self.validation_ids) else None
        if found and step == 0:
            self._keep_base(found.top1)
        continuations = self.continuations(model)
        row = Evaluation(
            step=step,
            epoch=round(epoch, 4),
            train_loss=train_loss,
            train_blocks=train_blocks,
            validation_loss=found.loss if found else None,
            validation_accuracy=found.accuracy if found else None,
            entropy_bits=found.entropy_bits if found else None,
            top1_mass=found.top1_mass if found else None,
            ttr=mean_ttr(continuations),
            seconds=time.monotonic() - started,
            top1_agreement=self.agreement(found) if found else None,
            top3_accuracy=found.top3_accuracy if found else None,
            top5_accuracy=found.top5_accuracy if found else None,
            calibration_error=found.calibration_error if found else None,
            samples=tuple(map(self.decode, continuations[:SAMPLES])) if self.decode else (),
        )
        self.history.append(row)
        if self.path:
            write_history(self.path, self.history, self.original_ttr)
        return row

    def _keep_base(self, top1: np.ndarray) -> None:
        self._base_top1 = top1
        if self.path:
            with files.atomic_path(self.path.with_name(BASE)) as temporary:
                save_file({"top1": top1}, temporary)


def mean_ttr(continuations: Sequence[Sequence[int]] | np.ndarray) -> float | None:
    """Mean type-token ratio of whole continuations; None for no continuations."""
    return float(np.mean([type_token_ratio(ids, len(ids)) for ids in continuations])) if len(continuations) else None


def write_history(path: str | Path, history: Sequence[Evaluation], original_ttr: float | None) -> None:
    """Write the rows as JSON lines (docs/formats.md)."""
    files.write_jsonl(path, KIND, VERSION, {"original_ttr": original_ttr}, map(asdict, history))


def read_history(path: str | Path) -> tuple[list[Evaluation], float | None]:
    """Read the rows, and the TTR of the validation texts themselves.

    Raises:
        HyperfitError: with line and field, for anything that is not such a file.
    """
    header, rows = files.read_jsonl(path, KIND, VERSION)
    measured, absent = (int, float), (int, float, type(None))
    kinds: dict[str, Any] = {"step": int, "train_blocks": int, "epoch": measured, "seconds": measured, "samples": list}
    history = []
    for line, row in enumerate(rows, start=2):
        values = {
            name: files.field(path, line, row, name, kinds.get(name, absent))
            for name, each in Evaluation.__dataclass_fields__.items()
            if name in row or each.default is MISSING
        }
        history.append(Evaluation(**values | {"samples": tuple(values.get("samples", ()))}))
    return history, files.field(path, 1, header, "original_ttr", absent)
