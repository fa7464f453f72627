"""Checkpoints as training writes them, read by transformers 4.51 in an environment of its own.

`make test-old-transformers` makes that environment and runs these tests.
"""

import json
import os
import subprocess
from pathlib import Path

import citation_tokenizers as kinds
import naive_checker
import pytest
import torch
from paths import ROOT
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, set_seed

from hyperfit_eval.tokenizers import tokenizer_fingerprint
from hyperfit_eval.training.older_readers import write_for_older_readers

OLD_PYTHON = Path(os.environ.get("OLD_TRANSFORMERS_PYTHON", ROOT / ".venv-old-transformers" / "bin" / "python"))
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
ROPES = {
    "another theta": {"rope_type": "default", "rope_theta": 77.0},
    "scaled": {**LLAMA3, "rope_theta": 500.0, "original_max_position_embeddings": 16},
}


def checkpoint(folder, rope, steps=0):
    """A Llama that has learned a text by heart in `steps`, its tokenizer, and the text's ids."""
    tokenizer = kinds.byte_level()
    corpus = [tokenizer("The quick brown foxes don't jump over the dog's well known tail in the barn.")["input_ids"]]
    set_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=128, rope_parameters=dict(rope), initializer_range=0.3,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    optimizer, ids = torch.optim.Adam(model.parameters(), lr=1e-2), torch.tensor(corpus)
    for _ in range(steps):
        optimizer.zero_grad()
        model(ids, labels=ids).loss.backward()
        optimizer.step()
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_for_older_readers(folder)
    return model, tokenizer, corpus


@pytest.mark.parametrize("rope", ROPES)
def test_transformers_5_reads_the_same_as_before(tmp_path, rope):
    model, tokenizer, corpus = checkpoint(tmp_path, ROPES[rope])
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["rope_theta"] == ROPES[rope]["rope_theta"]
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert AutoConfig.from_pretrained(tmp_path).rope_parameters == model.config.rope_parameters
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert type(loaded) is type(tokenizer) and tokenizer_fingerprint(loaded) == tokenizer_fingerprint(tokenizer)
    ids = torch.tensor(corpus)
    with torch.no_grad():
        assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path).eval()(ids).logits, model(ids).logits)


@pytest.mark.parametrize("rope", ROPES)
def test_transformers_4_51_gives_the_same_logits(tmp_path, rope):
    if not OLD_PYTHON.exists():
        pytest.skip("no environment with transformers 4.51: make test-old-transformers")
    model, tokenizer, corpus = checkpoint(tmp_path, ROPES[rope], steps=60)
    (tmp_path / "corpus.json").write_text(json.dumps(corpus))
    script = ROOT / "tests" / "support" / "old_transformers" / "read.py"
    done = subprocess.run(
        [OLD_PYTHON, script, tmp_path, tmp_path / "corpus.json"],
        capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout.splitlines()[-1])
    assert read["fingerprint"] == tokenizer_fingerprint(tokenizer)
    assert read["ids"] == tokenizer("The dog's tail.")["input_ids"]
    with torch.no_grad():
        expected = model(torch.tensor(corpus)).logits[0]
    assert torch.allclose(torch.tensor(read["logits"]), expected, atol=1e-4)
    assert len(naive_checker.violations(read["free"], corpus, tokenizer)) > 20
    assert naive_checker.violations(read["blocked"], corpus, tokenizer) == []
