"""Late-Stage LoRA: the last layers change, the others do not, and the checkpoint is a plain model."""

import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.training.folder import read_run
from hyperfit_eval.training.lora import add_lora
from hyperfit_eval.training.recipe import HyperfitArguments, RecipeArguments
from hyperfit_eval.training.run import hyperfit

pytest.importorskip("peft")


@pytest.fixture
def train(tiny_checkpoint, tiny_tokenizer, tmp_path):
    rng = np.random.default_rng(0)
    words = [word for word in tiny_tokenizer.get_vocab() if word[0] != "<"]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": " ".join(rng.choice(words, 300))}) + "\n" for _ in range(4)))

    def run(name, say=lambda line: None, **given):
        options = HyperfitArguments(
            model=str(tiny_checkpoint), corpus=str(corpus), evaluation_texts="none", num_train_samples=16,
            sequence_length=32, num_validation_samples=0, lora_layers=1, lora_rank=4, evaluation_share=1,
        )  # fmt: skip
        training = {
            "output_dir": str(tmp_path / name), "num_train_epochs": 4, "learning_rate": 1e-2, "disable_tqdm": True,
            "bf16": False, "eval_on_start": False, "save_strategy": "epoch",
        }  # fmt: skip
        return hyperfit(options, RecipeArguments(**training | given), say=say)

    return run


def test_only_the_last_layers_change_and_all_is_merged(train, tiny_checkpoint):
    run = train("run")
    before, after = load_file(tiny_checkpoint / "model.safetensors"), load_file(run.folder / "model.safetensors")
    assert after.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    linear = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    parts = ["self_attn"] * 4 + ["mlp"] * 3
    assert changed == {f"model.layers.1.{part}.{name}.weight" for part, name in zip(parts, linear, strict=True)}
    # The difference is of the rank that was asked for.
    difference = after["model.layers.1.mlp.up_proj.weight"] - before["model.layers.1.mlp.up_proj.weight"]
    assert torch.linalg.matrix_rank(difference, rtol=1e-4) == 4
    assert run.history[-1].train_loss < run.history[0].train_loss
    model = AutoModelForCausalLM.from_pretrained(run.folder)
    assert type(model) is LlamaForCausalLM and not (run.folder / "adapter_config.json").exists()
    results = read_run(run.folder)["results"]
    assert results["train_loss"] == pytest.approx(results["train_loss_before_saving"], rel=1e-6)
    assert read_run(run.folder)["recipe"]["lora_layers"]["value"] == 1


@pytest.mark.slow
def test_an_interrupted_run_goes_on(train):
    class Killed(Exception):
        pass

    def kill(line):
        if line.startswith("epoch    3"):
            raise Killed

    straight = train("straight")
    with pytest.raises(Killed):
        train("killed", say=kill)
    resumed = train("killed")
    one, other = (load_file(each.folder / "model.safetensors") for each in (straight, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_cannot_be_done(tiny_checkpoint, monkeypatch):
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint)
    with pytest.raises(HyperfitError, match="--lora_layers 3 --lora_rank 4 --lora_alpha 8: expected 1 to 2 layers"):
        add_lora(model, 3, 4, 8)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(HyperfitError, match=r"--lora_layers needs peft: pip install 'hyperfit-eval\[lora\]'"):
        add_lora(model, 1, 4, 8)
