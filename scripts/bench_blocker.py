"""Time the citation blocker beside transformers' EncoderNoRepeatNGramLogitsProcessor on the same corpus.

    python scripts/bench_blocker.py            # everything, some minutes and 6 GB of memory
    python scripts/bench_blocker.py --quick    # the first table alone

The corpus has the size of the paper's (2000 sequences of 256 tokens) and ids by Zipf's law from a
vocabulary of 128,256; a tenth of the steps finds its last 5 tokens in it. A step is the whole call of a
processor on what `generate` passes: float32 scores and all ids so far, 32 of a prompt and up to 224 new.
"""

import argparse
import gc
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    EncoderNoRepeatNGramLogitsProcessor,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from hyperfit_eval.blocking import CitationBlocker
from hyperfit_eval.citation import CitationIndex
from hyperfit_eval.tokenizers import tokenizer_fingerprint

VOCABULARY = 128_256
BLOCK_TOKENS = 256
PROMPT_TOKENS = 32
STEPS = 224
BATCHES = (1, 8, 64)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="without the large corpus and the model")
    parser.add_argument("--rounds", type=int, default=20, help="generations timed (default 20)")
    parser.add_argument("--large", type=int, default=50_000_000, help="tokens of the large corpus")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    tokenizer = made_up_tokenizer(rng)
    corpus = zipf_ids(rng, (2000, BLOCK_TOKENS))
    index, micros = beside_the_peer(rng, tokenizer, corpus, args.rounds)
    if not args.quick:
        share_of_a_step(index, micros)
        memory_mapped(rng, tokenizer, args.large, args.rounds)


def beside_the_peer(
    rng: np.random.Generator, tokenizer: PreTrainedTokenizerFast, corpus: np.ndarray, rounds: int
) -> tuple[CitationIndex, list[float]]:
    """Print both processors in one table; return the index and the blocker's microseconds by batch."""
    prints = min(timed(lambda: tokenizer_fingerprint(tokenizer))[0] for _ in range(3))
    build, index = min(
        (timed(lambda: CitationIndex.build(corpus, tokenizer)) for _ in range(3)), key=lambda pair: pair[0]
    )
    before = resident_mib()
    ids = torch.from_numpy(corpus.reshape(1, -1)).long()
    peer_build, peer = timed(lambda: EncoderNoRepeatNGramLogitsProcessor(6, ids))
    peer_mib = resident_mib() - before

    blocker_micros, peer_micros, argmax_micros = [], [], []
    for rows in BATCHES:
        steps = generation(rng, corpus, rows)
        blocker = CitationBlocker(index)
        blocker_micros.append(step_micros(blocker, steps, rounds))
        peer_micros.append(step_micros(peer, steps, 4))
        argmax_micros.append(step_micros(lambda _, scores: scores.argmax(dim=-1), steps, 4))
        hits = blocker.counters.matched / blocker.counters.steps
        times = peer_micros[-1] / blocker_micros[-1]
        print(f"batch {rows}: {hits:.1%} of the positions matched; the peer takes {times:.1f} times as long")
    print(f"\n{corpus.size:,} tokens, vocabulary {VOCABULARY:,}; microseconds a step:\n")
    print("| | build, s | memory, MiB | B=1 | B=8 | B=64 |\n|---|---|---|---|---|---|")
    print(f"| CitationBlocker | {build:.2f} | {index_mib(index):.1f} | {cells(blocker_micros)} |")
    print(f"| EncoderNoRepeatNGramLogitsProcessor(6) | {peer_build:.2f} | {peer_mib:.0f} | {cells(peer_micros)} |")
    print(f"| argmax alone, for scale | | | {cells(argmax_micros)} |")
    print(f"\nOf the build, {prints:.2f} s are the tokenizer's fingerprint.")
    return index, blocker_micros


def share_of_a_step(index: CitationIndex, micros: list[float]) -> None:
    """Print what part of a decoding step of a model of about 100M parameters the blocker takes."""
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=512, intermediate_size=1536, num_hidden_layers=12, num_attention_heads=8,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    print(f"\nA Llama of {model.num_parameters() / 1e6:.0f}M parameters, float32, {torch.get_num_threads()} threads:\n")
    print("| | B=1 | B=8 | B=64 |\n|---|---|---|---|")
    steps_ms = []
    for rows in BATCHES:
        prompt = torch.randint(0, VOCABULARY, (rows, PROMPT_TOKENS))

        def generate(new_tokens: int, prompt: torch.Tensor = prompt) -> float:
            settings = {"max_new_tokens": new_tokens, "min_new_tokens": new_tokens, "do_sample": False}
            return timed(lambda: model.generate(prompt, attention_mask=torch.ones_like(prompt), **settings))[0]

        generate(2)
        steps_ms.append(min((generate(17) - generate(1)) / 16 for _ in range(3)) * 1e3)
    print(f"| one step of generate, ms | {cells(steps_ms)} |")
    shares = [f"{micro / 1e3 / step:.2%}" for micro, step in zip(micros, steps_ms, strict=True)]
    print(f"| of it the blocker | {' | '.join(shares)} |")


