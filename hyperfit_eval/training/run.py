"""One hyperfitting run: from a pretrained model and a corpus to a folder with all that comes of it."""

import json
import math
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from ..checkpoint_files import BLOCKS_FILE, INDEX_FILE
from ..errors import HyperfitError
from ..terminal import hide_weight_bars
from ..texts.blocks import TrainingBlocks, write_blocks
from . import folder, report
from .checkpoint import remove
from .data import BlockDataset, collate
from .export import export
from .fast import compile_layers, compiling_pays, keep_freed_memory, missing_compiler
from .images import is_image_model
from .interruption import Interrupted, caught_signals
from .lora import add_lora
from .material import Material, gather
from .monitor import BASE, Evaluation, Monitor, Predictions, read_history
from .pace import Pace
from .plot import plot_history
from .progress import Progress, RunProgress
from .recipe import HyperfitArguments, RecipeArguments
from .recipe_files import write_recipe
from .resolved import identity, resolved_recipe, title_of
from .trainer import HyperfitTrainer


@dataclass(frozen=True)
class FinishedRun:
    """What came of a run; all of it is in its folder, too."""

    folder: Path
    blocks: TrainingBlocks
    history: list[Evaluation]
    last: Evaluation
    """The row of the history that the saved weights belong to."""
    training: Predictions
    """Of the saved weights on all training blocks: the loss that the paper calls near zero."""


