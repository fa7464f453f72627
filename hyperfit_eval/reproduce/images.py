"""Hyperfitting an ImageGPT on images, and letting it complete others (paper, Section 7.1 and Appendix B.1)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..checkpoints import load_config
from ..errors import HyperfitError
from ..generation import Decoding, continue_ids
from ..machine import default_device
from ..training.images import is_image_model, load_processor, pixel_tokens, unseen_images
from ..training.loading import load_model
from ..training.recipe_files import read_recipe
from .models import CHECKPOINT, IMAGE_RECIPE, parsed, run_recipe
from .setting import content_fingerprint, fingerprint_of
from .steps import Say, Step, StepContext

PROMPTS = 1000
"""At most; the paper completes all 10,000 test images of CIFAR-10 and looks at them."""
FEWEST_PROMPTS = 10
IMAGES, COMPLETIONS = "images.npz", "completions.npy"
CACHE_BYTES = {"cpu": 2 << 30}
ACCELERATOR_CACHE_BYTES = 16 << 30
"""Largest size of the keys and values of one batch: ImageGPT-Large caches 377 MB for each image, in float32."""
LARGEST_BATCH = 256
TRAINING_SECONDS, COMPLETING_SECONDS = 3000.0, 500.0
"""Seconds of the paper's setting on a GPU: the scale of the time left, which is corrected by what was measured."""


@dataclass(frozen=True)
class Source:
    """An ImageGPT and the images that it is hyperfitted on."""

    model: str
    """Folder or Hub id."""
    corpus: str
    """Folder of images or Hub dataset id."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `hyperfit train` that differ from the paper's recipe for images."""
    made: Step | None = None
    """The step in whose folder both are; None for a model and a corpus that were there."""

    def arguments(self, context: StepContext) -> dict[str, Any]:
        """All arguments of `hyperfit train` but those that follow from the images."""
        where = {"model": self.model, "corpus": self.corpus}
        if self.made:
            where = {name: str(context.folder_of(self.made) / folder) for name, folder in where.items()}
        return {"recipe": IMAGE_RECIPE, **where, **self.changes}

    @cached_property
    def inputs(self) -> dict[str, object]:
        """What identifies it."""
        if self.made:
            return {"model": "made", "corpus": self.corpus, "changes": dict(self.changes)}
        corpus = content_fingerprint(self.corpus)
        return {"model": fingerprint_of(self.model), "corpus": corpus, "changes": dict(self.changes)}

    @property
    def needs(self) -> tuple[Step, ...]:
        """The step that makes it, if any."""
        return (self.made,) if self.made else ()


def named(model: str | None, corpus: str | None, changes: Mapping[str, Any]) -> Source:
    """What a person named; for what they did not, ImageGPT-Large and CIFAR-10, as in the paper."""
    recipe = read_recipe(IMAGE_RECIPE).settings
    return Source(model or recipe["model"].value, corpus or recipe["corpus"].value, changes)


class Prompts(NamedTuple):
    """Images that no training saw, as the model's tokens."""

    tokens: np.ndarray
    """int64, shape (N, height * width), row by row."""
    colors: np.ndarray
    """RGB of each token, uint8, shape (tokens, 3)."""
    width: int

    @property
    def given(self) -> int:
        """Pixels of an image that are given: its first quarter."""
        return self.tokens.shape[1] // 4


def prompts_step(source: Source) -> Step:
    """Draw the images to be completed; first of all, so that what cannot be used is refused before the training."""

    def make(context: StepContext) -> None:
        options, _ = parsed({**source.arguments(context), "output_dir": str(context.folder)})
        config = load_config(options.model)
        if not is_image_model(config):
            raise HyperfitError(
                f"{options.model}: a model of type {config.model_type}, not an ImageGPT; give --image-model the folder "
                f"or Hub id of one, such as openai/imagegpt-large"
            )
        processor = load_processor(options.model)
        images = unseen_images(options, PROMPTS)
        if len(images) < FEWEST_PROMPTS:
            raise HyperfitError(
                f"{options.corpus}: {len(images)} images to complete besides the {options.num_train_samples} of "
                f"training and {options.num_validation_samples} of validation, {FEWEST_PROMPTS} are needed; add images "
                f"to it, or to its split test"
            )
        drawn = Prompts(pixel_tokens(images, processor), colors_of(processor), processor.size["width"])
        np.savez_compressed(context.folder / IMAGES, **drawn._asdict())

    return Step("images/prompts", make, source.inputs | {"count": PROMPTS}, source.needs, 10.0)