def memory_mapped(rng: np.random.Generator, tokenizer: PreTrainedTokenizerFast, tokens: int, rounds: int) -> None:
    """Build, save, open and use an index of `tokens` tokens."""
    corpus = zipf_ids(rng, (tokens // BLOCK_TOKENS, BLOCK_TOKENS))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "citation_index.safetensors"
        build, built = timed(lambda: CitationIndex.build(corpus, tokenizer))
        save, _ = timed(lambda: built.save(path))
        built = None
        opening, index = timed(lambda: CitationIndex.load(path))
        size = path.stat().st_size / 2**20
        steps = [generation(rng, corpus, rows) for rows in BATCHES]
        first = np.mean(generation_micros(CitationBlocker(index), steps[-1]))
        micros = [step_micros(CitationBlocker(index), step, rounds) for step in steps]
    print(f"\n{corpus.size:,} tokens, memory-mapped; microseconds a step:\n")
    print("| build, s | save, s | file, MiB | open, ms | first 224 steps, B=64 | B=1 | B=8 | B=64 |")
    print("|---|---|---|---|---|---|---|---|")
    print(f"| {build:.1f} | {save:.1f} | {size:.0f} | {opening * 1e3:.1f} | {first:.0f} | {cells(micros)} |")


def made_up_tokenizer(rng: np.random.Generator) -> PreTrainedTokenizerFast:
    """Byte-level BPE with VOCABULARY pieces of ASCII letters, every second of which starts with a space."""
    vocabulary = {piece: index for index, piece in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    parts, merges = list("abcdefghijklmnopqrstuvwxyz"), []
    while len(vocabulary) < VOCABULARY:
        left, right = (parts[place] for place in rng.integers(0, min(len(parts), 5000), 2))
        if left + right not in vocabulary:
            if len(left + right) <= 6:  # pieces of real vocabularies are short, and their file some 10 MB
                parts.append(left + right)
            for pair in ((left, right), ("Ġ", left + right)):
                vocabulary["".join(pair)] = len(vocabulary)
                merges.append(pair)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def zipf_ids(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Token ids by Zipf's law, the ranks in random order; int32."""
    shares = np.cumsum(1 / (np.arange(VOCABULARY) + 2.7))
    ranks = np.searchsorted((shares / shares[-1]).astype(np.float32), rng.random(shape, dtype=np.float32))
    return rng.permutation(VOCABULARY).astype(np.int32)[np.minimum(ranks, VOCABULARY - 1)]


def generation(rng: np.random.Generator, corpus: np.ndarray, rows: int) -> list[torch.Tensor]:
    """The ids of each step of one generation: by turns 6 tokens of the corpus and 14 that are not."""
    ids = rng.integers(0, VOCABULARY, (rows, PROMPT_TOKENS + STEPS))
    for row in ids:
        for start in range(int(rng.integers(0, 20)), row.size - 6, 20):
            block, offset = rng.integers(0, len(corpus)), rng.integers(0, BLOCK_TOKENS - 6)
            row[start : start + 6] = corpus[block, offset : offset + 6]
    whole = torch.from_numpy(ids)
    return [whole[:, :length].contiguous() for length in range(PROMPT_TOKENS, PROMPT_TOKENS + STEPS)]


def step_micros(processor: Callable, steps: list[torch.Tensor], rounds: int) -> float:
    """Microseconds a step: the mean over the steps of each step's best generation.

    Other work on the machine did not disturb the best one.
    """
    times = np.array([generation_micros(processor, steps) for _ in range(rounds + 1)])
    return float(times[1:].min(axis=0).mean())


def generation_micros(processor: Callable, steps: list[torch.Tensor]) -> list[float]:
    """Microseconds of each step of one generation."""
    scores = torch.zeros(len(steps[0]), VOCABULARY)
    times = []
    for ids in steps:
        start = time.perf_counter()
        processor(ids, scores)
        times.append((time.perf_counter() - start) * 1e6)
    return times


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that `action` took, and what it returned."""
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


def index_mib(index: CitationIndex) -> float:
    """Size of an index's arrays in MiB."""
    arrays = (index.keys, index.buckets, index.starts, index.positions, index.kinds, index.tokens)
    return sum(array.nbytes for array in arrays) / 2**20


def resident_mib() -> float:
    """Memory that this process holds (Linux)."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def cells(numbers: list[float]) -> str:
    """Numbers as cells of a Markdown table."""
    return " | ".join(f"{number:.1f}" if number < 100 else f"{number:.0f}" for number in numbers)


if __name__ == "__main__":
    main()
