"""Time and memory of the corpus metrics beside other tools and beside one pass over the data.

    python scripts/bench_metrics.py --quick
    python scripts/bench_metrics.py --corpus fiction.jsonl.xz --corpus more.jsonl.xz --tokenizer tokenizer.json

Prints a Markdown table. Real text is read from JSON-lines files with a "text" field, plain or
xz-packed, and cut into tokens by a `tokenizers` file, or into words and marks without one; where no
corpus is given, or it is too short for a job, tokens are drawn from a Zipf distribution. Every job runs
in a process of its own, whose peak memory is reported; times are the best of several runs.

sacrebleu is timed on 400 pairs and extrapolated to all pairs. fast-bleu (another definition of
Self-BLEU: all other texts are references at once) takes part if it can be imported.
"""

import argparse
import json
import lzma
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from hyperfit_eval import metrics

ROWS, ROW_TOKENS, SHORT, LONG = 2000, 256, 96, 224
BIG_TOKENS = 51_000_064
TEXTS = 1000
SACREBLEU_PAIRS = 400
JOBS = {
    "self_bleu_300": ("Self-BLEU, 300 x 96 tokens", "500x sacrebleu, 0.03 s"),
    "self_bleu_1000": ("Self-BLEU, 1000 x 96", "10x fast-bleu"),
    "dataset_bleu": ("Dataset BLEU, 300 x 322,000 windows", "20,000x sacrebleu, 1 s, 300 MB"),
    "dataset_bleu_words": ("the same, no smoothing", "as above"),
    "dataset_bleu_loops": ("the same, texts and corpus of loops", "6 s"),
    "dataset_bleu_one_row": ("the same, the corpus repeats one row", "6 s"),
    "dataset_bleu_tiny": ("the same, a vocabulary of 4 tokens", "6 s"),
    "dataset_bleu_big": ("Dataset BLEU, 300 against 51M tokens", "60 s, 500 MB"),
    "overlap": ("longest overlap, 300 against 0.5M tokens", "0.5 s"),
    "overlap_big": ("longest overlap, 300 against 51M tokens", "20 s"),
    "ttr_curve": ("TTR curve, 300 x 224", "0.02 s"),
}
BIG_JOBS = {"dataset_bleu_big", "overlap_big"}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, action="append", default=[], help="JSON lines, plain or .xz; repeatable")
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.json; default: words and marks")
    parser.add_argument("--quick", action="store_true", help="leave out the jobs on 51 million tokens")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each job; long ones run once")
    parser.add_argument("--work", nargs=2, metavar=("JOB", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    for path in filter(None, [*args.corpus, args.tokenizer]):
        if not path.is_file():
            parser.error(f"{path}: no such file")
    if args.work:
        name, folder = args.work
        result = prepare(args, Path(folder)) if name == "prepare" else run_job(name, Path(folder), args.repeats)
        print(json.dumps(result))
        return
    with tempfile.TemporaryDirectory() as folder:
        data = in_own_process("prepare", folder)
        print(f"Data: {data['description']}. {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}.\n", flush=True)
        peers = in_own_process("peers", folder)
        print("| job | seconds | CPU s | peak MB | beside | one pass, ms | times one pass | to reach |")
        print("|---|---:|---:|---:|---|---:|---:|---|", flush=True)
        for name in JOBS:
            if not (args.quick and name in BIG_JOBS):
                print(table_row(name, in_own_process(name, folder), peers), flush=True)


def in_own_process(name: str, folder: str) -> dict:
    """Run this script for one job and return what it prints."""
    command = [sys.executable, __file__, *sys.argv[1:], "--work", name, folder]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def table_row(name: str, result: dict, peers: dict) -> str:
    """A job's line of the table."""
    title, target = JOBS[name]
    seconds = result["seconds"]
    beside = []
    if result["pairs"]:
        other = peers["sacrebleu"] * result["pairs"]
        beside.append(f"sacrebleu {other:,.0f} s, {other / seconds:,.0f}x")
    if name in peers["fast-bleu"]:
        other = peers["fast-bleu"][name]
        beside.append(f"fast-bleu {other:.2f} s, {other / seconds:.0f}x")
    cells = [title, f"{seconds:.3f}", f"{result['cpu']:.3f}", f"{result['peak_mb']:.0f}", "; ".join(beside) or "-"]
    cells += [f"{1000 * result['pass']:.2f}", f"{seconds / result['pass']:,.0f}", target]
    return "| " + " | ".join(cells) + " |"


def run_job(name: str, folder: Path, repeats: int) -> dict:
    """Best wall and CPU time of a job, peak memory, and the time of one pass over its largest input."""
    if name == "peers":
        return time_peers(np.load(folder / "texts.npy")[:, :SHORT])
    job, data, pairs = make_job(name, folder)
    wall, cpu = [], []
    while len(wall) < repeats and sum(wall) < 10:
        start = time.perf_counter(), time.process_time()
        job()
        wall.append(time.perf_counter() - start[0])
        cpu.append(time.process_time() - start[1])
    one_pass = best_of(5, lambda: data.sum(dtype=np.int64))
    return {"seconds": min(wall), "cpu": min(cpu), "pass": one_pass, "peak_mb": peak_mb(), "pairs": pairs}


def make_job(name: str, folder: Path) -> tuple[Callable[[], object], np.ndarray, int]:
    """What to time, its largest input, and the number of sentence scores that sacrebleu would need."""
    texts = np.load(folder / "texts.npy")
    short = texts[:300, :SHORT]
    if name == "ttr_curve":
        return lambda: metrics.ttr_curve(texts[:300]), texts[:300], 0
    if name.startswith("self_bleu"):
        chosen = texts[: int(name.rsplit("_")[-1]), :SHORT]
        return lambda: metrics.self_bleu(chosen, "exp"), chosen, len(chosen) * (len(chosen) - 1)
    corpus = np.load(folder / ("big.npy" if name in BIG_JOBS else "corpus.npy"), mmap_mode="r")
    if name.startswith("overlap"):
        return lambda: metrics.longest_overlap(short, corpus), corpus, 0
    rng = np.random.default_rng(0)
    if name == "dataset_bleu_loops":
        short, corpus = loops(rng, 300, SHORT), loops(rng, ROWS, ROW_TOKENS)
    elif name == "dataset_bleu_one_row":
        corpus = np.tile(corpus[0], (ROWS, 1))
    elif name == "dataset_bleu_tiny":
        short, corpus = rng.integers(0, 4, short.shape), rng.integers(0, 4, corpus.shape)
    method = "none" if name.endswith("words") else "exp"
    pairs = len(short) * len(corpus) * (ROW_TOKENS - SHORT + 1)
    return lambda: metrics.dataset_bleu(short, corpus, SHORT, method), corpus, pairs


def loops(rng: np.random.Generator, rows: int, length: int) -> np.ndarray:
    """Rows that repeat one to six tokens of a vocabulary of ten."""
    parts = (rng.integers(0, 10, rng.integers(1, 7)) for _ in range(rows))
    return np.stack([np.resize(part, length) for part in parts])


def time_peers(texts: np.ndarray) -> dict:
    """Seconds of sacrebleu for one pair, and of fast-bleu for the Self-BLEU jobs."""
    from sacrebleu.metrics import BLEU

    scorer = BLEU(tokenize="none", smooth_method="exp", effective_order=True)
    lines = [" ".join(map(str, row)) for row in texts[: SACREBLEU_PAIRS + 1]]

    def score_pairs() -> None:
        for text, reference in pairwise(lines):
            scorer.sentence_score(text, [reference])

    peers: dict = {"sacrebleu": best_of(3, score_pairs) / SACREBLEU_PAIRS, "fast-bleu": {}}
    try:
        from fast_bleu import SelfBLEU
    except ImportError:
        return peers
    for count in (300, 1000):
        words = [[str(token) for token in row] for row in texts[:count]]
        score = partial(lambda words: SelfBLEU(words, {"bleu-4": (0.25,) * 4}).get_score(), words)
        peers["fast-bleu"][f"self_bleu_{count}"] = best_of(2, score)
    return peers


def best_of(runs: int, job: Callable[[], object]) -> float:
    """Seconds of the fastest of some runs."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def prepare(args: argparse.Namespace, folder: Path) -> dict:
    """Write texts.npy (1000 x 224), corpus.npy (2000 x 256) and big.npy (51M tokens); say what they are."""
    needed = TEXTS * ROW_TOKENS + (4 * ROWS * ROW_TOKENS if args.quick else BIG_TOKENS)
    tokens, source = read_tokens(args, needed), "real text"
    rows = tokens[: len(tokens) // ROW_TOKENS * ROW_TOKENS].reshape(-1, ROW_TOKENS)
    if len(rows) < ROWS + TEXTS:
        rows, source = zipf_rows(needed), "Zipf tokens"
    # The texts come from all over the corpus, and are taken out of it.
    own = np.linspace(0, len(rows) - 1, TEXTS).astype(int)
    np.save(folder / "texts.npy", rows[own, :LONG])
    rows = np.delete(rows, own, axis=0)
    np.save(folder / "corpus.npy", rows[np.random.default_rng(0).permutation(len(rows))[:ROWS]])
    distinct = len(np.unique(rows))
    if not args.quick:
        if rows.size < BIG_TOKENS:
            source += f" ({rows.size / BIG_TOKENS:.0%} of the 51M, the rest Zipf tokens)"
            rows = np.concatenate([rows, zipf_rows(BIG_TOKENS - rows.size)])
        np.save(folder / "big.npy", rows[: BIG_TOKENS // ROW_TOKENS])
    return {"description": f"{source}, {distinct:,} distinct tokens"}


def read_tokens(args: argparse.Namespace, needed: int) -> np.ndarray:
    """Tokens of the corpus files, up to the number needed; empty without files."""
    parts, count = [np.zeros(0, dtype=np.int32)], 0
    encode = subwords(args.tokenizer) if args.tokenizer else words_and_marks()
    for text in read_texts(args.corpus):
        parts.append(encode(text))
        count += len(parts[-1])
        if count >= needed:
            break
    return np.concatenate(parts)


def read_texts(paths: list[Path]) -> Iterator[str]:
    """Texts of JSON lines, plain or compressed."""
    for path in paths:
        opener = lzma.open if path.suffix == ".xz" else open
        with opener(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)["text"]


def subwords(path: Path) -> Callable[[str], np.ndarray]:
    """A function from text to the ids of a tokenizer's file."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    return lambda text: np.array(tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int32)


def words_and_marks() -> Callable[[str], np.ndarray]:
    """A function from text to numbers of its words and punctuation marks."""
    numbers: dict[str, int] = {}
    pattern = re.compile(r"\w+|[^\w\s]")

    def encode(text: str) -> np.ndarray:
        found = pattern.findall(text)
        return np.fromiter((numbers.setdefault(word, len(numbers)) for word in found), np.int32, len(found))

    return encode


def zipf_rows(count: int, vocabulary: int = 32_000) -> np.ndarray:
    """Independent tokens with frequencies as 1 / rank, shape (count / 256, 256), int32."""
    cumulative = np.cumsum(1 / np.arange(1, vocabulary + 1))
    drawn = np.random.default_rng(0).random(-(-count // ROW_TOKENS) * ROW_TOKENS)
    return np.searchsorted(cumulative / cumulative[-1], drawn).astype(np.int32).reshape(-1, ROW_TOKENS)


def peak_mb() -> float:
    """Most resident memory of this process so far, mapped files included."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would count what the parent held before this process began
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text()).group(1)) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
