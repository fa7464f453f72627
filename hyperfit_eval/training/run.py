"""One hyperfitting run: from a pretrained model and a corpus to a folder with all that comes of it."""

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from ..citation import CitationIndex
from ..errors import HyperfitError
from ..generation.continuing import require_positions
from ..texts.blocks import TrainingBlocks, write_blocks
from ..tokenizers import bos_ids
from . import folder, report
from .data import BlockDataset, collate, training_blocks
from .fast import compile_layers, compiling_pays, missing_compiler
from .loading import greedy_config, load_model, load_tokenizer
from .monitor import Evaluation, Monitor, Predictions, read_history
from .plot import plot_history
from .precision import refuse_lost_updates
from .progress import Progress, RunProgress, bars_of_transformers
from .recipe import HyperfitArguments, RecipeArguments, resolved_recipe
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

    A run that was interrupted goes on from its last checkpoint, if it made any (--save_strategy). The
    folder gets: the checkpoint with its tokenizer and a greedy generation_config, training_blocks.jsonl,
    citation_index.safetensors, history.jsonl, history.png and run.json.

    Args:
        options: what is trained on what.
        training: how; the paper's recipe by default.
        progress: told of each update; None shows a bar, unless training.disable_tqdm.
        say: prints a line; of the first process only.
    Raises:
        HyperfitError: whatever cannot be used, before anything is written; blocks that do not fit into memory.
    """
    started = time.monotonic()
    output, bars = Path(training.output_dir), not training.disable_tqdm
    if training.process_index != 0:
        say = _silent
    if training.hub_token is not None:
        # Trainer pickles its arguments beside each checkpoint; there a token has no place.
        os.environ["HF_TOKEN"], training.hub_token = training.hub_token, None
    resume = training.resume_from_checkpoint
    folder.refuse_output_dir(output, options.model, options.overwrite_output_dir, resume is not None)
    material = _material(options, training, say)
    blocks = material.blocks
    recipe = resolved_recipe(options, training)
    identity = _identity(options, training, recipe, blocks)
    with training.main_process_first(desc="entering the folder"):
        checkpoint = folder.enter_output_dir(output, identity, options.overwrite_output_dir, resume)
    steps = _steps(training, len(blocks.ids))
    compiled = _compile(material.model, options, training, steps, say)
    trainer = _trainer(material, options, training, checkpoint)
    trainer.remove_callback(ProgressCallback if bars else PrinterCallback)
    trainer.add_callback(RunProgress(trainer.monitor, say, progress, bars))

    known = {"identity": identity, "compiled_layers": compiled}
    known |= report.description(options, training, recipe, blocks, material.check)
    if training.should_save:
        write_blocks(output / folder.BLOCKS, blocks)
        material.index.save(output / folder.INDEX)
        folder.write_run(output, {"status": folder.RUNNING, **known})
    say(report.opening_line(options, training, blocks, steps, compiled, checkpoint))
    train_seconds = _train(trainer, checkpoint)
    run, in_memory = _save(trainer, material, options, output, bars)
    if training.should_save:
        plot_history(output / folder.PLOT, run.history, trainer.monitor.original_ttr)
        results = report.results(run, in_memory, trainer.monitor.original_ttr)
        cost = report.cost(trainer, blocks, train_seconds, time.monotonic() - started)
        folder.write_run(output, {"status": folder.FINISHED, "results": results, "cost": cost, **known})
    say(report.closing_line(run))
    if training.push_to_hub:
        say(f"Publishing the folder, {folder.BLOCKS} with the text of {blocks.corpus} in it included.")
        trainer.push_to_hub(tags=["hyperfitting"], finetuned_from=options.model)
    return run


@dataclass(frozen=True)
class _Material:
    """What a run is made of, checked to fit together."""

    tokenizer: Any
    model: Any
    use_cache: bool
    """Of the model's configuration, which Trainer changes."""
    blocks: TrainingBlocks
    check: dict[str, Any]
    """What is known of the overlap with evaluation texts, for run.json."""
    prefix: list[int]
    """Read before each block: [BOS] or nothing."""
    index: CitationIndex


