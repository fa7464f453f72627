"""Training blocks as the metrics see them."""

from pathlib import Path

from .metrics.measure import TrainingSet
from .texts.blocks import TrainingBlocks, read_blocks


def training_set_of(blocks: TrainingBlocks) -> TrainingSet:
    """Rows, texts and fingerprints of training blocks; the validation blocks are left out."""
    return TrainingSet(list(blocks.ids), blocks.texts, blocks.tokenizer, blocks.fingerprint)


def read_training_set(path: str | Path) -> TrainingSet:
    """The training set in a training-blocks file; errors as in `texts.blocks.read_blocks`."""
    return training_set_of(read_blocks(path))
