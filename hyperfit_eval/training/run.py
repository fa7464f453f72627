"""One hyperfitting run: from a pretrained model and a corpus to a folder with all that comes of it."""

import json
import math
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from ..checkpoint_files import BLOCKS_FILE, INDEX_FILE
from ..errors import HyperfitError
from ..extras import require_extra
from ..terminal import hide_weight_bars
from ..texts.blocks import TrainingBlocks, write_blocks
from . import folder, report
from .checkpoint import remove
from .data import BlockDataset, collate
from .export import export
from .fast import compile_layers, compiling_pays, keep_freed_memory, missing_compiler
from .images import is_image_model
from .inputs import RunInputs, prepare_inputs
from .interruption import Interrupted, caught_signals
from .lora import add_lora
from .monitor import BASE, Evaluation, Monitor, Predictions, read_history
from .progress import Progress, RunProgress
from .recipe import HyperfitArguments, RecipeArguments
from .recipe_files import write_recipe
from .resolved import identity, resolved_recipe, title_of
from .schedule import EvaluationSchedule
from .trainer import HyperfitTrainer


@dataclass(frozen=True)
class FinishedRun:
    """Results of a run; all of it is in its folder, too."""

    folder: Path
    blocks: TrainingBlocks
    history: list[Evaluation]
    last: Evaluation
    """The row of the history that the saved weights belong to."""
    training: Predictions
    """Predictions of the saved weights on all training blocks: the loss that the paper calls near zero."""


def hyperfit(
    options: HyperfitArguments,
    training: RecipeArguments,
    *,
    progress: Progress | None = None,
    say: Callable[[str], None] = print,
) -> FinishedRun:
    """Hyperfit a model and write the run's folder (docs/formats.md): all acts of `Run`.

    Args:
        options: what is trained on what.
        training: how; the paper's recipe by default.
        progress: told of each update; None shows a bar, unless training.disable_tqdm.
        say: prints a line; of the first process only.
    Raises:
        HyperfitError: whatever cannot be used, before anything is written; blocks that do not fit into memory;
            a disk that is full or cannot be written.
        Interrupted: SIGTERM or Ctrl-C came while it trained; a checkpoint was saved.
    """
    with Run(options, training, progress=progress, say=say) as run:
        run.load()
        run.build()
        run.train()
        return run.save()


def withhold_token(training: RecipeArguments) -> None:
    """Move a token into the environment: Trainer pickles its arguments beside each checkpoint."""
    if training.hub_token is not None:
        os.environ["HF_TOKEN"], training.hub_token = training.hub_token, None


