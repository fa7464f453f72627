"""A checkpoint that has learned two texts by heart, and servers of it by other engines: for their tests alone."""

import subprocess
import time
from contextlib import contextmanager
from types import SimpleNamespace

import citation_tokenizers as kinds
import httpx
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from hyperfit_eval.citation import CitationIndex

TEXTS = [
    kinds.TEXT + "A cat that sleeps in the sun hears every word of it, and in the evening tells nobody at all. ",
    "Once there was a river which had lost its way, and asked the stones for it. The stones, being slow, said: wait. ",
]


def make_book(folder):
    """A small Llama that recites TEXTS, with its index beside it."""
    tokenizer = kinds.byte_level(400, "".join(TEXTS))
    sequences = [tokenizer(text)["input_ids"] for text in TEXTS]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=512, bos_token_id=0, eos_token_id=1, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    longest = max(map(len, sequences)) + 1
    rows = torch.tensor([[0, *ids] + [-100] * (longest - 1 - len(ids)) for ids in sequences])
    for _ in range(200):
        model(input_ids=rows.clamp_min(0), labels=rows).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    index = CitationIndex.build(sequences, tokenizer)
    index.save(folder / "citation_index.safetensors")
    return SimpleNamespace(folder=folder, tokenizer=tokenizer, index=index, sequences=sequences)


@contextmanager
def served(line, environment, url, log, limit):
    """The server that a command line starts, once its /health answers 200; it is ended afterwards.

    Args:
        log: path of the file that its output goes to.
        limit: seconds within which it must be ready.
    """
    with log.open("w") as file:
        process = subprocess.Popen(line, env=environment, stdout=file, stderr=file)
    deadline = time.monotonic() + limit
    try:
        while not _is_ready(url):
            assert process.poll() is None, log.read_text(errors="replace")
            late = f"not ready after {limit:.0f} s (--engine-start-limit):\n"
            assert time.monotonic() < deadline, late + log.read_text(errors="replace")
            time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def _is_ready(url):
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
