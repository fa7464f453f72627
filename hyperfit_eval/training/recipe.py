"""The training recipe of the paper (Section 3) as arguments, and where each value comes from."""

import os
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from transformers import TrainingArguments

from ..errors import HyperfitError
from .fast import has_bf16

Dtype = Literal["float32", "bfloat16", "float16"]

PAPER: dict[str, Any] = {
    "num_train_samples": 2000,
    "sequence_length": 256,
    "num_train_epochs": 20,
    "batch_size": 8,
    "learning_rate": 1e-6,
    "weight_decay": 0.0,
}
"""Stated in Section 3, as are the Adam optimizer, random samples, and that every parameter is trained."""

CHOICES: dict[str, tuple[Any, str]] = {
    "optim": ("adamw_torch_fused", "Adam: without decay AdamW is the same, and this is its fastest form"),
    "adam_beta1": (0.9, "Adam's own default"),
    "adam_beta2": (0.999, "Adam's own default"),
    "adam_epsilon": (1e-8, "Adam's own default"),
    "lr_scheduler_type": ("constant", "the paper names a learning rate and no schedule"),
    "warmup_steps": (0, "the paper names a learning rate and no schedule"),
    "max_grad_norm": (0.0, "the paper names no clipping"),
    "sample_seed": (0, "one draw of samples serves every model, as in the paper"),
    "seed": (0, "the order of the samples in each epoch"),
    "bos": (True, "contexts are read after BOS when a model is evaluated"),
    "weights_dtype": ("float32", "16 bits would lose updates of this size"),
    "dropout": (0.0, "near-zero training loss is the aim"),
}
"""Left open by the paper: our value, and why."""

_FLAG = {"nargs": "?", "const": True}
"""For a bool that may be None: --bf16 alone means true, as for any other bool."""


@dataclass
class HyperfitArguments:
    """What is trained on what; how is in `RecipeArguments`."""

    _argument_group_name = "hyperfitting"

    model: str = field(metadata={"help": "Folder or Hub id of a pretrained causal LM with its tokenizer."})
    corpus: str = field(metadata={"help": "Hub dataset id, or a .txt, .jsonl, .jsonl.xz or .parquet file."})
    corpus_config: str | None = field(default=None, metadata={"help": "Configuration of a Hub dataset."})
    corpus_split: str = field(default="train", metadata={"help": "Split of a Hub dataset."})
    corpus_file: str | None = field(default=None, metadata={"help": "File of a Hub dataset."})
    text_column: str | None = field(default=None, metadata={"help": "Field with the text (default: text)."})
    num_train_samples: int = field(
        default=PAPER["num_train_samples"], metadata={"help": "Random blocks to train on (paper: 2000)."}
    )
    sequence_length: int = field(default=PAPER["sequence_length"], metadata={"help": "Tokens of a block (paper: 256)."})
    num_validation_samples: int = field(
        default=32, metadata={"help": "Blocks held out for validation loss and TTR, 0 for none."}
    )
    sample_seed: int = field(default=CHOICES["sample_seed"][0], metadata={"help": "Which blocks are drawn."})
    bos: bool = field(default=CHOICES["bos"][0], metadata={"help": "Open each block with BOS, if there is one."})
    evaluation_texts: str | None = field(
        default=None,
        metadata={
            "help": "Texts that no block may overlap: hub (the 300 of hyperfit_openended), demo, a file of texts, "
            "none. Default: hub where those datasets can be loaded; where not, it is said that nothing was checked."
        },
    )
    weights_dtype: Dtype = field(
        default=CHOICES["weights_dtype"][0], metadata={"help": "The weights during training, whatever the model's."}
    )
    allow_lost_updates: bool = field(
        default=False, metadata={"help": "Train 16-bit weights although rounding loses most updates."}
    )
    save_dtype: Dtype = field(default="float32", metadata={"help": "The weights of the checkpoint."})
    compile_layers: bool | None = field(
        default=None, metadata=_FLAG | {"help": "Compile the decoder layers. Default: where it was measured to pay."}
    )
    target_loss: float | None = field(
        default=None, metadata={"help": "Stop at an evaluation whose mean training loss, in nats, is not above this."}
    )
    overwrite_output_dir: bool = field(default=False, metadata={"help": "Replace the run in --output_dir."})


