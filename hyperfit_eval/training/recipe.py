"""The training recipe of the paper (Section 3) as arguments, and where each value comes from."""

import os
from dataclasses import dataclass

import torch
from transformers import TrainingArguments

from ..errors import HyperfitError
from .fast import has_bf16
from .installed import require_optimizer, require_package, require_trackers
from .options import HyperfitArguments, RecipeDefaults, given

__all__ = ["HyperfitArguments", "RecipeArguments", "given", "split_batch"]


@dataclass
class RecipeArguments(RecipeDefaults, TrainingArguments):  # type: ignore[misc]  # None until __post_init__ derives it
    """`transformers.TrainingArguments` with the paper's recipe as defaults; whatever is given wins.

    Raises:
        HyperfitError: the global batch does not divide among the devices, or contradicts what was given; a tracker
            or an optimizer whose package is missing.
    """

    def __post_init__(self) -> None:
        self.given = given(self)
        if self.load_best_model_at_end or self.save_strategy == "best" or self.save_only_model:
            raise HyperfitError(
                "--load_best_model_at_end, --save_strategy best and --save_only_model: hyperfitting keeps its last "
                "weights, and checkpoints are whole so that a run can go on; leave them out, --target_loss stops early"
            )
        if self.auto_find_batch_size:
            raise HyperfitError(
                "--auto_find_batch_size changes how many blocks an update is of; give --per_device_train_batch_size, "
                "the rest of --batch_size is accumulated"
            )
        if self.deepspeed:
            require_package("deepspeed", "--deepspeed")
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
        require_trackers([self.report_to] if isinstance(self.report_to, str) else self.report_to or [])
        require_optimizer(str(getattr(self.optim, "value", self.optim)))


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


def _devices(use_cpu: bool) -> int:
    """Processes, or the GPUs that a single process spreads its batch over."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    return processes if use_cpu or processes > 1 else max(1, torch.cuda.device_count())
