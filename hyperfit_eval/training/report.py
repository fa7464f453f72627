"""Facts of a run, for run.json and the terminal."""

import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..texts.blocks import TrainingBlocks
from .export import Exported
from .recipe import HyperfitArguments, RecipeArguments
from .recipe_files import Setting
from .trainer import HyperfitTrainer

if TYPE_CHECKING:
    from .run import FinishedRun

PACKAGES = ("hyperfit-eval", "torch", "transformers", "accelerate", "datasets", "tokenizers")
"""Whose versions a run depends on."""


def description(
    options: HyperfitArguments,
    training: RecipeArguments,
    recipe: Mapping[str, Setting],
    blocks: TrainingBlocks,
    check: dict[str, Any],
) -> dict[str, Any]:
    """All that is known of a run before it starts.

    Args:
        check: what is known of the overlap with evaluation texts (`data.evaluation_texts`).
    """
    arguments = {name: value for name, value in training.to_dict().items() if not name.endswith("_token")}
    return {
        "model": options.model,
        "recipe": {name: setting.to_json() for name, setting in recipe.items()},
        "data": {
            "corpus": blocks.corpus,
            "corpus_fingerprint": blocks.corpus_fingerprint,
            "tokenizer": blocks.tokenizer,
            "blocks": len(blocks.ids),
            "block_tokens": blocks.ids.shape[1],
            "validation_blocks": len(blocks.validation_ids),
            "blocks_fingerprint": blocks.fingerprint,
            "blocks_order_hash": blocks.order_hash,
        },
        "evaluation_texts": check,
        "precision": {
            "weights": options.weights_dtype,
            "autocast": "bfloat16" if training.bf16 else "float16" if training.fp16 else None,
            "saved": options.save_dtype,
        },
        "arguments": {"hyperfitting": asdict(options), "training": arguments},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "device": torch.cuda.get_device_name() if training.device.type == "cuda" else training.device.type,
            "processes": training.world_size,
            "threads": torch.get_num_threads(),
        },
    }


def results(run: "FinishedRun", exported: Exported, original_ttr: float | None) -> dict[str, Any]:
    """Results of the saved checkpoint, and what saving changed."""
    last, saved = run.last, exported.saved
    validation = saved.validation
    return {
        "step": last.step,
        "epoch": last.epoch,
        "train_loss": saved.training.loss,
        "train_loss_before_saving": exported.in_memory.training.loss,
        "train_accuracy": saved.training.accuracy,
        "train_entropy_bits": saved.training.entropy_bits,
        "validation_loss": validation.loss if validation else None,
        "validation_accuracy": validation.accuracy if validation else None,
        "validation_entropy_bits": validation.entropy_bits if validation else None,
        "validation_top1_mass": validation.top1_mass if validation else None,
        "top1_agreement": saved.top1_agreement,
        "ttr": saved.ttr,
        "original_ttr": original_ttr,
        "export": exported.difference(),
    }


def cost(trainer: HyperfitTrainer, blocks: TrainingBlocks, train_seconds: float, wall_seconds: float) -> dict[str, Any]:
    """Time, speed and memory of a run.

    Args:
        train_seconds: training with the evaluations in it.
        wall_seconds: the same and everything before and after.
    """
    updating = train_seconds - trainer.evaluation_seconds
    return {
        "wall_seconds": round(wall_seconds, 2),
        "training_seconds": round(updating, 2),
        "evaluation_seconds": round(trainer.evaluation_seconds, 2),
        "evaluation_share": round(trainer.evaluation_seconds / train_seconds, 4),
        "tokens_per_second": round(trainer.blocks_trained * blocks.ids.shape[1] / updating, 1),
        **_peak_memory(trainer.args.device),
    }


def opening_line(
    options: HyperfitArguments,
    training: RecipeArguments,
    blocks: TrainingBlocks,
    steps: int,
    compiled: int,
    checkpoint: Path | None,
) -> str:
    """One line on what is about to be trained."""
    precision = f"{options.weights_dtype} weights"
    if training.bf16 or training.fp16:
        precision += f", {'bf16' if training.bf16 else 'fp16'} autocast"
    if compiled:
        precision += f", {compiled} layers compiled"
    start = f" (on from {checkpoint.name})" if checkpoint else ""
    return (
        f"Hyperfitting {options.model} on {len(blocks.ids)} blocks of {blocks.ids.shape[1]} tokens from "
        f"{blocks.corpus}{start}: {steps} updates of {training.batch_size} blocks, learning rate "
        f"{training.learning_rate:g}, {precision}, on {training.device.type}."
    )


def closing_line(run: "FinishedRun", exported: Exported) -> str:
    """One line on what came of it, measured on what was saved."""
    saved, first = exported.saved, run.history[0]
    line = f"Training loss {saved.training.loss:.4f} nats over all blocks"
    if saved.validation and saved.ttr is not None:
        line += f"; validation loss {saved.validation.loss:.3f}; TTR {100 * saved.ttr:.1f}"
        if first.step == 0 and first.ttr is not None:
            line += f" ({100 * first.ttr:.1f} before)"
    change = exported.difference()
    if change["train_loss_change"] or change["top1_changed"]:
        line += (
            f"; rounding to what was saved moved the training loss by {change['train_loss_change']:+.2g} and "
            f"{100 * change['top1_changed']:.2f}% of the choices"
        )
    return f"{line}. Saved to {run.folder}."


def _peak_memory(device: torch.device) -> dict[str, Any]:
    """The most memory in use at a time: of the GPU, or resident."""
    if device.type == "cuda":
        return {"peak_memory_bytes": torch.cuda.max_memory_allocated(device), "memory": "GPU, allocated"}
    if sys.platform == "win32":
        return {"peak_memory_bytes": None, "memory": "not measured on Windows"}
    import resource

    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak_memory_bytes": peak * unit, "memory": "resident"}