def hyperfit(
    options: HyperfitArguments,
    training: RecipeArguments,
    *,
    progress: Progress | None = None,
    say: Callable[[str], None] = print,
) -> FinishedRun:
    """Hyperfit a model and write the run's folder (docs/formats.md).

    A run that was interrupted goes on from its last checkpoint. The folder gets: the checkpoint with its
    tokenizer and a greedy generation_config, training_blocks.jsonl, citation_index.safetensors,
    history.jsonl, history.png, recipe.yaml and run.json.

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
    started = time.monotonic()
    hide_weight_bars()
    output = Path(training.output_dir)
    if training.process_index != 0:
        say = _silent
    withhold_token(training)
    if training.push_to_hub:
        # Trainer would upload by itself, trainer state and the blocks' text included.
        raise HyperfitError("push_to_hub: training does not publish; use `hyperfit push` after it")
    resume = training.resume_from_checkpoint
    folder.refuse_output_dir(output, options.model, options.overwrite_output_dir, resume is not None)
    material = gather(options, training, say)
    # Several processes share the folder; the first keeps other runs out.
    with folder.locked(output) if training.process_index == 0 else nullcontext():
        return _run(material, options, training, started, progress, say)


def withhold_token(training: RecipeArguments) -> None:
    """Move a token into the environment: Trainer pickles its arguments beside each checkpoint."""
    if training.hub_token is not None:
        os.environ["HF_TOKEN"], training.hub_token = training.hub_token, None


def _run(
    material: Material,
    options: HyperfitArguments,
    training: RecipeArguments,
    started: float,
    progress: Progress | None,
    say: Callable[[str], None],
) -> FinishedRun:
    """Train in a folder that is ours, save, measure, and write the files."""
    output, bars, blocks = Path(training.output_dir), not training.disable_tqdm, material.blocks
    recipe = resolved_recipe(options, training)
    known: dict[str, Any] = {"identity": identity(options, training, recipe, blocks)}
    with training.main_process_first(desc="entering the folder"):
        checkpoint = folder.enter_output_dir(
            output, known["identity"], options.overwrite_output_dir, training.resume_from_checkpoint, say
        )
    steps = _steps(training, len(blocks.ids))
    adapter = None
    if options.lora_layers:
        adapter = add_lora(material.model, options.lora_layers, options.lora_rank, options.lora_alpha)
    known["compiled_layers"] = compiled = _compile(material.model, options, training, steps, say)
    if compiled and training.use_cpu:
        keep_freed_memory()
    trainer = _trainer(material, options, training, checkpoint)
    trainer.remove_callback(ProgressCallback if bars else PrinterCallback)
    trainer.add_callback(RunProgress(trainer.monitor, say, progress, bars))

    known |= report.description(options, training, recipe, blocks, material.check)
    if training.should_save:
        # First: killed from here on, the folder is known for that of a run.
        folder.write_run(output, {"status": folder.RUNNING, **known})
        write_blocks(output / BLOCKS_FILE, blocks)
        if material.index:
            material.index.save(output / INDEX_FILE)
        write_recipe(output / folder.RECIPE, title_of(options), recipe)
    say(report.opening_line(options, training, blocks, steps, compiled, checkpoint))
    train_seconds = _train(trainer, checkpoint, options, say)
    if adapter is not None:
        adapter.merge_and_unload()
    exported = export(trainer, material.model, blocks.ids, output, material.use_cache, options.save_dtype)
    run = FinishedRun(output, blocks, trainer.monitor.history, trainer.monitor.history[-1], exported.saved.training)
    if training.should_save:
        plot_history(output / folder.PLOT, run.history, trainer.monitor.original_ttr)
        results = report.results(run, exported, trainer.monitor.original_ttr)
        cost = report.cost(trainer, blocks, train_seconds, time.monotonic() - started)
        folder.write_run(output, {"status": folder.FINISHED, "results": results, "cost": cost, **known})
        # What was there to go on from.
        (output / BASE).unlink(missing_ok=True)
        if training.save_strategy == "no":
            for each in output.glob("checkpoint-*"):
                remove(each)
    say(report.closing_line(run, exported))
    return run


def _trainer(
    material: Material, options: HyperfitArguments, training: RecipeArguments, checkpoint: Path | None
) -> HyperfitTrainer:
    blocks = material.blocks
    monitor = Monitor(
        Path(training.output_dir) / folder.HISTORY if training.process_index == 0 else None,
        blocks.validation_ids,
        material.prefix,
        material.context_prefix,
        training.per_device_eval_batch_size,
        _history_until(checkpoint),
        decode=material.decode,
        context_tokens=material.context_tokens,
        new_tokens=material.new_tokens,
    )
    if checkpoint:
        training.eval_on_start = False
    trainer = HyperfitTrainer(
        material.model,
        training,
        data_collator=collate,
        train_dataset=BlockDataset(blocks.ids, material.prefix),
        eval_dataset=BlockDataset(blocks.validation_ids, material.prefix),
        processing_class=material.tokenizer,
        monitor=monitor,
        target_loss=options.target_loss,
    )
    if is_image_model(material.model.config):
        # Its forward takes any keyword and heeds none: Trainer must divide accumulated losses itself.
        trainer.model_accepts_loss_kwargs = False
    if checkpoint:
        trainer.continue_from(checkpoint)
    return trainer


def _train(
    trainer: HyperfitTrainer, checkpoint: Path | None, options: HyperfitArguments, say: Callable[[str], None]
) -> float:
    """Train to the end, evaluated there; returns the seconds it took."""
    started = time.monotonic()
    with caught_signals() as interruption:
        pace = Pace(trainer, options.evaluation_share, options.save_minutes, interruption)
        trainer.add_callback(pace)
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except torch.OutOfMemoryError as error:
            blocks = trainer.args.per_device_train_batch_size
            advice = f"--per_device_train_batch_size {blocks // 2}" if blocks > 1 else "--activation_checkpointing"
            raise HyperfitError(
                f"{blocks} blocks at a time do not fit into the device's memory; add {advice}"
            ) from error
    state = trainer.state
    if pace.interrupted and interruption.number and state.global_step < state.max_steps:
        interrupted = Interrupted(trainer.args.output_dir, state.global_step, state.max_steps, interruption.number)
        say(interrupted.line)
        raise interrupted
    history = trainer.monitor.history
    if not history or history[-1].step != state.global_step:
        trainer.evaluate()
    if pace.skipped:
        say(
            f"{pace.skipped} evaluations were skipped to keep them under {100 * options.evaluation_share:g}% of the "
            f"time; --evaluation_share 1 makes all of them."
        )
    return time.monotonic() - started


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
