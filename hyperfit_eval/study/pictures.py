"""Figures 6, 10 and 11: hyperfitting an ImageGPT and completing images greedily (paper, Section 7.1, B.1).

The paper takes ImageGPT-Large and CIFAR-10. Where those are not given, a tiny ImageGPT is first trained on
scikit-learn's digits: real images of 8 x 8 pixels with no download.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..metrics import repeated_lengths
from ..training.folder import HISTORY
from ..training.monitor import read_history
from . import drawing
from .models import CHECKPOINT
from .plan import Plan
from .scores import mean_entry
from .section import Figure, Row, Section, Table
from .steps import Step, Workplace

GREYS = 8
"""Colours of the tiny model."""
SIDE = 8
PRETRAINING_IMAGES, PROMPTS = 1400, 200
"""Of the 1797 digits; the prompts are in neither training set."""
PRETRAINING_EPOCHS = 12
HYPERFITTING_IMAGES, VALIDATION_IMAGES = 96, 32
LEARNING_RATE = 1e-3
SHOWN = 10
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
    ends = PRETRAINING_IMAGES, PRETRAINING_IMAGES + HYPERFITTING_IMAGES + VALIDATION_IMAGES
    return Split(drawn[: ends[0]], drawn[ends[0] : ends[1]], drawn[-PROMPTS:])


def pictures(plan: Plan) -> Step:
    """Pretrain, hyperfit, complete the last three quarters of unseen images, and draw them."""
    seed = plan.setting.seeds[0]
    inputs = {"seed": seed, "epochs": PRETRAINING_EPOCHS}
    base = Step("images/base", lambda place: _pretrain(place, seed), inputs, seconds=SECONDS)
    of_run: dict[str, Any] = {"seed": seed, "images": HYPERFITTING_IMAGES, "learning_rate": LEARNING_RATE}
    trained = Step("images/hyperfitted", lambda place: _hyperfit(place, base, seed), of_run, (base,), seconds=SECONDS)

    def make(place: Workplace) -> None:
        prompts = digit_tokens()[split_digits(seed).prompts]
        completed = {name: complete(_load(place.of(step) / CHECKPOINT), prompts) for name, step in models.items()}
        quarter = prompts.shape[1] // 4
        _grid(place.folder / "figure11.png", prompts, completed, quarter)
        history, _ = read_history(place.of(trained) / CHECKPOINT / HISTORY)
        _losses(place.folder / "figure10.png", history)
        recipe = {"images": "digits", "N": len(prompts), "seed": seed, "prompt": quarter}
        sides = {"original images": prompts, **completed}
        rest = prompts[:, quarter:]
        rows = [Row(name, _entries(images[:, quarter:], rest, recipe), name) for name, images in sides.items()]
        distinct = {row.label: row.cells["distinct"]["value"] for row in rows}
        repeated = {row.label: row.cells["repeated"]["mean"] for row in rows}
        first, last = history[0], history[-1]
        Section(
            "pictures",
            "Images",
            "Section 7.1 and Appendix B.1, Figures 6, 10 and 11",
            [
                f"A tiny ImageGPT, trained on {PRETRAINING_IMAGES} digits and hyperfitted on {HYPERFITTING_IMAGES} "
                f"others: validation loss {first.validation_loss:.2f} -> {last.validation_loss:.2f} nats while the "
                f"training loss falls to {last.train_loss:.3f}.",
                f"Distinct completions of {len(prompts)} first quarters: {distinct['base']:.0f}% (base) and "
                f"{distinct['hyperfitted']:.0f}% (hyperfitted). Pixels in runs that stood earlier in the image: "
                f"{repeated['base']:.0f}% and {repeated['hyperfitted']:.0f}% (originals "
                f"{repeated['original images']:.0f}%).",
                "ImageGPT-Large and CIFAR-10 (`hyperfit train --recipe imagegpt`) were not run.",
            ],
            [
                Table(
                    {
                        "repeated": "repeated pixels, %",
                        "distinct": "distinct completions, %",
                        "right": "pixels as in the original, %",
                    },
                    rows,
                    "Greedy completions of unseen images from their first quarter. Repeated: in a run of 8 pixels or "
                    "more that stood earlier in the completion, background included.",
                )
            ],
            [
                Figure("figure11.png", "Originals, prompts, and greedy completions by base and hyperfitted model."),
                Figure("figure10.png", "Losses of hyperfitting, by epoch."),
            ],
        ).write(place.folder)

    models = {"base": base, "hyperfitted": trained}
    return Step("pictures", make, {"seed": seed, "prompts": PROMPTS}, (base, trained))


def digit_tokens() -> np.ndarray:
    """scikit-learn's digits as the tokens of the tiny model: the nearest of eight greys, int64 (1797, 64)."""
    from sklearn.datasets import load_digits

    levels = np.linspace(0, 16, GREYS)
    return np.abs(load_digits().images.reshape(-1, SIDE * SIDE, 1) - levels).argmin(-1)