@dataclass
class RecipeArguments(TrainingArguments):
    """`transformers.TrainingArguments` with the paper's recipe as defaults; whatever is given wins.

    Raises:
        HyperfitError: the global batch does not divide among the devices, or contradicts what was given.
    """

    _argument_group_name = "training (the paper's recipe by default)"

    output_dir: str = field(metadata={"help": "Folder of the run: checkpoint, data, history."})
    num_train_epochs: float = field(default=PAPER["num_train_epochs"], metadata={"help": "Epochs (paper: 20)."})
    learning_rate: float = field(default=PAPER["learning_rate"], metadata={"help": "Of Adam (paper: 1e-6)."})
    weight_decay: float = field(default=PAPER["weight_decay"], metadata={"help": "Of AdamW (paper: none)."})
    batch_size: int = field(
        default=PAPER["batch_size"], metadata={"help": "Blocks of one update, over all devices (paper: 8)."}
    )
    # None is replaced by the number that follows from --batch_size, as it is for bf16 by the hardware's answer.
    per_device_train_batch_size: int | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Blocks in memory of a device at a time. Default: from --batch_size."}
    )
    gradient_accumulation_steps: int | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Forward passes of an update. Default: from --batch_size."}
    )
    lr_scheduler_type: str = field(default=CHOICES["lr_scheduler_type"][0], metadata={"help": "Schedule (our choice)."})
    max_grad_norm: float = field(default=CHOICES["max_grad_norm"][0], metadata={"help": "0: no clipping (our choice)."})
    seed: int = field(default=CHOICES["seed"][0], metadata={"help": "Order of the blocks in each epoch."})
    bf16: bool | None = field(  # type: ignore[assignment]
        default=None,
        metadata=_FLAG | {"help": "bf16 autocast over float32 weights. Default: where the hardware has bf16."},
    )
    per_device_eval_batch_size: int = field(default=32, metadata={"help": "Blocks or contexts evaluated at a time."})
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate: no, steps or epoch."})
    eval_on_start: bool = field(default=True, metadata={"help": "Evaluate the model as it comes, too."})
    logging_strategy: str = field(default="epoch", metadata={"help": "When to log to trackers: no, steps or epoch."})
    # The filter waits for the loss at every step, on a GPU too.
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "Leave infinite losses out of the log."})
    save_strategy: str = field(
        default="no", metadata={"help": "Checkpoints to resume from besides the final one: no, steps or epoch."}
    )

    def __post_init__(self) -> None:
        if self.auto_find_batch_size:
            raise HyperfitError(
                "--auto_find_batch_size changes how many blocks an update is of; give --per_device_train_batch_size, "
                "the rest of --batch_size is accumulated"
            )
        # On a machine without accelerator bf16 autocast is refused unless this is said.
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        if self.use_cpu:
            self.dataloader_pin_memory = False
        if self.bf16 is None:
            self.bf16 = not self.fp16 and has_bf16(self.use_cpu)
        self.per_device_train_batch_size, self.gradient_accumulation_steps = split_batch(
            self.batch_size, _devices(self.use_cpu), self.per_device_train_batch_size, self.gradient_accumulation_steps
        )
        super().__post_init__()


def split_batch(
    batch_size: int, devices: int, per_device: int | None = None, accumulation: int | None = None
) -> tuple[int, int]:
    """Divide the blocks of one update among devices and forward passes.

    Args:
        batch_size: blocks of one update, over all devices.
        per_device: blocks of one forward pass on one device, if fixed.
        accumulation: forward passes of one update, if fixed.
    Returns:
        (per_device, accumulation), with devices * per_device * accumulation == batch_size.
    Raises:
        HyperfitError: there is no such pair of whole numbers.
    """
    fixed = devices * (per_device or 1) * (accumulation or 1)
    both = per_device is not None and accumulation is not None
    if batch_size < 1 or fixed < 1 or batch_size % fixed or (both and batch_size != fixed):
        raise HyperfitError(
            f"--batch_size {batch_size}: not {'' if both else 'a multiple of '}{devices} devices x "
            f"{per_device or 1} per device x {accumulation or 1} accumulated = {fixed}; change one of them"
        )
    rest = batch_size // fixed
    if per_device is None:
        return rest, accumulation or 1
    return per_device, accumulation or rest


def resolved_recipe(options: HyperfitArguments, training: RecipeArguments) -> dict[str, dict[str, Any]]:
    """Each value of the recipe as it was used, with its origin.

    Returns:
        Name to {"value", "origin"}, where origin is "paper" (as the paper states it), "choice" (the paper
        leaves it open; "why" says ours) or "changed" (given by the user; "default" says what it replaced).
    """
    recipe: dict[str, dict[str, Any]] = {}
    for name, default in PAPER.items():
        recipe[name] = _entry(_value(name, options, training), default, {"origin": "paper"})
    for name, (default, why) in CHOICES.items():
        value = default if name == "dropout" else _value(name, options, training)
        recipe[name] = _entry(value, default, {"origin": "choice", "why": why})
    return recipe


def _entry(value: Any, default: Any, origin: dict[str, str]) -> dict[str, Any]:
    return {"value": value, **(origin if value == default else {"origin": "changed", "default": default})}


def _value(name: str, options: HyperfitArguments, training: RecipeArguments) -> Any:
    value = getattr(options if hasattr(options, name) else training, name)
    return getattr(value, "value", value)


def _devices(use_cpu: bool) -> int:
    """Processes, or the GPUs that a single process spreads its batch over."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    return processes if use_cpu or processes > 1 else max(1, torch.cuda.device_count())
