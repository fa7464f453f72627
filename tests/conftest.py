"""Fixtures shared by the tests: a tiny random model, and real data where it is at hand."""

import pytest
import torch
from paths import SHARED
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


def pytest_addoption(parser):
    """Of tests/engines/vllm, tests/engines/sglang and tests/engines/tgi."""
    parser.addoption(
        "--engine-start-limit", type=float, default=600, help="seconds within which an engine must have started"
    )


def pytest_collection_modifyitems(items):
    """Mark what needs the real data, and the tests of real engines."""
    for item in items:
        if "hub" in item.fixturenames:
            item.add_marker(pytest.mark.data)
        if "engines" in item.path.parts:
            item.add_marker(pytest.mark.engine)


@pytest.fixture(scope="session")
def hub():
    """A folder with real datasets under their Hub names, beside the checkout; tests skip without it."""
    folder = SHARED / "hub"
    if not folder.is_dir():
        pytest.skip("no folder with real datasets (shared/hub) beside the checkout")
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """A word-level tokenizer of 23 pieces; id 0 both opens and closes a text."""
    sentence = "the cat sat on a mat and dog ran to see it was old red sun in sky with no one"
    words = sentence.split()
    vocabulary = {"<|endoftext|>": 0, "<unk>": 1, **{word: i for i, word in enumerate(words, start=2)}}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|endoftext|>", eos_token="<|endoftext|>", unk_token="<unk>"
    )


@pytest.fixture(scope="session")
def tiny_model():
    """A random Llama of 50 tokens and 300 positions, in eval mode."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=300, bos_token_id=0, eos_token_id=0,
        # Large weights: a fresh model's flat logits would make every argmax a coin toss of rounding.
        initializer_range=0.5,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_model, tiny_tokenizer, tmp_path_factory):
    """The two saved into one folder."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder
