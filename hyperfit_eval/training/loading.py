"""Loading the model to be trained, in the precision it is trained in."""

from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    ImageGPTForCausalImageModeling,
)

from ..errors import HyperfitError
from .images import is_image_model


def load_tokenizer(model: str) -> Any:
    """Load the tokenizer of a model.

    Raises:
        HyperfitError: no such model, or one without a tokenizer.
    """
    try:
        return AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise HyperfitError(
            f"{model}: no tokenizer can be loaded ({_first_line(error)}); give the folder or Hub id of a causal LM "
            f"with its tokenizer"
        ) from error


def load_config(model: str) -> Any:
    """Load the configuration of a model.

    Raises:
        HyperfitError: no such model.
    """
    try:
        return AutoConfig.from_pretrained(model)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise HyperfitError(
            f"{model}: no model can be loaded ({_first_line(error)}); give the folder or Hub id of a causal LM"
        ) from error


def load_model(model: str, dtype: str) -> Any:
    """Load a causal LM, of text or pixels, with its weights in `dtype`, whatever they are on disk, and no dropout.

    Raises:
        HyperfitError: no such model, or not a causal LM.
    """
    try:
        config = AutoConfig.from_pretrained(model)
        disable_dropout(config)
        # No Auto class leads to it.
        loader = ImageGPTForCausalImageModeling if is_image_model(config) else AutoModelForCausalLM
        return loader.from_pretrained(model, config=config, dtype=getattr(torch, dtype))
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise HyperfitError(
            f"{model}: no causal LM can be loaded ({_first_line(error)}); give the folder or Hub id of one"
        ) from error


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


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".: ")
