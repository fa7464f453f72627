"""Figures 6, 10 and 11 on a small color ImageGPT and a dataset in the layout of CIFAR-10."""

import io
import itertools
import json
from dataclasses import replace

import datasets
import matplotlib.image
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ImageGPTConfig, ImageGPTForCausalImageModeling
from transformers.models.imagegpt.image_processing_pil_imagegpt import ImageGPTImageProcessorPil

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.reproduce.digits import split_digits
from hyperfit_eval.reproduce.experiments.figure6 import (
    compared,
    contrast,
    draw_grid,
    draw_losses,
    pictures,
    repeated_share,
)
from hyperfit_eval.reproduce.images import Prompts, colors_of, complete, images_at_a_time, named, prompts_step
from hyperfit_eval.reproduce.plan import Plan
from hyperfit_eval.reproduce.section import read_section
from hyperfit_eval.reproduce.setting import demo_setting
from hyperfit_eval.reproduce.steps import run_steps
from hyperfit_eval.scores.score import Score
from hyperfit_eval.training.images import load_processor, pixel_tokens
from hyperfit_eval.training.monitor import Evaluation

SIDE = 8
LEVELS = (-1.0, 0.0, 1.0)
CORPUS = "someone/stripes"
TRAINING = {"num_train_samples": 8, "num_validation_samples": 2, "num_train_epochs": 2, "disable_tqdm": True}


