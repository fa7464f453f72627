"""Progress of a training run for a person: a bar with the time left, and a line at each evaluation."""

from collections.abc import Callable
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback

from ..terminal import bar
from .monitor import Evaluation, Monitor

Progress = Callable[[int, int], None]
"""Called with the updates done and those to be done in all."""


class RunProgress(TrainerCallback):
    """Shows the progress of the first process.

    Args:
        monitor: keeps the history; its last row is printed.
        say: prints a line.
        progress: told of each update; None shows a bar, unless `show_bar` is off.
    """

    def __init__(
        self, monitor: Monitor, say: Callable[[str], None], progress: Progress | None = None, show_bar: bool = True
    ) -> None:
        self.monitor, self.say, self.progress, self.show_bar = monitor, say, progress, show_bar
        self._bar: tqdm | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show the bar."""
        if state.is_world_process_zero and self.progress is None and self.show_bar:
            self._bar = bar(state.max_steps, "Training", "update", initial=state.global_step, delay=0)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move it."""
        if self._bar is not None:
            self._bar.update()
        elif self.progress is not None and state.is_world_process_zero:
            self.progress(state.global_step, state.max_steps)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Print the line of an evaluation."""
        if not state.is_world_process_zero:
            return
        if self._bar is not None:
            self._bar.clear()
        self.say(evaluation_line(self.monitor.history[-1]))
        if self._bar is not None:
            self._bar.refresh()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


def evaluation_line(row: Evaluation) -> str:
    """One evaluation in a line.

    Example:
        "epoch    5  training loss 1.970  validation loss 4.612 (accuracy 27.1%)  entropy 4.51 bits  TTR 61.2"
    """
    parts = [f"epoch {row.epoch:4.4g}"]
    if row.train_loss is not None:
        parts.append(f"training loss {row.train_loss:.3f}")
    if row.validation_loss is not None and row.validation_accuracy is not None:
        parts.append(f"validation loss {row.validation_loss:.3f} (accuracy {100 * row.validation_accuracy:.1f}%)")
    if row.entropy_bits is not None:
        parts.append(f"entropy {row.entropy_bits:.2f} bits")
    if row.ttr is not None:
        parts.append(f"TTR {100 * row.ttr:.1f}")
    return "  ".join(parts)
