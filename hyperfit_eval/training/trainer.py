"""transformers' Trainer with the evaluations of `Monitor` in place of its own, and checkpoints that are whole."""

from pathlib import Path
from typing import Any

import torch
from accelerate.utils import parse_flag_from_env
from transformers import Trainer

from ..errors import HyperfitError
from . import checkpoint
from .monitor import Monitor
from .older_readers import write_for_older_readers


class HyperfitTrainer(Trainer):
    """A Trainer whose `evaluate` asks a Monitor, so that its schedule, trackers and callbacks all apply.

    Args:
        monitor: measures the model and keeps the history.
        target_loss: stop once the mean training loss between two evaluations that were due is at or below it.
    """

    def __init__(self, *args: Any, monitor: Monitor, target_loss: float | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if parse_flag_from_env("ACCELERATE_USE_FSDP") and not self.is_fsdp_enabled:
            raise HyperfitError(
                f"FSDP was asked for, and on {self.args.device.type} accelerate does not shard: every process would "
                "hold the whole model; launch with scripts/accelerate/ddp.yaml"
            )
        self.monitor, self.target_loss = monitor, target_loss
        self.evaluation_seconds = 0.0
        self.blocks_trained = 0
        self.saved_step: int | None = None
        # Since the last evaluation that was due; a tensor, so that no step waits for an accelerator.
        self._loss_sum = torch.zeros((), device=self.args.device)
        self._loss_blocks = 0
        # Since the last row of the history: over all processes, without the above.
        self._row_loss_sum, self._row_blocks = 0.0, 0

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
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
        self.blocks_trained += rows * self.accelerator.num_processes
        return result

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Evaluate the model as it is, add a row to the history, and stop if the target is reached."""
        self.stop_at_target()
        loss = self._row_loss_sum / self._row_blocks if self._row_blocks else None
        row = self.monitor.evaluate(self.model, self.state.global_step, self.state.epoch or 0.0, loss, self._row_blocks)
        self._row_loss_sum, self._row_blocks = 0.0, 0
        self.evaluation_seconds += row.seconds
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in row.metrics().items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def stop_at_target(self) -> None:
        """Stop training if the mean loss since the last call is at or below the target."""
        loss_sum, blocks = self._summed_over_processes()
        self._loss_sum.zero_()
        self._loss_blocks = 0
        self._row_loss_sum += loss_sum
        self._row_blocks += blocks
        if self.target_loss is not None and blocks and loss_sum / blocks <= self.target_loss:
            self.control.should_training_stop = True

    def continue_from(self, folder: Path) -> None:
        """Take over the sums of losses that a checkpoint was saved with, so that no block is missing in a mean."""
        saved = checkpoint.read_progress(folder)
        self._row_loss_sum, self._row_blocks = saved["row_loss_sum"], saved["row_blocks"]
        if self.args.process_index == 0:
            self._loss_sum += saved["loss_sum"]
            self._loss_blocks = saved["blocks"]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Trainer's own checkpoint, written aside and put in its place when it is whole.

        Raises:
            HyperfitError: the disk is full or the folder cannot be written.
        """
        folder, step = Path(str(self.args.output_dir)), self.state.global_step
        loss_sum, blocks = self._summed_over_processes()
        progress = {
            "loss_sum": loss_sum,
            "blocks": blocks,
            "row_loss_sum": self._row_loss_sum,
            "row_blocks": self._row_blocks,
        }
        with checkpoint.written_aside(folder, f"the checkpoint after update {step}") as aside:
            self._written_to = aside
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._written_to = None
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                checkpoint.finish(aside, folder, step, progress)
                if kept := self.args.save_total_limit:
                    for old in checkpoint.checkpoints(folder)[:-kept]:
                        checkpoint.remove(old)
        self.accelerator.wait_for_everyone()
        self.saved_step = step

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """The files of a model, also those of checkpoints, as older versions of transformers read them, too."""
        super()._save(output_dir, state_dict)
        # Sharded models are saved by every process; two would tear the files that they rewrite.
        if self.args.should_save:
            write_for_older_readers(Path(str(output_dir or self.args.output_dir)))

    _written_to: Path | None = None

    def _get_output_dir(self, trial: Any) -> str:
        """Where Trainer makes the folder of a checkpoint."""
        return str(self._written_to or super()._get_output_dir(trial))

    def _summed_over_processes(self) -> tuple[float, int]:
        """The training loss summed over the blocks since the last evaluation that was due, and their number."""
        totals = torch.stack([self._loss_sum, self._loss_sum.new_tensor(self._loss_blocks)])
        loss_sum, blocks = self.accelerator.reduce(totals, "sum").tolist()
        return loss_sum, int(blocks)