@pytest.fixture(scope="module")
def image_model(tmp_path_factory):
    """A random ImageGPT for images of 8 x 8 pixels in 27 colors, in a folder of that name."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "tiny-imagegpt"
    # An end token among the colors, which a completion has to use all the same.
    config = ImageGPTConfig(
        vocab_size=28, n_positions=SIDE * SIDE, n_embd=32, n_layer=2, n_head=2, initializer_range=0.3, bos_token_id=27,
        eos_token_id=3, pad_token_id=None,
    )  # fmt: skip
    ImageGPTForCausalImageModeling(config).save_pretrained(folder)
    clusters = list(itertools.product(LEVELS, repeat=3))
    ImageGPTImageProcessorPil(clusters=clusters, size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """A folder to run from: `someone/stripes` as on the Hub, with 16 images to train on and 12 for the test."""
    root = tmp_path_factory.mktemp("corpora")
    rng = np.random.default_rng(0)
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["across", "down"])})
    for split, count in (("train", 16), ("test", 12)):
        rows: dict[str, list] = {"img": [], "label": []}
        for number in range(count):
            pixels = np.repeat(rng.integers(0, 256, (1, SIDE, 3), dtype=np.uint8), SIDE, axis=0)
            file = io.BytesIO()
            Image.fromarray(pixels if number % 2 else pixels.transpose(1, 0, 2)).save(file, format="PNG")
            rows["img"].append({"bytes": file.getvalue(), "path": None})
            rows["label"].append(number % 2)
        path = root / CORPUS / "plain_text" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    (root / "someone" / "texts").mkdir()
    (root / "someone" / "texts" / "train.jsonl").write_text(json.dumps({"text": "no image"}) + "\n")
    return root


@pytest.fixture
def here(corpora, tmp_path, monkeypatch):
    monkeypatch.chdir(corpora)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def plan_of(model, corpus, **training):
    setting = replace(demo_setting(quick=True), image_model=str(model), image_corpus=corpus)
    return Plan(replace(setting, image_training=TRAINING | training))


def test_measures_by_hand():
    # 0 1 comes twice in a row, 2 3 never again.
    assert repeated_share([0, 1, 0, 1, 2, 3], run=2) == pytest.approx(100 * 2 / 6)
    assert repeated_share([0, 1, 0, 1, 2, 3], run=3) == 0
    split = split_digits(0)
    assert len({*split.pretraining, *split.hyperfitting, *split.prompts}) == 1400 + 128 + 200

    # 2 x 4 pixels in two colors that differ by 30, 60 and 90 levels; one row given is two pixels of eight.
    colors = np.array([[0, 0, 0], [30, 60, 90]], dtype=np.uint8)
    image = np.array([[0, 0, 0, 1, 1, 1, 1, 1]])
    prompts = Prompts(image, colors, width=2)
    # Of the last three rows, 01 11 11: three pairs across, of which one differs, and four below, of which one does.
    assert prompts.given == 2
    assert contrast(image, prompts).tolist() == [pytest.approx(60 * 2 / 7)]


def test_what_the_numbers_say():
    def row(mean, distinct):
        score = Score("repeated", mean, low=mean - 1, high=mean + 1)
        return {"repeated": score, "contrast": score, "distinct": Score("distinct", distinct)}

    said = compared({"original images": row(9, 100), "base": row(50, 80), "hyperfitted": row(20, 99)})
    assert "repeat themselves less: 50% -> 20% of the pixels (originals 9%)" in said[0]
    assert "Distinct completions: 80% -> 99%" in said[0]
    said = compared({"original images": row(9, 100), "base": row(50, 80), "hyperfitted": row(51, 99)})
    assert "repeat themselves neither more nor less" in said[0]


def test_completing_with_the_cache_is_completing_without(image_model, monkeypatch):
    model = ImageGPTForCausalImageModeling.from_pretrained(image_model).eval()
    images = np.random.default_rng(1).integers(0, 27, (5, SIDE * SIDE))
    monkeypatch.setattr("hyperfit_eval.reproduce.images.LARGEST_BATCH", 2)
    lines = []
    got = complete(model, images, lines.append)
    assert lines == ["    2 of 5 images completed", "    4 of 5 images completed"]
    assert (got[:, :16] == images[:, :16]).all()

    ids = torch.nn.functional.pad(torch.from_numpy(images[:, :16]), (1, 0), value=27)
    with torch.inference_mode():
        while ids.shape[1] <= SIDE * SIDE:
            logits = model(input_ids=ids, use_cache=False).logits[:, -1]
            ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
    assert got.tolist() == ids[:, 1:].tolist()
    assert 3 in got[:, 16:], "the end token of the configuration is a color like any other"


def test_batches_fit_the_memory_set_aside():
    # ImageGPT-Large: 2 x 36 layers x 1280 x 1024 pixels x 4 bytes = 377 MB an image.
    config = ImageGPTConfig(n_embd=1280, n_layer=36, n_head=16, n_positions=1024, vocab_size=513)
    with torch.device("meta"):
        model = ImageGPTForCausalImageModeling(config)
    assert images_at_a_time(model, 1024) == (16 << 30) // (2 * 36 * 1280 * 1024 * 4) == 45


def test_colors_there_and_back(image_model):
    processor = load_processor(str(image_model))
    colors = colors_of(processor)
    assert colors[0].tolist() == [0, 0, 0] and colors[26].tolist() == [255, 255, 255]
    image = colors[np.random.default_rng(0).integers(0, 27, (SIDE, SIDE))]
    assert (colors[pixel_tokens([image], processor)[0]].reshape(SIDE, SIDE, 3) == image).all()


def test_the_processor_of_the_published_models(tmp_path):
    # The keys that openai/imagegpt-large has in its preprocessor_config.json, with fewer colors.
    clusters = [[-1, -1, -1], [0.5, 0, -0.5], [1, 1, 1]]
    body = {"clusters": clusters, "do_normalize": True, "do_resize": True, "resample": 2, "size": 32}
    body["feature_extractor_type"] = "ImageGPTFeatureExtractor"
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(body))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "imagegpt"}))
    processor = load_processor(str(tmp_path))
    assert colors_of(processor).tolist() == [[0, 0, 0], [191, 128, 64], [255, 255, 255]]
    assert pixel_tokens([np.full((32, 32, 3), (180, 120, 60), dtype=np.uint8)], processor).tolist() == [[1] * 1024]


@pytest.mark.slow
def test_a_named_model_and_corpus_from_end_to_end(image_model, here, tmp_path):
    step = pictures(plan_of(image_model, CORPUS))
    assert run_steps([step], tmp_path, say=lambda line: None) == {}

    # Prompts are the test images, none of those trained on.
    with np.load(tmp_path / "images" / "prompts" / "images.npz") as arrays:
        prompts, colors, width = (arrays[name] for name in ("tokens", "colors", "width"))
    assert prompts.shape == (12, 64) and colors.shape == (27, 3) and width == SIDE
    rows = datasets.load_dataset(CORPUS, split="test")
    originals = pixel_tokens([np.asarray(row["img"]) for row in rows], load_processor(str(image_model)))
    assert sorted(prompts.tolist()) == sorted(originals.tolist())

    run = json.loads((tmp_path / "images" / "hyperfitted" / "run" / "run.json").read_text())
    recipe = {name: entry["value"] for name, entry in run["recipe"].items()}
    assert (recipe["num_train_samples"], recipe["learning_rate"], recipe["sequence_length"]) == (8, 3e-3, 63)
    assert "3×10^{-3}" in run["recipe"]["learning_rate"]["why"]

    section = read_section(tmp_path / "pictures")
    cells = {row.group: row.cells for row in section.tables[0].rows}
    assert list(cells) == ["original images", "base", "hyperfitted"]
    assert cells["original images"]["right"].value == 100
    completed = np.load(tmp_path / "images" / "completed-by-hyperfitted" / "completions.npy")
    assert (completed[:, :16] == prompts[:, :16]).all()
    shares = [repeated_share(image[16:], SIDE) for image in completed]
    assert cells["hyperfitted"]["repeated"].value == pytest.approx(np.mean(shares))
    assert "repeated_pixels|run:8|" in cells["base"]["repeated"].signature
    assert section.findings[0].startswith("tiny-imagegpt is hyperfitted on 8 images of stripes for 2 epochs")
    for name in ("figure10.png", "figure11.png"):
        assert matplotlib.image.imread(tmp_path / "pictures" / name).std() > 0.1


def test_losses_without_validation_are_drawn(tmp_path):
    rows = [Evaluation(step, step, loss, 8, None, None, None, None, None, 1.0) for step, loss in ((0, None), (1, 0.5))]
    draw_losses(tmp_path / "losses.png", rows)
    assert matplotlib.image.imread(tmp_path / "losses.png").std() > 0.05


def test_without_a_test_split_the_images_left_over_are_completed(image_model, tmp_path):
    source = named(str(image_model), "digits", {"num_train_samples": 1780, "num_validation_samples": 4})
    run_steps([prompts_step(source)], tmp_path, say=lambda line: None)
    with np.load(tmp_path / "images" / "prompts" / "images.npz") as arrays:
        assert arrays["tokens"].shape == (13, 64)


@pytest.mark.slow
def test_the_grid_shows_the_colors(tmp_path):
    colors = np.array([[255, 0, 0], [0, 0, 255]], dtype=np.uint8)
    tokens = np.zeros((2, 16), dtype=np.int64)
    draw_grid(tmp_path / "grid.png", Prompts(tokens, colors, 4), {"base": tokens, "hyperfitted": 1 - tokens})
    pixels = (255 * matplotlib.image.imread(tmp_path / "grid.png")[..., :3]).round().astype(int).reshape(-1, 3)
    red, blue, not_given = (int((pixels == color).all(axis=1).sum()) for color in ([255, 0, 0], [0, 0, 255], [225] * 3))
    # Originals, a quarter of the prompts and the base's completions are red, the hyperfitted model's are blue.
    assert red == pytest.approx(2.25 * blue, rel=0.05) and not_given == pytest.approx(0.75 * blue, rel=0.05)


def test_what_is_not_named_is_the_paper_s():
    assert (named(None, "digits", {}).model, named("a/model", None, {}).corpus) == (
        "openai/imagegpt-large",
        "uoft-cs/cifar10",
    )


def test_what_cannot_be_used_is_refused_before_the_training(image_model, tiny_checkpoint, here, tmp_path):
    def refused(model, corpus, **training):
        with pytest.raises(HyperfitError) as refusal:
            run_steps([pictures(plan_of(model, corpus, **training))], tmp_path / "study", say=lambda line: None)
        assert not (tmp_path / "study" / "images" / "prompts").exists()
        return str(refusal.value)

    assert "a model of type llama, not an ImageGPT; give --image-model the folder or Hub id" in refused(
        tiny_checkpoint, CORPUS
    )
    assert "no images in it (columns: text); give a folder of images or a Hub dataset" in refused(
        image_model, "someone/texts"
    )
    assert refused(image_model, "digits", num_train_samples=1790) == (
        "digits: 5 images to complete besides the 1790 of training and 2 of validation, 10 are needed; add images to "
        "it, or to its split test"
    )
    assert "no .safetensors weights" in refused(tmp_path, CORPUS)