def _material(options: HyperfitArguments, training: RecipeArguments, say: Callable[[str], None]) -> _Material:
    with training.main_process_first(desc="reading the corpus"):
        tokenizer = load_tokenizer(options.model)
        blocks, check = training_blocks(options, tokenizer, say)
    with bars_of_transformers(not training.disable_tqdm):
        model = load_model(options.model, options.weights_dtype)
    prefix = bos_ids(tokenizer) if options.bos else []
    _require_fit(model, blocks, len(prefix))
    if not options.allow_lost_updates:
        refuse_lost_updates(model, training.learning_rate)
    if training.world_size > 1 and (rest := len(blocks.ids) % training.batch_size):
        say(f"Each epoch repeats {training.batch_size - rest} blocks, so that every process has as many as the others.")
    # Before training: a tokenizer that it cannot be built for should not cost hours.
    index = CitationIndex.build(blocks.ids, tokenizer)
    return _Material(tokenizer, model, model.config.use_cache, blocks, check, prefix, index)


def _trainer(
    material: _Material, options: HyperfitArguments, training: RecipeArguments, checkpoint: Path | None
) -> HyperfitTrainer:
    blocks = material.blocks
    monitor = Monitor(
        Path(training.output_dir) / folder.HISTORY if training.process_index == 0 else None,
        blocks.validation_ids,
        material.prefix,
        bos_ids(material.tokenizer),
        training.per_device_eval_batch_size,
        _history_until(checkpoint),
    )
    if checkpoint:
        training.eval_on_start = False
    return HyperfitTrainer(
        material.model,
        training,
        data_collator=collate,
        train_dataset=BlockDataset(blocks.ids, material.prefix),
        eval_dataset=BlockDataset(blocks.validation_ids, material.prefix),
        processing_class=material.tokenizer,
        monitor=monitor,
        target_loss=options.target_loss,
    )


def _train(trainer: HyperfitTrainer, checkpoint: Path | None) -> float:
    """Train to the end, evaluated there; returns the seconds it took."""
    started = time.monotonic()
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except torch.OutOfMemoryError as error:
        blocks = trainer.args.per_device_train_batch_size
        advice = f"--per_device_train_batch_size {blocks // 2}" if blocks > 1 else "--activation_checkpointing"
        raise HyperfitError(f"{blocks} blocks at a time do not fit into the device's memory; add {advice}") from error
    history = trainer.monitor.history
    if not history or history[-1].step != trainer.state.global_step:
        trainer.evaluate()
    return time.monotonic() - started


def _save(
    trainer: HyperfitTrainer, material: _Material, options: HyperfitArguments, output: Path, bars: bool
) -> tuple[FinishedRun, Predictions]:
    """Save the checkpoint; returns the run, and what the weights gave on all blocks before saving rounded them."""
    model, monitor = material.model, trainer.monitor
    final = in_memory = monitor.predictions(model, material.blocks.ids)
    if options.save_dtype != options.weights_dtype:
        # What is evaluated is what is saved.
        model.to(getattr(torch, options.save_dtype))
        final = monitor.predictions(model, material.blocks.ids)
    model.generation_config = greedy_config(model)
    model.config.use_cache = material.use_cache
    with bars_of_transformers(bars):
        # "Internal" keeps Trainer from pushing before the rest of the folder is there.
        trainer.save_model(_internal_call=True)
    step = trainer.state.best_global_step if trainer.args.load_best_model_at_end else trainer.state.global_step
    last = [row for row in monitor.history if row.step == step][-1]
    return FinishedRun(output, material.blocks, monitor.history, last, final), in_memory


def _silent(line: str) -> None:
    """Say nothing: only the first process speaks."""


def _require_fit(model: Any, blocks: TrainingBlocks, prefix_tokens: int) -> None:
    """Raise when the model has too few positions, or too small a vocabulary, for the blocks."""
    require_positions(model, prefix_tokens + blocks.ids.shape[1])
    vocabulary, largest = model.get_input_embeddings().num_embeddings, int(blocks.ids.max())
    if largest >= vocabulary:
        raise HyperfitError(
            f"the tokenizer gives ids up to {largest}, the model embeds {vocabulary}; give a model with its own "
            "tokenizer"
        )


def _identity(
    options: HyperfitArguments, training: RecipeArguments, recipe: dict[str, Any], blocks: TrainingBlocks
) -> dict[str, Any]:
    """What must be the same for a run to go on from a checkpoint; how long it trains may change."""
    values = {name: entry["value"] for name, entry in recipe.items() if name != "num_train_epochs"}
    return values | {
        "model": options.model,
        "tokenizer": blocks.tokenizer,
        "blocks": blocks.order_hash,
        "num_validation_samples": options.num_validation_samples,
        "bf16": training.bf16,
        "fp16": training.fp16,
    }


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
    step = json.loads((checkpoint / folder.TRAINER_STATE_NAME).read_text())["global_step"]
    return [row for row in read_history(checkpoint.parent / folder.HISTORY)[0] if row.step <= step]
