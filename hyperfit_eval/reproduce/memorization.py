"""Memorization audit: what is copied, from where, and how much of the training text a prefix of it brings back."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import metrics
from ..citation import CitationBlocker, CitationIndex
from ..generation import Decoding, continue_ids
from ..texts.blocks import TrainingBlocks, read_blocks
from ..tokenizers import bos_ids
from ..training.folder import BLOCKS, INDEX
from . import drawing
from .models import CHECKPOINT, WRITING_SECONDS, written
from .plan import GREEDY, LABELS, Plan
from .scores import mean_entry, scores, share_entry
from .section import Figure, Row, Section, Table
from .steps import Skipped, Step, Workplace

PREFIXES = (8, 16, 32, 64)
"""Tokens of the training text that are given."""
CONTINUED_TOKENS = 64
PROMPTS = 48
TOLD_PREFIX = 32
"""The one that the report's sentence is about."""
EXTRACTION = "extraction.npz"
SHOWN_SPANS = 5
AROUND_TOKENS = 16


def memorization(plan: Plan) -> Step:
    """Longest copied spans beside their source, novelty by n-gram length, extraction by prefixes."""
    trained = plan.hyperfitted.trained
    assert trained is not None
    recited = _extraction(plan)

    def make(place: Workplace) -> None:
        blocks = read_blocks(place.of(trained) / CHECKPOINT / BLOCKS)
        tables = {name: scores(place, plan.scores[name]) for name in GREEDY}
        _draw_novelty(place, tables)
        with np.load(place.of(recited) / EXTRACTION) as arrays:
            extraction = {name: arrays[name] for name in arrays.files}
        rows = [
            Row(label, _extracted(extraction[key], blocks), key)
            for label, key in (("hyperfitted", "free"), ("hyperfitted, citation blocking", "blocked"))
        ]
        prefixes = fitting(blocks.ids.shape[1])
        Section(
            "memorization", "What is copied, and from where", "beyond the paper",
            [_recited(rows, prefixes), _copied(tables)],
            [
                Table(
                    {f"tokens_{p}": f"after {p}: tokens" for p in prefixes}
                    | {f"whole_{p}": f"after {p}: whole, %" for p in prefixes},
                    rows,
                    f"Greedy continuation of the first tokens of {extraction['free'].shape[1]} training blocks: how "
                    f"many of the next {CONTINUED_TOKENS} tokens are the block's own before the first that is not, and "
                    "the share of blocks that came back whole.",
                )
            ],
            [Figure("novelty.png", "Share of a text's n-grams that do not occur in the training set.")],
            _spans(place, plan, blocks),
        ).write(place.folder)  # fmt: skip

    needs = (recited, trained, *(plan.scores[n] for n in GREEDY), *(plan.continuations[n] for n in GREEDY))
    return Step("memorization", make, {}, needs)


def fitting(tokens: int) -> list[int]:
    """The prefixes after which a block of so many tokens goes on long enough.

    Raises:
        Skipped: there is none.
    """
    fit = [prefix for prefix in PREFIXES if prefix + CONTINUED_TOKENS <= tokens]
    if not fit:
        raise Skipped(
            f"training blocks of {tokens} tokens are too short: {PREFIXES[0]} are given, {CONTINUED_TOKENS} asked for"
        )
    return fit


def _draw_novelty(place: Workplace, tables: Mapping[str, dict[str, Any]]) -> None:
    sides = {"original texts": tables["base"]["original"]["all"]["novelty"]}
    sides |= {name: table["generated"]["all"]["novelty"] for name, table in tables.items()}
    with drawing.figure(place.folder / "novelty.png") as axes:
        for name, curve in sides.items():
            shown = curve["values"][:32]
            look = drawing.style(name) | {"marker": ""}
            axes.plot(range(1, len(shown) + 1), shown, **look, label=LABELS.get(name, name))
        axes.set_xlabel("n")
        axes.set_ylabel("n-grams that the training set lacks, %")
        axes.set_ylim(0, 102)
        axes.grid(color="0.92")
        axes.legend(frameon=False, fontsize=8)


def _extracted(right: np.ndarray, blocks: TrainingBlocks) -> dict[str, Any]:
    """A row of the table.

    Args:
        right: tokens that agree with the block, shape (prefixes, blocks).
    """
    cells: dict[str, Any] = {}
    for prefix, found in zip(fitting(blocks.ids.shape[1]), right, strict=True):
        recipe = {"prefix": prefix, "len": CONTINUED_TOKENS, "N": len(found), "corpus": blocks.fingerprint}
        cells[f"tokens_{prefix}"] = mean_entry(found.astype(float), "tokens", "extraction", **recipe)
        cells[f"whole_{prefix}"] = share_entry(found == CONTINUED_TOKENS, "extraction_whole", **recipe)
    return cells


