"""Images as training blocks for ImageGPT: a pixel is a token, the nearest of its colors (paper, Section 7.1)."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import files
from ..errors import HyperfitError
from ..extras import require_extra
from ..texts.blocks import TrainingBlocks
from ..texts.sources import load_hub
from .recipe import HyperfitArguments

DIGITS = "digits"
"""The 1797 handwritten digits of 8 x 8 pixels that come with scikit-learn: real images with no download."""
TEST = "test"
"""Split of a dataset whose images are for neither training nor validation."""


def is_image_model(config: Any) -> bool:
    """Whether a model's tokens are pixels."""
    return config.model_type == "imagegpt"


def load_processor(model: str) -> Any:
    """Load what turns images into a model's tokens.

    Raises:
        HyperfitError: the model has none.
    """
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(model)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise HyperfitError(f"{model}: no image processor can be loaded ({reason}); give a model with one") from error


def image_blocks(options: HyperfitArguments, processor: Any) -> TrainingBlocks:
    """Draw training and validation images at random by `sample_seed`, and turn them into blocks of pixels.

    The last pixel of each image is left out: with the start token before it, an image is one longer than the
    model has positions.

    Raises:
        HyperfitError: no such images, too few, or a --sequence_length that is not theirs.
    """
    size = processor.size
    pixels = size["height"] * size["width"]
    if options.sequence_length != pixels - 1:
        raise HyperfitError(
            f"--sequence_length {options.sequence_length}: an image of {size['height']} x {size['width']} pixels has "
            f"{pixels - 1} tokens besides its last; type --sequence_length {pixels - 1}"
        )
    images = _images(options, options.corpus_split)
    wanted = options.num_validation_samples + options.num_train_samples
    if options.num_train_samples < 1 or len(images) < wanted:
        raise HyperfitError(
            f"{options.corpus}: {len(images)} images, {options.num_train_samples} for training and "
            f"{options.num_validation_samples} for validation are needed; type --num_train_samples "
            f"{max(1, len(images) - options.num_validation_samples)}"
        )
    drawn = _order(images, options)[:wanted]
    ids = pixel_tokens((images[int(place)] for place in drawn), processor)[:, :-1]
    names = [f"image {place} of {options.corpus}" for place in drawn]
    held_out = options.num_validation_samples
    return TrainingBlocks(
        ids=ids[held_out:],
        texts=names[held_out:],
        validation_ids=ids[:held_out],
        validation_texts=names[:held_out],
        tokenizer=files.fingerprint([np.asarray(processor.clusters, dtype="<f4").tobytes()]),
        corpus=options.corpus,
        corpus_fingerprint=files.fingerprint([ids.astype("<i8").tobytes()]),
        seed=options.sample_seed,
        left_out=0,
    )


def unseen_images(options: HyperfitArguments, count: int) -> list[np.ndarray]:
    """Up to `count` random images that `image_blocks` takes for nothing: of the split test, or what it leaves over.

    Returns:
        RGB, uint8, shape (height, width, 3) each; their sizes may differ.
    Raises:
        HyperfitError: no such images.
    """
    apart = False
    if options.corpus != DIGITS and options.corpus_split != TEST:
        apart = TEST in load_hub(options.corpus, options.corpus_config, data_files=options.corpus_file)
    images = _images(options, TEST if apart else options.corpus_split)
    taken = 0 if apart else options.num_validation_samples + options.num_train_samples
    return [images[int(place)] for place in _order(images, options)[taken : taken + count]]


def pixel_tokens(images: Iterable[np.ndarray], processor: Any) -> np.ndarray:
    """Nearest colors, row by row, int64, shape (N, pixels)."""
    # One at a time: the processor keeps the distance of each pixel of a batch to each color, 4 MB for an image of
    # 32 x 32 and 512 colors.
    found = [processor(image, input_data_format="channels_last")["input_ids"][0] for image in images]
    return np.stack([np.asarray(each).reshape(-1) for each in found]).astype(np.int64)


def digit_images() -> np.ndarray:
    """scikit-learn's handwritten digits in 17 levels of gray, 0 to 16, float64, shape (1797, 8, 8)."""
    require_extra("images", "the corpus of digits", "sklearn")
    from sklearn.datasets import load_digits

    return load_digits().images


def _images(options: HyperfitArguments, split: str) -> Any:
    """A sequence of RGB images."""
    if options.corpus == DIGITS:
        gray = np.rint(digit_images() * (255 / 16)).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=-1)
    from datasets import Image

    rows = load_hub(options.corpus, options.corpus_config, split=split, data_files=options.corpus_file)
    found = [name for name, feature in rows.features.items() if isinstance(feature, Image)]
    if not found:
        raise HyperfitError(
            f"{options.corpus}: no images in it (columns: {', '.join(rows.features)}); give a folder of images or a "
            f"Hub dataset with a column of them, such as uoft-cs/cifar10"
        )
    column = options.text_column or found[0]
    if column not in found:
        raise HyperfitError(f"{options.corpus}: no column of images '{column}' (found: {', '.join(found)})")
    return _Column(rows, column)


def _order(images: Any, options: HyperfitArguments) -> np.ndarray:
    """Random order in which images are taken, shape (images,)."""
    return np.random.default_rng(options.sample_seed).permutation(len(images))


class _Column:
    """Images of a dataset, decoded one at a time."""

    def __init__(self, rows: Any, column: str) -> None:
        self.rows, self.column = rows, column

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> np.ndarray:
        return np.asarray(self.rows[place][self.column].convert("RGB"))
