"""The folder that a repository carries: as a model's own `generate`, and called from a repository of its own."""

import shutil
from pathlib import Path

import citation_tokenizers as kinds
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, set_seed

import hyperfit_eval.blocking
from hyperfit_eval.citation import CitationIndex
from hyperfit_eval.errors import HyperfitError

FOLDER = Path(hyperfit_eval.blocking.__file__).parent / "custom_generate"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A model, the index of what it says after one prompt, and the folder."""
    tokenizer = kinds.word_level()  # every token starts a word
    set_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        bos_token_id=None, eos_token_id=None, pad_token_id=0, initializer_range=1.0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    said = model.generate(torch.tensor([[5, 6]]), max_new_tokens=20, do_sample=False)
    folder = tmp_path_factory.mktemp("repository")
    model.save_pretrained(folder)
    CitationIndex.build(said[:, 2:].tolist(), tokenizer).save(folder / "citation_index.safetensors")
    shutil.copytree(FOLDER, folder / "custom_generate", ignore=shutil.ignore_patterns("__pycache__"))
    return folder, said


@pytest.fixture(autouse=True)
def modules_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path))


IDS = torch.tensor([[5, 6]])
SETTINGS = {"max_new_tokens": 20, "do_sample": False}


def test_as_the_models_own_generate(repository):
    folder, said = repository
    plain = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(plain.generate(IDS, **SETTINGS), said)  # the silent way around it
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    blocked = model.generate(IDS, **SETTINGS)  # positional, as generate() is usually called
    assert torch.equal(blocked[0, :7], said[0, :7]) and blocked[0, 7] != said[0, 7]
    assert torch.equal(model.generate(input_ids=IDS, **SETTINGS), blocked)
    assert torch.equal(model.generate(IDS, block_citations=False, **SETTINGS), said)
    assert torch.equal(model.generate(IDS, **SETTINGS), blocked)  # another generation, another blocker
    assert model.generate(said[:, :8], include_prompt=True, **SETTINGS)[0, 8] != said[0, 8]
    assert model.generate(said[:, :8], **SETTINGS)[0, 8] == said[0, 8]
    output = model.generate(IDS, return_dict_in_generate=True, output_logits=True, **SETTINGS)
    assert torch.equal(output.sequences, blocked)
    assert not torch.isinf(torch.stack(output.logits)).any()
    with pytest.raises(HyperfitError, match="continuous batching drops logits processors"):
        model.generate(IDS, cache_implementation="paged", **SETTINGS)


def test_from_a_repository_of_its_own(repository, tmp_path):
    folder, said = repository
    shutil.copytree(FOLDER, tmp_path / "blocker" / "custom_generate")
    model = AutoModelForCausalLM.from_pretrained(folder)
    arguments = {"custom_generate": str(tmp_path / "blocker"), "trust_remote_code": True, **SETTINGS}
    blocked = model.generate(IDS, **arguments)
    assert blocked[0, 7] != said[0, 7]
    with pytest.raises(ValueError, match="trust_remote_code"):
        model.generate(IDS, **{**arguments, "trust_remote_code": False})

    nowhere = LlamaForCausalLM(model.config)
    nowhere.name_or_path = str(tmp_path)
    with pytest.raises(HyperfitError, match=f"{tmp_path}: no citation_index.safetensors to block citations by"):
        nowhere.generate(IDS, **arguments)
    nowhere.generate(IDS, citation_index=folder / "citation_index.safetensors", **arguments)
