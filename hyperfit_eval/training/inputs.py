"""Inputs of a run: model, blocks and what reads them, checked to fit together before anything is written."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..checkpoints import load_config, load_tokenizer
from ..citation import CitationIndex
from ..generation.continuing import require_ids, require_positions
from ..records import CONTEXT_TOKENS, SHORT
from ..texts.blocks import TrainingBlocks
from ..tokenizers import bos_ids
from .data import training_blocks
from .images import image_blocks, is_image_model, load_processor
from .loading import load_model
from .precision import refuse_lost_updates
from .recipe import HyperfitArguments, RecipeArguments


@dataclass(frozen=True)
class RunInputs:
    """Everything that a run needs before it trains."""

    tokenizer: Any
    """The image processor where the model is one of images."""
    model: Any
    use_cache: bool
    """Value in the model's configuration, which Trainer changes."""
    blocks: TrainingBlocks
    check: dict[str, Any]
    """Result of the check for overlap with evaluation texts, for run.json."""
    prefix: list[int]
    """Read before each block: [BOS] or nothing."""
    context_prefix: list[int]
    """Read before each context: BOS, as in every evaluation here."""
    context_tokens: int
    new_tokens: int
    """Length of the contexts from validation blocks that are continued during training, and of their continuations."""
    index: CitationIndex | None
    """None for images: citation blocking ends at words."""
    decode: Callable[[list[int]], str] | None
    """None for images."""


def prepare_inputs(options: HyperfitArguments, training: RecipeArguments, say: Callable[[str], None]) -> RunInputs:
    """Load the model, cut the blocks, and check that they fit together.

    Raises:
        HyperfitError: whatever cannot be used.
    """
    images = is_image_model(load_config(options.model))
    with training.main_process_first(desc="reading the corpus"):
        if images:
            tokenizer = load_processor(options.model)
            blocks, check = image_blocks(options, tokenizer), {"checked": False, "reason": "images"}
        else:
            tokenizer = load_tokenizer(options.model)
            blocks, check = training_blocks(options, tokenizer, say)
    model = load_model(options.model, options.weights_dtype)
    context_tokens, new_tokens = CONTEXT_TOKENS, SHORT
    if images:
        # The token that opens every image is the last of the vocabulary.
        context_prefix = [model.config.vocab_size - 1]
        # "the first 25% of an image" (paper, Section 7.1).
        pixels = blocks.ids.shape[1] + 1
        context_tokens, new_tokens = pixels // 4, min(SHORT, pixels - 1 - pixels // 4)
    else:
        context_prefix = bos_ids(tokenizer)
    prefix = context_prefix if options.bos else []
    _require_fit(model, blocks, len(prefix))
    if not options.allow_lost_updates:
        refuse_lost_updates(model, training.learning_rate)
    if training.world_size > 1 and (rest := len(blocks.ids) % training.batch_size):
        say(f"Each epoch repeats {training.batch_size - rest} blocks, so that every process has as many as the others.")
    return RunInputs(
        tokenizer=tokenizer,
        model=model,
        use_cache=model.config.use_cache,
        blocks=blocks,
        check=check,
        prefix=prefix,
        context_prefix=context_prefix,
        context_tokens=context_tokens,
        new_tokens=new_tokens,
        # Before training: a tokenizer that it cannot be built for should not cost hours.
        index=None if images else CitationIndex.build(blocks.ids, tokenizer),
        decode=None if images else lambda ids: tokenizer.decode(ids, clean_up_tokenization_spaces=False),
    )


def _require_fit(model: Any, blocks: TrainingBlocks, prefix_tokens: int) -> None:
    """Raise when the model has too few positions, or too small a vocabulary, for the blocks."""
    require_positions(model, prefix_tokens + blocks.ids.shape[1])
    require_ids(model, [[int(blocks.ids.max())]])
