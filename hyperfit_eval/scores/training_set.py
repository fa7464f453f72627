"""The training set of a training-blocks file, in the form that scores need."""

from pathlib import Path

from ..texts.blocks import TrainingBlocks, read_blocks
from .measure import TrainingSet


def training_set_of(blocks: TrainingBlocks) -> TrainingSet:
    """Rows, texts and fingerprints of training blocks; the validation blocks are left out."""
    return TrainingSet(list(blocks.ids), blocks.texts, blocks.tokenizer, blocks.fingerprint)


def read_training_set(path: str | Path) -> TrainingSet:
    """The training set in a training-blocks file; errors as in `texts.blocks.read_blocks`."""
    return training_set_of(read_blocks(path))