def complete(model: Any, images: np.ndarray, batch_size: int = 100) -> np.ndarray:
    """Keep the first quarter of each image and complete the rest greedily.

    Args:
        images: tokens, shape (N, pixels).
    Returns:
        The same shape.
    """
    import torch

    pixels = images.shape[1]
    start = model.config.vocab_size - 1  # opens every image
    done = []
    with torch.inference_mode():
        for first in range(0, len(images), batch_size):
            prompt = torch.from_numpy(images[first : first + batch_size, : pixels // 4])
            ids = torch.nn.functional.pad(prompt, (1, 0), value=start)
            while ids.shape[1] <= pixels:
                logits = model(input_ids=ids).logits[:, -1, :start]  # the start token is no pixel
                ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
            done.append(ids[:, 1:].numpy())
    return np.concatenate(done)


def repeated_share(image: Sequence[int], run: int = SIDE) -> float:
    """Percent of the pixels that are in a run of `run` or more that stood earlier in the same image."""
    return 100 * float((repeated_lengths(image) >= run).mean())


def _entries(images: np.ndarray, originals: np.ndarray, recipe: dict[str, Any]) -> dict[str, Any]:
    distinct = 100 * len({image.tobytes() for image in images}) / len(images)
    return {
        "repeated": mean_entry(np.array([repeated_share(image) for image in images]), "%", "repeated_pixels", **recipe),
        "distinct": {"value": distinct, "n": len(images), "unit": "%"},
        "right": mean_entry(100 * (images == originals).mean(axis=1), "%", "pixel_accuracy", **recipe),
    }


def _pretrain(place: Workplace, seed: int) -> None:
    """Train a tiny ImageGPT on digits; leaves a checkpoint with its image processor."""
    import torch
    from transformers import ImageGPTConfig, ImageGPTForCausalImageModeling

    # The one that needs no torchvision.
    from transformers.models.imagegpt.image_processing_pil_imagegpt import ImageGPTImageProcessorPil

    torch.manual_seed(seed)
    config = ImageGPTConfig(
        vocab_size=GREYS + 1, n_positions=SIDE * SIDE, n_embd=96, n_layer=4, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, bos_token_id=GREYS, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    model = ImageGPTForCausalImageModeling(config)
    targets = torch.from_numpy(digit_tokens()[split_digits(seed).pretraining])
    rows = torch.nn.functional.pad(targets[:, :-1], (1, 0), value=GREYS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    for epoch in range(PRETRAINING_EPOCHS):
        losses = []
        for chosen in torch.randperm(len(rows)).split(50):
            logits = model(input_ids=rows[chosen]).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets[chosen].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        place.say(f"    epoch {epoch + 1} of {PRETRAINING_EPOCHS}: loss {float(torch.stack(losses).mean()):.3f}")
    model.save_pretrained(place.folder / CHECKPOINT)
    clusters = [[level] * 3 for level in np.linspace(-1, 1, GREYS).tolist()]
    processor = ImageGPTImageProcessorPil(clusters=clusters, size={"height": SIDE, "width": SIDE})
    processor.save_pretrained(place.folder / CHECKPOINT)


def _hyperfit(place: Workplace, base: Step, seed: int) -> None:
    """The recipe of Appendix B.1 on digits that pretraining did not see."""
    from PIL import Image
    from sklearn.datasets import load_digits

    from ..training.recipe import HyperfitArguments, RecipeArguments
    from ..training.run import hyperfit

    images = place.folder / "images" / "train"
    images.mkdir(parents=True, exist_ok=True)
    grey = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    for number in split_digits(seed).hyperfitting:
        Image.fromarray(grey[number]).save(images / f"{number:04}.png")
    hyperfit(
        HyperfitArguments(
            model=str(place.of(base) / CHECKPOINT),
            corpus=str(images.parent),
            num_train_samples=HYPERFITTING_IMAGES,
            num_validation_samples=VALIDATION_IMAGES,
            sequence_length=SIDE * SIDE - 1,
            evaluation_texts="none",
            evaluation_share=1,
        ),
        RecipeArguments(
            output_dir=str(place.folder / CHECKPOINT),
            num_train_epochs=50,
            learning_rate=LEARNING_RATE,
            seed=seed,
            eval_strategy="epoch",
            report_to="none",
        ),
        say=place.say,
    )


def _load(folder: Path) -> Any:
    from transformers import ImageGPTForCausalImageModeling

    return ImageGPTForCausalImageModeling.from_pretrained(folder).eval()


def _grid(path: Path, originals: np.ndarray, completed: dict[str, np.ndarray], quarter: int) -> None:
    """Columns of images: original, what was given of it, and the completions."""
    side = int(np.sqrt(originals.shape[1]))
    masked = originals[:SHOWN].astype(float)
    masked[:, quarter:] = np.nan
    lines = {"original": originals, "prompt": masked, **completed}
    with drawing.figure(path, 0.62 * SHOWN + 1.2, 0.66 * len(lines) + 0.2, nrows=len(lines), ncols=SHOWN) as axes:
        for row, (name, images) in zip(axes, lines.items(), strict=True):
            for column, (cell, image) in enumerate(zip(row, images[:SHOWN], strict=True)):
                cell.imshow(image.reshape(side, side), cmap="gray", vmin=0, vmax=GREYS - 1)
                cell.set_facecolor("#cfe3f3")  # what is not given
                cell.set_xticks([])
                cell.set_yticks([])
                if column == 0:
                    cell.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)


def _losses(path: Path, history: Sequence[Any]) -> None:
    with drawing.figure(path) as axes:
        for label, name, line in (("training", "train_loss", "hyperfitted"), ("validation", "validation_loss", "base")):
            points = [(row.epoch, getattr(row, name)) for row in history if getattr(row, name) is not None]
            axes.plot(*zip(*points, strict=True), **drawing.style(line), label=label)
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss, nats per pixel")
        axes.set_ylim(bottom=0)
        axes.grid(color="0.92")
        axes.legend(frameon=False)
