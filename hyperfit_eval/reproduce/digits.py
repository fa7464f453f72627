"""An ImageGPT for images without a download: a tiny one, trained on scikit-learn's handwritten digits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..training.images import digit_images
from .images import Source
from .models import CHECKPOINT
from .steps import Step, StepContext

GREYS = 8
"""Colors of the tiny model."""
SIDE = 8
PRETRAINING_IMAGES, PROMPTS = 1400, 200
"""Numbers of the 1797 digits; the prompts are in neither training set."""
PRETRAINING_EPOCHS = 6
PRETRAINING_RATE = 4e-3
PRETRAINING_BATCH = 25
HYPERFITTING = {"num_train_samples": 96, "num_validation_samples": 32, "evaluation_share": 0.2, "compile_layers": False}
"""What differs from the paper's recipe for images; compiling so small a model takes longer than it saves."""
FOLDER = "digits"
SECONDS = 60.0


class Split(NamedTuple):
    """Which of the digits serve for what; no image for two things."""

    pretraining: np.ndarray
    hyperfitting: np.ndarray
    """With the images for validation."""
    prompts: np.ndarray


def split_digits(seed: int) -> Split:
    """Draw the digits' numbers, shape (N,) each."""
    drawn = np.random.default_rng(seed).permutation(1797)
    ends = PRETRAINING_IMAGES, PRETRAINING_IMAGES + 128
    return Split(drawn[: ends[0]], drawn[ends[0] : ends[1]], drawn[-PROMPTS:])


def digits(seed: int, changes: Mapping[str, Any]) -> Source:
    """The tiny model, and the digits that its pretraining leaves: a folder of images with the splits train and test."""

    def make(context: StepContext) -> None:
        split = split_digits(seed)
        _pretrain(context, split.pretraining, seed)
        _write_images(context.folder / FOLDER / "train", split.hyperfitting)
        _write_images(context.folder / FOLDER / "test", split.prompts)

    inputs = {"seed": seed, "epochs": PRETRAINING_EPOCHS, "rate": PRETRAINING_RATE}
    return Source(CHECKPOINT, FOLDER, {**HYPERFITTING, **changes}, Step("images/base", make, inputs, seconds=SECONDS))


def digit_tokens() -> np.ndarray:
    """scikit-learn's digits as the tokens of the tiny model: the nearest of eight greys, int64 (1797, 64)."""
    levels = np.linspace(0, 16, GREYS)
    return np.abs(digit_images().reshape(-1, SIDE * SIDE, 1) - levels).argmin(-1)


def _pretrain(context: StepContext, numbers: np.ndarray, seed: int) -> None:
    """Train a tiny ImageGPT on digits; leaves a checkpoint with its image processor."""
    import torch
    from transformers import ImageGPTConfig, ImageGPTForCausalImageModeling

    # The one that needs no torchvision.
    from transformers.models.imagegpt.image_processing_pil_imagegpt import ImageGPTImageProcessorPil

    torch.manual_seed(seed)
    config = ImageGPTConfig(
        vocab_size=GREYS + 1, n_positions=SIDE * SIDE, n_embd=64, n_layer=4, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, bos_token_id=GREYS, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    model = ImageGPTForCausalImageModeling(config)
    targets = torch.from_numpy(digit_tokens()[numbers])
    rows = torch.nn.functional.pad(targets[:, :-1], (1, 0), value=GREYS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PRETRAINING_RATE)
    updates = PRETRAINING_EPOCHS * -(-len(rows) // PRETRAINING_BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PRETRAINING_RATE, total_steps=updates)
    for epoch in range(PRETRAINING_EPOCHS):
        losses = []
        for chosen in torch.randperm(len(rows)).split(PRETRAINING_BATCH):
            logits = model(input_ids=rows[chosen]).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets[chosen].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        context.say(f"    epoch {epoch + 1} of {PRETRAINING_EPOCHS}: loss {float(torch.stack(losses).mean()):.3f}")
    model.save_pretrained(context.folder / CHECKPOINT)
    clusters = [[level] * 3 for level in np.linspace(-1, 1, GREYS).tolist()]
    processor = ImageGPTImageProcessorPil(clusters=clusters, size={"height": SIDE, "width": SIDE})
    processor.save_pretrained(context.folder / CHECKPOINT)


def _write_images(folder: Path, numbers: np.ndarray) -> None:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    gray = np.rint(digit_images() * (255 / 16)).astype(np.uint8)
    for number in numbers:
        Image.fromarray(gray[number]).save(folder / f"{number:04}.png")