def _recited(rows: list[Row], prefixes: list[int]) -> str:
    """What the table says of one prefix."""
    prefix = TOLD_PREFIX if TOLD_PREFIX in prefixes else prefixes[-1]
    (tokens, whole), (blocked, blocked_whole) = (
        (row.cells[f"tokens_{prefix}"]["mean"], row.cells[f"whole_{prefix}"]["mean"]) for row in rows
    )
    return (
        f"Given {prefix} tokens of a training block, the hyperfitted model goes on with {tokens:.0f} of the block's "
        f"next {CONTINUED_TOKENS} tokens before it first departs ({whole:.0f}% of the blocks to the end); with "
        f"citation blocking {blocked:.0f} ({blocked_whole:.0f}%)."
    )


def _copied(tables: Mapping[str, dict[str, Any]]) -> str:
    free, blocked = (tables[name]["generated"]["all"]["dataset_overlap"]["max"] for name in ("hyperfitted", "blocked"))
    return (
        f"From contexts it has never seen, the longest run it copies within 96 tokens is {free:.0f}, with citation "
        f"blocking {blocked:.0f}."
    )


def _extraction(plan: Plan) -> Step:
    """Continue the beginnings of training blocks, with and without blocking."""
    trained = plan.hyperfitted.trained
    assert trained is not None

    def make(place: Workplace) -> None:
        run = place.of(trained) / CHECKPOINT
        model, tokenizer = plan.hyperfitted.load(place)
        blocker = CitationBlocker(CitationIndex.load(run / INDEX, tokenizer))
        rows = read_blocks(run / BLOCKS).ids[:PROMPTS]
        decoding, prefix = Decoding(CONTINUED_TOKENS), bos_ids(tokenizer)
        found: dict[str, list[np.ndarray]] = {"free": [], "blocked": []}
        for length in fitting(rows.shape[1]):
            prompts = [prefix + row[:length].tolist() for row in rows]
            for name, processor in (("free", None), ("blocked", blocker)):
                said = continue_ids(
                    model, prompts, decoding, logits_processor=processor, batch_size=plan.setting.batch_size
                )
                found[name].append(same_tokens(np.array(said), rows[:, length : length + CONTINUED_TOKENS]))
        np.savez(place.folder / EXTRACTION, free=np.stack(found["free"]), blocked=np.stack(found["blocked"]))

    model = plan.setting.model_fingerprint
    inputs = {"model": model, "prefixes": PREFIXES, "tokens": CONTINUED_TOKENS, "prompts": PROMPTS}
    return Step("extraction", make, inputs, (trained,), 2 * WRITING_SECONDS)


def same_tokens(said: np.ndarray, written: np.ndarray) -> np.ndarray:
    """How many tokens of each row agree before the first that does not.

    Args:
        said, written: ids, shape (N, T).
    Returns:
        int64, shape (N,), 0 to T.
    """
    return np.cumprod(said == written, axis=1).sum(axis=1)


def _spans(place: Workplace, plan: Plan, blocks: TrainingBlocks) -> list[dict[str, Any]]:
    """The longest copied spans of the hyperfitted continuations, with the block around them."""
    from ..checkpoints import load_tokenizer

    assert plan.hyperfitted.trained is not None
    tokenizer = load_tokenizer(str(place.of(plan.hyperfitted.trained) / CHECKPOINT))
    records = written(place, plan.continuations["hyperfitted"])[1]
    lengths, where = metrics.longest_overlap([r.generated_ids for r in records], list(blocks.ids), where=True)
    spans = []
    for i in np.argsort(lengths, kind="stable")[::-1][:SHOWN_SPANS]:
        block, offset = (int(place_) for place_ in where[i])
        row, length = blocks.ids[block].tolist(), int(lengths[i])
        spans.append(
            {
                "kind": "spans",
                "label": f"{records[i].id}, from training block {block + 1}",
                "length": length,
                "text": tokenizer.decode(row[offset : offset + length]),
                "before": tokenizer.decode(row[max(0, offset - AROUND_TOKENS) : offset]),
                "source": tokenizer.decode(row[offset : offset + length]),
                "after": tokenizer.decode(row[offset + length : offset + length + AROUND_TOKENS]),
            }
        )
    return spans
