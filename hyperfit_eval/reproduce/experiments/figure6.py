"""Figures 6, 10 and 11: what an ImageGPT makes of the first quarter of an image, before and after hyperfitting.

The paper takes ImageGPT-Large and CIFAR-10 (Section 7.1, Appendix B.1); any ImageGPT and any images can be named.
Where none are, a tiny ImageGPT is first trained on scikit-learn's digits.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...files import fingerprint
from ...metrics import repeated_lengths
from ...scores.score import Score, difference
from ...scores.signature import signature
from ...training.folder import HISTORY, read_run
from ...training.monitor import Evaluation, read_history
from .. import drawing
from ..cells import mean_score
from ..digits import digits
from ..images import Prompts, completion_step, named, prompts_step, read_completions, read_prompts, training
from ..models import CHECKPOINT
from ..plan import Plan
from ..section import Figure, Row, Section, Table
from ..steps import Step, StepContext

SHOWN = 10
GAP = 2
"""Pixels of the grid between two images, where an image is at most 32 wide."""
COLUMNS = {
    "repeated": "repeated pixels, %",
    "contrast": "neighbors differ by, levels",
    "distinct": "distinct completions, %",
    "right": "pixels as in the original, %",
}
PAPER = (
    "The paper looks at the completions of ImageGPT-Large and counts nothing: after hyperfitting it finds them sharper "
    "and more coherent, with fewer repetitive patterns, and still diverse."
)


def pictures(plan: Plan) -> Step:
    """Hyperfit, complete the last three quarters of unseen images greedily, measure them and draw them."""
    setting, seed = plan.setting, plan.setting.seeds[0]
    own = setting.image_model is None and setting.image_corpus is None
    source = (
        digits(seed, setting.image_training)
        if own
        else named(setting.image_model, setting.image_corpus, setting.image_training)
    )
    drawn = prompts_step(source)
    trained = training(source, drawn, seed)
    steps = {
        "base": completion_step("base", source, drawn),
        "hyperfitted": completion_step("hyperfitted", source, drawn, trained),
    }
    model = "A tiny ImageGPT, trained on digits before," if own else Path(source.model).name

    def make(context: StepContext) -> None:
        prompts = read_prompts(context, drawn)
        completed = {name: read_completions(context, step) for name, step in steps.items()}
        run = context.folder_of(trained) / CHECKPOINT
        history, _ = read_history(run / HISTORY)
        draw_grid(context.folder / "figure11.png", prompts, completed)
        draw_losses(context.folder / "figure10.png", history)
        rows = [
            Row(name, entries(images, prompts, seed), name)
            for name, images in {"original images": prompts.tokens, **completed}.items()
        ]
        last, losses = history[-1], [row.validation_loss for row in (history[0], history[-1])]
        validation = f", validation loss {losses[0]:.2f} -> {losses[1]:.2f}" if None not in losses else ""
        images = read_run(run)["recipe"]["num_train_samples"]["value"]
        corpus = "other digits" if own else f"images of {Path(source.corpus).name}"
        Section(
            "pictures",
            "Images",
            "Section 7.1 and Appendix B.1, Figures 6, 10 and 11",
            [
                f"{model} is hyperfitted on {images} {corpus} for {last.epoch:g} epochs: training loss "
                f"{last.train_loss:.3f} nats a pixel{validation}.",
                *compared({row.group: row.cells for row in rows}),
                PAPER,
            ],
            [
                Table(
                    COLUMNS,
                    rows,
                    f"Greedy completions of {len(prompts.tokens)} images that hyperfitting did not see, from "
                    f"their first quarter. Repeated: in a run of {prompts.width} pixels (a row) or more that stood "
                    "earlier in the completion. Neighbors: next to or below each other, mean over red, green and "
                    "blue, of 256 levels.",
                    digits={"distinct": 0},
                )
            ],
            [
                Figure("figure11.png", "Originals, prompts, and greedy completions by base and hyperfitted model."),
                Figure("figure10.png", "Losses of hyperfitting, by epoch."),
            ],
        ).write(context.folder)

    return Step("pictures", make, {"columns": list(COLUMNS)}, (drawn, trained, *steps.values()))


def entries(images: np.ndarray, prompts: Prompts, seed: int) -> dict[str, Score]:
    """The columns of a row: means over images with intervals, of what was completed and not of what was given.

    Args:
        images: tokens, shape (N, pixels).
    """
    rest, originals = images[:, prompts.given :], prompts.tokens[:, prompts.given :]
    recipe = {
        "images": fingerprint([prompts.tokens.astype("<i8").tobytes()]),
        "N": len(images),
        "given": prompts.given,
        "seed": seed,
    }
    repeated = np.array([repeated_share(image, prompts.width) for image in rest])
    distinct = 100 * len({image.tobytes() for image in rest}) / len(rest)
    return {
        "repeated": mean_score(repeated, "%", "repeated_pixels", run=prompts.width, **recipe),
        "contrast": mean_score(contrast(images, prompts), "levels", "pixel_contrast", **recipe),
        "distinct": Score(
            "distinct_completions", distinct, "%", signature("distinct_completions", **recipe), n=len(rest)
        ),
        "right": mean_score(100 * (rest == originals).mean(axis=1), "%", "pixel_accuracy", **recipe),
    }


def repeated_share(image: Sequence[int], run: int) -> float:
    """Percent of the pixels that are in a run of `run` or more that stood earlier in the same image."""
    return 100 * float((repeated_lengths(image) >= run).mean())


def contrast(images: np.ndarray, prompts: Prompts) -> np.ndarray:
    """How much pixels differ from those to their right and below them, in the rows that were completed.

    Args:
        images: tokens, shape (N, pixels).
    Returns:
        Mean over pixels and colors of the absolute differences, 0 to 255, shape (N,).
    """
    first_row = -(-prompts.given // prompts.width)
    rgb = prompts.colors[images].reshape(len(images), -1, prompts.width, 3)[:, first_row:].astype(float)
    across, down = (np.abs(np.diff(rgb, axis=axis)).reshape(len(images), -1) for axis in (2, 1))
    return np.concatenate([across, down], axis=1).mean(axis=1)


def compared(cells: dict[str, dict[str, Score]]) -> list[str]:
    """What the numbers say of hyperfitted against base, with the originals beside them."""
    base, after, original = (cells[name] for name in ("base", "hyperfitted", "original images"))

    def word(column: str) -> str:
        return {1: "more", -1: "less", 0: "neither more nor less"}[difference(after[column], base[column]).side]

    return [
        f"Completions by the hyperfitted model repeat themselves {word('repeated')}: "
        f"{base['repeated'].value:.0f}% -> {after['repeated'].value:.0f}% of the pixels (originals "
        f"{original['repeated'].value:.0f}%). Neighboring pixels differ {word('contrast')}: by "
        f"{base['contrast'].value:.1f} -> {after['contrast'].value:.1f} levels (originals "
        f"{original['contrast'].value:.1f}). Distinct completions: {base['distinct'].value:.0f}% -> "
        f"{after['distinct'].value:.0f}%."
    ]


def draw_grid(path: Path, prompts: Prompts, completed: dict[str, np.ndarray]) -> None:
    """Lines of images: originals, what was given of them, and the completions."""
    images = prompts.tokens[:SHOWN]
    lines = {"original": images, "prompt": images, **{name: tokens[:SHOWN] for name, tokens in completed.items()}}
    width = prompts.width
    height = images.shape[1] // width
    gap = max(1, GAP * width // 32)
    canvas = np.full((len(lines) * (height + gap) - gap, len(images) * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for line, (name, tokens) in enumerate(lines.items()):
        rgb = prompts.colors[tokens]
        if name == "prompt":
            rgb[:, prompts.given :] = 225  # not given
        for column, image in enumerate(rgb):
            top, left = line * (height + gap), column * (width + gap)
            canvas[top : top + height, left : left + width] = image.reshape(height, width, 3)
    inches = 7.5
    with drawing.figure(path, inches + 0.9, inches * canvas.shape[0] / canvas.shape[1]) as axes:
        axes.imshow(canvas, interpolation="nearest")
        axes.set_yticks([line * (height + gap) + height / 2 for line in range(len(lines))], list(lines), fontsize=9)
        axes.set_xticks([])
        axes.tick_params(length=0, pad=6)
        axes.spines[:].set_visible(False)


def draw_losses(path: Path, history: Sequence[Evaluation]) -> None:
    """Training and validation loss by epoch (paper, Figure 10)."""
    with drawing.figure(path) as axes:
        for label, name, line in (("training", "train_loss", "hyperfitted"), ("validation", "validation_loss", "base")):
            points = [(row.epoch, getattr(row, name)) for row in history if getattr(row, name) is not None]
            if points:  # none where there are no validation images
                axes.plot(*zip(*points, strict=True), **drawing.style(line), label=label)
        drawing.label_axes(axes, "epoch", "loss, nats per pixel", {"bottom": 0})