class Run:
    """A hyperfitting run in four acts, to be called in this order within a `with` statement.

    A run that was interrupted goes on from its last checkpoint. The folder gets: the checkpoint with its
    tokenizer and a greedy generation_config, training_blocks.jsonl, citation_index.safetensors,
    history.jsonl, history.png, recipe.yaml and run.json. Arguments and errors are those of `hyperfit`.
    """

    inputs: RunInputs
    trainer: HyperfitTrainer

    def __init__(
        self,
        options: HyperfitArguments,
        training: RecipeArguments,
        *,
        progress: Progress | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.options, self.training = options, training
        self.output = Path(training.output_dir)
        self._progress = progress
        self._say = say if training.process_index == 0 else _silent
        self._started = time.monotonic()
        self._open = ExitStack()
        self._facts: dict[str, Any] = {}

    def __enter__(self) -> "Run":
        """Nothing is done yet."""
        return self

    def __exit__(self, *error: object) -> None:
        """Let other runs into the folder."""
        self._open.close()

    def load(self) -> None:
        """Load the model and its tokenizer, cut the corpus into blocks, and check that all fit together."""
        require_extra("reports", "the plot of the history", "matplotlib")
        hide_weight_bars()
        withhold_token(self.training)
        if self.training.push_to_hub:
            # Trainer would upload by itself, trainer state and the blocks' text included.
            raise HyperfitError("push_to_hub: training does not publish; use `hyperfit push` after it")
        resume = self.training.resume_from_checkpoint is not None
        folder.refuse_output_dir(self.output, self.options.model, self.options.overwrite_output_dir, resume)
        self.inputs = prepare_inputs(self.options, self.training, self._say)

    def build(self) -> None:
        """Enter the folder, make the Trainer, and write what is known before training."""
        options, training, output, inputs = self.options, self.training, self.output, self.inputs
        if training.process_index == 0:  # several processes share the folder
            self._open.enter_context(folder.locked(output))
        recipe = resolved_recipe(options, training)
        facts: dict[str, Any] = {"identity": identity(options, training, recipe, inputs.blocks)}
        with training.main_process_first(desc="entering the folder"):
            self._checkpoint = folder.enter_output_dir(
                output, facts["identity"], options.overwrite_output_dir, training.resume_from_checkpoint, self._say
            )
        self._adapter = None
        if options.lora_layers:
            self._adapter = add_lora(inputs.model, options.lora_layers, options.lora_rank, options.lora_alpha)
        steps = _steps(training, len(inputs.blocks.ids))
        facts["compiled_layers"] = compiled = _compile(inputs.model, options, training, steps, self._say)
        if compiled and training.use_cpu:
            keep_freed_memory()
        bars = not training.disable_tqdm
        self.trainer = _trainer(inputs, options, training, self._checkpoint)
        self.trainer.remove_callback(ProgressCallback if bars else PrinterCallback)
        self.trainer.add_callback(RunProgress(self.trainer.monitor, self._say, self._progress, bars))
        self._facts = facts | report.description(options, training, recipe, inputs.blocks, inputs.check)
        if training.should_save:
            # First: killed from here on, the folder is known for that of a run.
            folder.write_run(output, {"status": folder.RUNNING, **self._facts})
            write_blocks(output / BLOCKS_FILE, inputs.blocks)
            if inputs.index:
                inputs.index.save(output / INDEX_FILE)
            write_recipe(output / folder.RECIPE, title_of(options), recipe)
        self._say(report.opening_line(options, training, inputs.blocks, steps, compiled, self._checkpoint))

    def train(self) -> None:
        """Train to the end, evaluated there."""
        started = time.monotonic()
        trainer, checkpoint = self.trainer, self._checkpoint
        share = self.options.evaluation_share
        with caught_signals() as interruption:
            schedule = EvaluationSchedule(trainer, share, self.options.save_minutes, interruption)
            trainer.add_callback(schedule)
            try:
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            except torch.OutOfMemoryError as error:
                blocks = trainer.args.per_device_train_batch_size
                advice = f"--per_device_train_batch_size {blocks // 2}" if blocks > 1 else "--activation_checkpointing"
                raise HyperfitError(
                    f"{blocks} blocks at a time do not fit into the device's memory; add {advice}"
                ) from error
        state = trainer.state
        if schedule.interrupted and interruption.number and state.global_step < state.max_steps:
            interrupted = Interrupted(str(self.output), state.global_step, state.max_steps, interruption.number)
            self._say(interrupted.line)
            raise interrupted
        history = trainer.monitor.history
        if not history or history[-1].step != state.global_step:
            trainer.evaluate()
        if schedule.skipped:
            self._say(
                f"{schedule.skipped} evaluations were skipped to keep them under {100 * share:g}% of the time; "
                "--evaluation_share 1 makes all of them."
            )
        self._train_seconds = time.monotonic() - started

    def save(self) -> FinishedRun:
        """Save the weights, measure what was saved, and write the rest of the files."""
        training, inputs, monitor = self.training, self.inputs, self.trainer.monitor
        if self._adapter is not None:
            self._adapter.merge_and_unload()
        exported = export(
            self.trainer, inputs.model, inputs.blocks.ids, self.output, inputs.use_cache, self.options.save_dtype
        )
        run = FinishedRun(self.output, inputs.blocks, monitor.history, monitor.history[-1], exported.saved.training)
        if training.should_save:
            from .plot import plot_history

            plot_history(self.output / folder.PLOT, run.history, monitor.original_ttr)
            results = report.results(run, exported, monitor.original_ttr)
            cost = report.cost(self.trainer, inputs.blocks, self._train_seconds, time.monotonic() - self._started)
            folder.write_run(self.output, {"status": folder.FINISHED, "results": results, "cost": cost, **self._facts})
            # What was there to go on from.
            (self.output / BASE).unlink(missing_ok=True)
            if training.save_strategy == "no":
                for path in self.output.glob("checkpoint-*"):
                    remove(path)
        self._say(report.closing_line(run, exported))
        return run


def _trainer(
    inputs: RunInputs, options: HyperfitArguments, training: RecipeArguments, checkpoint: Path | None
) -> HyperfitTrainer:
    blocks = inputs.blocks
    monitor = Monitor(
        Path(training.output_dir) / folder.HISTORY if training.process_index == 0 else None,
        blocks.validation_ids,
        inputs.prefix,
        inputs.context_prefix,
        training.per_device_eval_batch_size,
        _history_until(checkpoint),
        decode=inputs.decode,
        context_tokens=inputs.context_tokens,
        new_tokens=inputs.new_tokens,
    )
    if checkpoint:
        training.eval_on_start = False
    trainer = HyperfitTrainer(
        inputs.model,
        training,
        data_collator=collate,
        train_dataset=BlockDataset(blocks.ids, inputs.prefix),
        eval_dataset=BlockDataset(blocks.validation_ids, inputs.prefix),
        processing_class=inputs.tokenizer,
        monitor=monitor,
        target_loss=options.target_loss,
    )
    if is_image_model(inputs.model.config):
        # Its forward takes any keyword and heeds none: Trainer must divide accumulated losses itself.
        trainer.model_accepts_loss_kwargs = False
    if checkpoint:
        trainer.continue_from(checkpoint)
    return trainer


def _silent(line: str) -> None:
    """Say nothing: only the first process speaks."""


def _steps(training: RecipeArguments, samples: int) -> int:
    """Updates of the whole run."""
    if training.max_steps > 0:
        return training.max_steps
    return math.ceil(training.num_train_epochs * math.ceil(samples / training.batch_size))


def _compile(
    model: Any, options: HyperfitArguments, training: RecipeArguments, steps: int, say: Callable[[str], None]
) -> int:
    """Compile the decoder layers if asked to or if it pays; returns how many were."""
    if options.compile_layers is None:
        # DeepSpeed gathers a layer's weights by hooks that a compiled layer would not run.
        if training.torch_compile or training.deepspeed or not compiling_pays(bool(training.bf16), steps):
            return 0
        if missing := missing_compiler(training.use_cpu):
            say(f"The decoder layers are not compiled, training is slower than it could be: {missing}.")
            return 0
    elif not options.compile_layers:
        return 0
    elif missing := missing_compiler(training.use_cpu):
        raise HyperfitError(f"--compile_layers {options.compile_layers}: {missing}")
    return compile_layers(model)


def _history_until(checkpoint: Path | None) -> list[Evaluation]:
    """The rows of the run that `checkpoint` is of, up to its step."""
    if checkpoint is None or not (checkpoint.parent / folder.HISTORY).exists():
        return []
    step = json.loads((checkpoint / TRAINER_STATE_NAME).read_text())["global_step"]
    return [row for row in read_history(checkpoint.parent / folder.HISTORY)[0] if row.step <= step]
