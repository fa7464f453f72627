"""What a person sees of a training run: a bar with the time left, and a line at each evaluation."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback
from transformers.utils import logging

Progress = Callable[[int, int], None]
"""Called with the updates done and those to be done in all."""


class RunProgress(TrainerCallback):
    """Shows the progress of the first process.

    Args:
        say: prints a line.
        progress: told of each update; None shows a bar, unless `bar` is off.
    """

    def __init__(self, say: Callable[[str], None], progress: Progress | None = None, bar: bool = True) -> None:
        self.say, self.progress, self.bar = say, progress, bar
        self._bar: tqdm | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero and self.progress is None and self.bar:
            self._bar = tqdm(total=state.max_steps, initial=state.global_step, desc="training", unit="update")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._bar is not None:
            self._bar.update()
        elif self.progress is not None and state.is_world_process_zero:
            self.progress(state.global_step, state.max_steps)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        line = evaluation_line(state.epoch or 0.0, metrics)
        if self._bar is not None:
            self._bar.clear()
        self.say(line)
        if self._bar is not None:
            self._bar.refresh()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._bar is not None:
            self._bar.close()


def evaluation_line(epoch: float, metrics: dict[str, float]) -> str:
    """One evaluation in a line, for instance
    "epoch  5  training loss 1.970  validation loss 4.612 (accuracy 27.1%)  entropy 4.51 bits  TTR 61.2".
    """
    parts = [f"epoch {epoch:4.4g}"]
    if "eval_train_loss" in metrics:
        parts.append(f"training loss {metrics['eval_train_loss']:.3f}")
    if "eval_loss" in metrics:
        parts.append(f"validation loss {metrics['eval_loss']:.3f} (accuracy {100 * metrics['eval_accuracy']:.1f}%)")
        parts.append(f"entropy {metrics['eval_entropy_bits']:.2f} bits")
    if "eval_ttr" in metrics:
        parts.append(f"TTR {100 * metrics['eval_ttr']:.1f}")
    return "  ".join(parts)


@contextmanager
def bars_of_transformers(shown: bool) -> Iterator[None]:
    """Show or hide the bars of loading and saving weights."""
    before = logging.is_progress_bar_enabled()
    switch = {True: logging.enable_progress_bar, False: logging.disable_progress_bar}
    switch[shown]()
    try:
        yield
    finally:
        switch[before]()
