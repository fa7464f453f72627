"""Late-Stage LoRA: low-rank matrices in the last layers, and nothing else, are trained (arXiv 2605.22579)."""

from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from ..errors import HyperfitError
from ..extras import require_extra
from .fast import decoder_layers


def add_lora(model: Any, layers: int, rank: int, alpha: int) -> Any:
    """Put LoRA matrices beside every linear map of the model's last layers, in place, and freeze the rest.

    Args:
        model: a causal LM; its parameters keep their names, those of changed layers get "base_layer" in them.
        layers: how many of the last decoder layers.
        rank: of the matrices.
        alpha: their product is scaled by alpha / rank.
    Returns:
        The adapter, whose `merge_and_unload()` gives a plain model again.
    Raises:
        HyperfitError: peft is missing, or the model has fewer layers.
    """
    require_extra("lora", "--lora_layers", "peft")
    from peft import LoraConfig, LoraModel

    decoder = decoder_layers(model)
    found = len(decoder)
    if not 0 < layers <= found or rank < 1 or alpha < 1:
        raise HyperfitError(
            f"--lora_layers {layers} --lora_rank {rank} --lora_alpha {alpha}: expected 1 to {found} layers, which is "
            f"what the model has, and a rank and alpha of at least 1"
        )
    # GPT-2 and ImageGPT have Conv1D for linear maps.
    trained = {
        module
        for layer in decoder[-layers:]
        for module in layer.modules()
        if isinstance(module, (torch.nn.Linear, Conv1D))
    }
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        # Near-zero training loss is the aim.
        lora_dropout=0.0,
        target_modules=[name for name, module in model.named_modules() if module in trained],
    )
    return LoraModel(model, {"default": config}, "default")
