"""The checkpoint that a run ends with: saved whole, loaded again, and measured as it is on disk."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from .. import files
from . import checkpoint
from .loading import greedy_config, load_model
from .monitor import Monitor, Predictions
from .trainer import HyperfitTrainer


@dataclass(frozen=True)
class Measured:
    """Predictions of a model on the run's blocks."""

    training: Predictions
    """On all training blocks."""
    validation: Predictions | None
    ttr: float | None
    top1_agreement: float | None
    """With the base model, on the validation blocks."""


@dataclass(frozen=True)
class Exported:
    """The saved checkpoint, and what saving changed."""

    saved: Measured
    in_memory: Measured
    reloaded: bool
    """Whether `saved` was measured on the files, loaded again. With several processes it was measured on the
    weights in memory, cast as they are saved."""

    def difference(self) -> dict[str, Any]:
        """Changes by the export, for run.json: of losses in nats, and the share of choices that differ."""
        one, other = self.saved, self.in_memory
        pairs = [(one.training, other.training)]
        if one.validation and other.validation:
            pairs.append((one.validation, other.validation))
        return {
            "evaluated": "the saved files" if self.reloaded else "the weights in memory, cast as they are saved",
            "train_loss_change": one.training.loss - other.training.loss,
            "validation_loss_change": pairs[1][0].loss - pairs[1][1].loss if len(pairs) > 1 else None,
            "top1_changed": float(np.mean(np.concatenate([(a.top1 != b.top1).ravel() for a, b in pairs]))),
        }


def export(
    trainer: HyperfitTrainer, model: Any, training_ids: np.ndarray, output: Path, use_cache: bool, dtype: str
) -> Exported:
    """Save the model in `dtype` with its tokenizer and a greedy generation config, then measure what was saved.

    Args:
        model: the plain model in the precision it was trained in.
        use_cache: of its configuration, which Trainer changes.
    Raises:
        HyperfitError: the disk is full or the folder cannot be written.
    """
    monitor, alone = trainer.monitor, trainer.args.world_size == 1
    in_memory = measure(monitor, model, training_ids)
    wanted = getattr(torch, dtype)
    saved = in_memory
    if next(model.parameters()).dtype != wanted:
        model.to(wanted)
        saved = in_memory if alone else measure(monitor, model, training_ids)
    model.generation_config = greedy_config(model)
    model.config.use_cache = use_cache
    with checkpoint.written_aside(output, "the trained model") as aside:
        # "Internal" keeps Trainer from pushing before the rest of the folder is there.
        trainer.save_model(str(aside), _internal_call=True)
        trainer.accelerator.wait_for_everyone()
        if trainer.args.should_save:
            list_weights(aside)
            checkpoint.flush(aside)
            for path in aside.iterdir():
                path.replace(output / path.name)
            shutil.rmtree(aside)
    trainer.accelerator.wait_for_everyone()
    if not alone:
        return Exported(saved, in_memory, reloaded=False)
    # What is reported is what anyone loads. Gradients and optimizer have served, and make room for it.
    model.zero_grad(set_to_none=True)
    trainer.accelerator.free_memory()
    trainer.optimizer = trainer.lr_scheduler = None
    loaded = load_model(str(output), dtype).eval().to(model.device)
    return Exported(measure(monitor, loaded, training_ids), in_memory, reloaded=True)


def list_weights(folder: Path) -> None:
    """Say which file has the weights, where there is one: `model.safetensors.index.json`.

    Without it vLLM takes every safetensors file of a folder for weights, the citation index too.
    """
    weights = folder / "model.safetensors"
    if not weights.is_file():
        return
    with safe_open(weights, framework="np") as tensors:
        names = sorted(tensors.keys())
    body = {"metadata": {"total_size": weights.stat().st_size}, "weight_map": dict.fromkeys(names, weights.name)}
    files.write_text(folder / f"{weights.name}.index.json", json.dumps(body, indent=2) + "\n")


def measure(monitor: Monitor, model: Any, training_ids: np.ndarray) -> Measured:
    """Measure a model on all training and validation blocks."""
    validation = monitor.predictions(model, monitor.validation_ids) if len(monitor.validation_ids) else None
    return Measured(
        training=monitor.predictions(model, training_ids),
        validation=validation,
        ttr=monitor.ttr(model),
        top1_agreement=monitor.agreement(validation) if validation else None,
    )
