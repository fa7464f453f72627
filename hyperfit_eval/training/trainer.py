"""transformers' Trainer with the evaluations of `Monitor` in place of its own."""

from typing import Any

import torch
from transformers import Trainer

from .monitor import Monitor


class HyperfitTrainer(Trainer):
    """A Trainer whose `evaluate` asks a Monitor, so that its schedule, trackers and callbacks all apply.

    Args:
        monitor: measures the model and keeps the history.
        target_loss: stop once the mean training loss since the last evaluation is at or below it.
    """

    def __init__(self, *args: Any, monitor: Monitor, target_loss: float | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.monitor, self.target_loss = monitor, target_loss
        self.evaluation_seconds = 0.0
        self.blocks_trained = 0
        # A tensor, so that no step waits for an accelerator.
        self._loss_sum = torch.zeros((), device=self.args.device)
        self._loss_blocks = 0

    def compute_loss(
        self, model: Any, inputs: dict, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The model's own loss, added up with each block weighing the same, also in a short last batch."""
        result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss = (result[0] if isinstance(result, tuple) else result).detach().mean()
        rows, length = inputs["input_ids"].shape
        if self.model_accepts_loss_kwargs and num_items_in_batch is not None:
            # It is these rows' share of the mean over the whole update; bring it back to their own mean.
            processes = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
            loss = loss * torch.as_tensor(num_items_in_batch).float().mean() / (processes * rows * (length - 1))
        self._loss_sum += loss * rows
        self._loss_blocks += rows
        return result

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> dict:
        """Evaluate the model as it is, add a row to the history, and stop if the target is reached."""
        loss, blocks = self._take_loss()
        row = self.monitor.evaluate(self.model, self.state.global_step, self.state.epoch or 0.0, loss, blocks)
        self.evaluation_seconds += row.seconds
        measured = {
            "loss": row.validation_loss,
            "accuracy": row.validation_accuracy,
            "entropy_bits": row.entropy_bits,
            "top1_mass": row.top1_mass,
            "ttr": row.ttr,
        }
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in measured.items() if value is not None}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        if self.target_loss is not None and loss is not None and loss <= self.target_loss:
            self.control.should_training_stop = True
        return metrics

    def _take_loss(self) -> tuple[float | None, int]:
        """Mean training loss since the last call and the blocks it is of, over all processes."""
        totals = torch.stack([self._loss_sum, self._loss_sum.new_tensor(self._loss_blocks)])
        loss_sum, blocks = self.accelerator.reduce(totals, "sum").tolist()
        self._loss_sum.zero_()
        self._loss_blocks = 0
        self.blocks_trained += int(blocks)
        return (loss_sum / blocks if blocks else None), int(blocks)
