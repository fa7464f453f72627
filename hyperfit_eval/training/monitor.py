"""What a model has become in training: the curves of the paper's Figure 2, and history.jsonl.

Validation loss alone misleads here: it rises while the model's choices get better. So token accuracy,
the sharpness of the predictions and the variety of greedy continuations stand beside it.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import files
from ..generation import Decoding, continue_ids, score_ids
from ..metrics import type_token_ratio
from ..records import CONTEXT_TOKENS, SHORT
from .fast import plain

KIND = "history"
VERSION = 1


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
    """What this evaluation took."""


class Monitor:
    """Evaluates a model on validation blocks, and keeps the history in a file.

    Args:
        path: history.jsonl; rewritten at each row, so that it is whole at any moment. None writes nothing.
        validation_ids: shape (V, T); V may be 0.
        prefix: ids that blocks are trained after: [BOS] or nothing.
        context_prefix: ids that contexts are continued after: [BOS], as in every evaluation here.
        batch_size: blocks or contexts at a time.
        history: rows of the same run before it was interrupted.
    """

    def __init__(
        self,
        path: Path | None,
        validation_ids: np.ndarray,
        prefix: Sequence[int],
        context_prefix: Sequence[int],
        batch_size: int = 32,
        history: Sequence[Evaluation] = (),
    ) -> None:
        self.path, self.validation_ids, self.batch_size = path, validation_ids, batch_size
        self.prefix, self.context_prefix = list(prefix), list(context_prefix)
        self.history = list(history)
        end = CONTEXT_TOKENS + SHORT
        self.original_ttr = mean_ttr(validation_ids[:, CONTEXT_TOKENS:end]) if validation_ids.shape[1] >= end else None
        """TTR of the 96 tokens that the validation texts themselves go on with."""

    def predictions(self, model: Any, ids: np.ndarray) -> Predictions:
        """Score blocks, shape (N, T) with N > 0, in one pass."""
        with plain(model):
            scores = score_ids(model, ids.tolist(), prefix=self.prefix, batch_size=self.batch_size)
        targets = ids[:, scores[0].first_scored :]
        return Predictions(
            loss=float(np.mean([score.nll for score in scores])),
            accuracy=float(np.mean([score.top1 for score in scores] == targets)),
            entropy_bits=float(np.mean([score.entropy_bits for score in scores])),
            top1_mass=float(np.mean([score.top_mass[:, 0] for score in scores])),
        )

    def ttr(self, model: Any) -> float | None:
        """Mean type-token ratio of greedy continuations of the validation contexts; None without any."""
        if len(self.validation_ids) == 0:
            return None
        contexts = [self.context_prefix + row for row in self.validation_ids[:, :CONTEXT_TOKENS].tolist()]
        with plain(model):
            return mean_ttr(continue_ids(model, contexts, Decoding(SHORT), batch_size=self.batch_size))

    def evaluate(self, model: Any, step: int, epoch: float, train_loss: float | None, train_blocks: int) -> Evaluation:
        """Measure the model, add the row to the history and write it."""
        started = time.monotonic()
        found = self.predictions(model, self.validation_ids) if len(self.validation_ids) else None
        ttr = self.ttr(model)
        row = Evaluation(
            step=step,
            epoch=round(epoch, 4),
            train_loss=train_loss,
            train_blocks=train_blocks,
            validation_loss=found.loss if found else None,
            validation_accuracy=found.accuracy if found else None,
            entropy_bits=found.entropy_bits if found else None,
            top1_mass=found.top1_mass if found else None,
            ttr=ttr,
            seconds=time.monotonic() - started,
        )
        self.history.append(row)
        if self.path:
            write_history(self.path, self.history, self.original_ttr)
        return row


def mean_ttr(continuations: Sequence[Sequence[int]] | np.ndarray) -> float | None:
    """Mean type-token ratio of continuations of 96 tokens; None for no continuations."""
    return float(np.mean([type_token_ratio(ids, SHORT) for ids in continuations])) if len(continuations) else None


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
    kinds: dict[str, Any] = {"step": int, "train_blocks": int, "epoch": measured, "seconds": measured}
    names = Evaluation.__dataclass_fields__
    history = [
        Evaluation(**{name: files.field(path, line, row, name, kinds.get(name, absent)) for name in names})
        for line, row in enumerate(rows, start=2)
    ]
    return history, files.field(path, 1, header, "original_ttr", absent)