def read_prompts(context: StepContext, step: Step) -> Prompts:
    """What `prompting` left."""
    with np.load(context.folder_of(step) / IMAGES) as arrays:
        return Prompts(arrays["tokens"], arrays["colors"], int(arrays["width"]))


def colors_of(processor: Any) -> np.ndarray:
    """RGB of each token of an image processor, uint8, shape (tokens, 3)."""
    colors = np.asarray(processor.clusters, dtype=float)
    if processor.do_normalize:
        colors = colors * processor.image_std + processor.image_mean
    if processor.do_rescale:
        colors = colors / processor.rescale_factor
    return np.rint(colors).clip(0, 255).astype(np.uint8)


def training(source: Source, prompts: Step, seed: int) -> Step:
    """Hyperfit by the paper's recipe for images."""

    def make(context: StepContext) -> None:
        # The last pixel of an image has no position left beside the start token.
        tokens = read_prompts(context, prompts).tokens.shape[1] - 1
        run_recipe({**source.arguments(context), "sequence_length": tokens, "seed": seed}, context)

    seconds = 60.0 if source.made else TRAINING_SECONDS
    return Step("images/hyperfitted", make, {**source.inputs, "seed": seed}, (*source.needs, prompts), seconds)


def completion_step(name: str, source: Source, prompts: Step, trained: Step | None = None) -> Step:
    """Complete the prompts by the base model, or by what a training step left; leaves tokens, shape (N, pixels)."""

    def make(context: StepContext) -> None:
        folder = str(context.folder_of(trained) / CHECKPOINT) if trained else source.arguments(context)["model"]
        model = load_model(folder, "float32").to(default_device()).eval()
        completed = complete(model, read_prompts(context, prompts).tokens, context.say)
        np.save(context.folder / COMPLETIONS, completed)

    needs = (*source.needs, prompts, *((trained,) if trained else ()))
    seconds = 5.0 if source.made else COMPLETING_SECONDS
    return Step(f"images/completed-by-{name}", make, {"model": source.inputs["model"]}, needs, seconds)


def read_completions(context: StepContext, step: Step) -> np.ndarray:
    """What `completing` left."""
    return np.load(context.folder_of(step) / COMPLETIONS)


def complete(model: Any, images: np.ndarray, say: Say = print) -> np.ndarray:
    """Keep the first quarter of each image and complete the rest greedily.

    Args:
        model: an ImageGPT, on its device, in eval mode.
        images: tokens, shape (N, pixels).
        say: told how many are done, after each batch but the last.
    Returns:
        The same shape.
    """
    pixels, done = images.shape[1], 0
    given = pixels // 4
    start = model.config.vocab_size - 1  # opens every image
    model.generation_config.eos_token_id = None  # no pixel ends an image before its last

    def progress(count: int) -> None:
        nonlocal done
        done += count
        if done < len(images):
            say(f"    {done} of {len(images)} images completed")

    prompts = [[start, *image] for image in images[:, :given].tolist()]
    batch_size = images_at_a_time(model, pixels)
    continued = continue_ids(model, prompts, Decoding(pixels - given), batch_size=batch_size, progress=progress)
    return np.concatenate([images[:, :given], np.array(continued, dtype=images.dtype)], axis=1)


def images_at_a_time(model: Any, pixels: int) -> int:
    """As many images as their keys and values may fill the memory set aside for them, 1 to 256."""
    config = model.config
    cached = 2 * config.num_hidden_layers * config.hidden_size * pixels * model.dtype.itemsize
    budget = CACHE_BYTES.get(model.device.type, ACCELERATOR_CACHE_BYTES)
    return max(1, min(LARGEST_BATCH, budget // cached))
