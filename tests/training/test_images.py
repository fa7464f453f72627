"""ImageGPT on real images: pixels become tokens, and the same run trains on them."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from transformers import ImageGPTConfig, ImageGPTForCausalImageModeling
from transformers.models.imagegpt.image_processing_pil_imagegpt import ImageGPTImageProcessorPil

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.texts.blocks import read_blocks
from hyperfit_eval.training.folder import read_run
from hyperfit_eval.training.recipe import HyperfitArguments, RecipeArguments
from hyperfit_eval.training.run import hyperfit

GREYS = 8
"""Colors of the tiny model, black to white."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A random ImageGPT for images of 8 x 8 pixels in eight greys."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("imagegpt")
    config = ImageGPTConfig(
        vocab_size=GREYS + 1, n_positions=64, n_embd=32, n_layer=2, n_head=2, resid_pdrop=0.1, bos_token_id=GREYS,
        eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    ImageGPTForCausalImageModeling(config).save_pretrained(folder)
    clusters = [[level] * 3 for level in np.linspace(-1, 1, GREYS).tolist()]
    ImageGPTImageProcessorPil(clusters=clusters, size={"height": 8, "width": 8}).save_pretrained(folder)
    return folder


@pytest.fixture
def train(checkpoint, tmp_path):
    def run(name="run", **given):
        options = {
            "model": str(checkpoint), "corpus": "digits", "num_train_samples": 16, "sequence_length": 63,
            "num_validation_samples": 4, "evaluation_texts": "none", "evaluation_share": 1,
        }  # fmt: skip
        training = {
            "output_dir": str(tmp_path / name), "num_train_epochs": 6, "learning_rate": 3e-3, "disable_tqdm": True,
            "bf16": False,
        }  # fmt: skip
        for key, value in given.items():
            (options if key in options else training)[key] = value
        return hyperfit(HyperfitArguments(**options), RecipeArguments(**training), say=lambda line: None)

    return run


@pytest.mark.slow
def test_a_tiny_imagegpt_is_trained_on_digits(train):
    run = train()
    # Each pixel is the nearest of eight greys, 0 to 16 in steps of 16 / 7; the last is left out.
    blocks = read_blocks(run.folder / "training_blocks.jsonl")
    greys = np.abs(load_digits().images.reshape(-1, 64, 1) - np.linspace(0, 16, GREYS)).argmin(-1)
    place = int(blocks.texts[0].split()[1])
    assert blocks.ids.shape == (16, 63) and blocks.ids[0].tolist() == greys[place, :-1].tolist()
    assert len({*blocks.texts, *blocks.validation_texts}) == 20

    assert run.history[-1].train_loss < run.history[1].train_loss
    assert run.history[0].ttr is not None and run.history[-1].samples == ()
    model = ImageGPTForCausalImageModeling.from_pretrained(run.folder)
    # The start token, then pixels.
    rows = torch.from_numpy(np.pad(blocks.ids, ((0, 0), (1, 0)), constant_values=GREYS))
    with torch.inference_mode():
        expected = model.eval()(rows, labels=rows).loss.item()
    assert read_run(run.folder)["results"]["train_loss"] == pytest.approx(expected, rel=1e-5)
    assert (run.folder / "preprocessor_config.json").exists()
    assert not (run.folder / "citation_index.safetensors").exists()


@pytest.mark.slow
def test_accumulated_images_are_a_batch(train):
    settings = {"optim": "sgd", "learning_rate": 0.1, "num_train_epochs": 1}
    whole, parts = train("whole", **settings), train("parts", **settings, per_device_train_batch_size=2)
    assert parts.last.train_loss == pytest.approx(whole.last.train_loss, rel=1e-5)
    assert parts.training.loss == pytest.approx(whole.training.loss, rel=1e-5)


def test_what_cannot_be_trained_on(train, tiny_checkpoint, tmp_path):
    with pytest.raises(
        HyperfitError, match="--sequence_length 256: an image of 8 x 8 pixels has 63 tokens besides its"
    ):
        train(sequence_length=256)
    with pytest.raises(
        HyperfitError, match="digits: 1797 images, 2000 for training and 4 for validation are needed; t"
    ):
        train(num_train_samples=2000)
    assert not (tmp_path / "run").exists()
