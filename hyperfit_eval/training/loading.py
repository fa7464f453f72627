"""Loading the model to be trained, in the precision it is trained in."""

from typing import Any

from transformers import AutoModelForCausalLM, GenerationConfig, ImageGPTForCausalImageModeling

from .. import checkpoints
from ..checkpoints import DTYPES, load_config
from ..errors import HyperfitError
from .images import is_image_model


def load_model(model: str, dtype: str) -> Any:
    """Load a causal LM, of text or pixels, with its weights in `dtype`, whatever they are on disk, and no dropout.

    Raises:
        HyperfitError: no such model, not a causal LM, or no dtype to compute in.
    """
    if dtype not in DTYPES:
        raise HyperfitError(f"dtype {dtype!r}: expected {', '.join(DTYPES)}")
    config = load_config(model)
    disable_dropout(config)
    # No Auto class leads to it.
    loader = ImageGPTForCausalImageModeling if is_image_model(config) else AutoModelForCausalLM
    return checkpoints.load_model(loader, model, config=config, dtype=dtype)


def disable_dropout(config: Any) -> None:
    """Set every dropout rate of a model's configuration to 0, those of nested configurations too."""
    for name, value in vars(config).items():
        if "drop" in name and isinstance(value, float):
            setattr(config, name, 0.0)
        elif name.endswith("_config") and hasattr(value, "to_dict"):
            disable_dropout(value)


def greedy_config(model: Any) -> GenerationConfig:
    """Greedy decoding with the model's special tokens, and no trace of how the base model was sampled."""
    own = model.generation_config
    return GenerationConfig(
        do_sample=False,
        bos_token_id=own.bos_token_id,
        eos_token_id=own.eos_token_id,
        pad_token_id=own.pad_token_id,
    )
