"""Schedule of a training run: which evaluations are made, when a checkpoint is due, when to stop."""

import time
from typing import Any

import torch
from accelerate.utils import broadcast
from transformers import TrainerCallback

from .interruption import Interruption
from .trainer import HyperfitTrainer

STEPS_BETWEEN_AGREEMENTS = 10
"""Several processes must decide alike: the first decides, and tells the others every so many updates."""


class EvaluationSchedule(TrainerCallback):
    """Runs after Trainer's own flow, and thins it out or adds to it. Weights do not depend on it.

    Args:
        trainer: whose evaluations and checkpoints these are.
        evaluation_share: evaluations are skipped while they would take more of the time.
        save_minutes: a checkpoint is made when this long has passed since the last; 0 makes none.
        interruption: a signal that came: a checkpoint is made, and training stops.
    """

    def __init__(
        self, trainer: HyperfitTrainer, evaluation_share: float, save_minutes: float, interruption: Interruption
    ) -> None:
        self.trainer, self.interruption = trainer, interruption
        self.evaluation_share, self.save_seconds = evaluation_share, 60 * save_minutes
        self.skipped = 0
        """Evaluations that were due and not made."""
        self.interrupted = False
        self._save_after_epoch = False
        self._started = self._saved = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._started = self._saved = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save or stop where it is time."""
        save_due, interrupted = self._agreed(state.global_step)
        if interrupted:
            self.interrupted = control.should_training_stop = True
        save_due = save_due or interrupted or control.should_save
        # At the end of an epoch its evaluation follows, and belongs before the checkpoint.
        at_end = float(state.epoch).is_integer()
        self._save_after_epoch, control.should_save = save_due and at_end, save_due and not at_end
        self._thin_out(state, control)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save and evaluate where the recipe says so for this epoch."""
        control.should_save |= self._save_after_epoch
        if self.trainer.saved_step == state.global_step:
            control.should_save = False
        if self.interrupted and not float(state.epoch).is_integer():
            # Not an epoch's end but the way out of the loop.
            control.should_evaluate = control.should_save = False
        self._thin_out(state, control)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the time to the next checkpoint."""
        self._saved = time.monotonic()

    def _agreed(self, step: int) -> tuple[bool, bool]:
        """Whether a checkpoint is due, and whether to stop; alike on all processes."""
        due = 0 < self.save_seconds <= time.monotonic() - self._saved
        if self.trainer.args.world_size > 1 and step % STEPS_BETWEEN_AGREEMENTS:
            return False, False
        return self._alike(due), self._alike(self.interruption.number is not None)

    def _thin_out(self, state: Any, control: Any) -> None:
        """Skip an evaluation that would take more than its share, unless it is the last."""
        if not control.should_evaluate or state.global_step >= state.max_steps:
            return
        if self._alike(self._affordable()):
            return
        control.should_evaluate = False
        self.skipped += 1
        self.trainer.stop_at_target()

    def _affordable(self) -> bool:
        history = self.trainer.monitor.history
        if self.evaluation_share == 1 or not history:
            return True
        # This one, and the last of all, which is made in any case.
        evaluating = self.trainer.evaluation_seconds + 2 * history[-1].seconds
        return evaluating <= self.evaluation_share * (time.monotonic() - self._started)

    def _alike(self, answer: bool) -> bool:
        """The first process's answer, on all of them."""
        if self.trainer.args.world_size == 1:
            return answer
        return bool(broadcast(torch.tensor(int(answer), device=self.trainer.args.device)).item())
