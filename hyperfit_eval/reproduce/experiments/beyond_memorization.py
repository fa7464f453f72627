"""Memorization audit: what is copied, from where, and how much of the training text a prefix of it brings back."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ... import metrics
from ...blocking import CitationBlocker
from ...checkpoint_files import BLOCKS_FILE, INDEX_FILE
from ...citation import CitationIndex
from ...generation import Decoding, continue_ids
from ...scores.score import Score
from ...texts.blocks import TrainingBlocks, read_blocks
from ...tokenizers import bos_ids
from .. import drawing
from ..cells import ScoreTables, mean_score, read_metrics, share_score
from ..models import CONTINUATION_SECONDS, read_continuations
from ..plan import GREEDY, LABELS, Plan
from ..section import Figure, Row, Section, Table
from ..steps import Skipped, Step, StepContext

PREFIXES = (8, 16, 32, 64)
"""Tokens of the training text that are given."""
CONTINUED_TOKENS = 64
PROMPTS = 48
REPORTED_PREFIX = 32
"""The one that the report's sentence is about."""
EXTRACTION = "extraction.npz"
SHOWN_SPANS = 5
AROUND_TOKENS = 16


def memorization(plan: Plan) -> Step:
    """Longest copied spans beside their source, novelty by n-gram length, extraction by prefixes."""
    extracted = extraction_step(plan)

    def make(context: StepContext) -> None:
        blocks = read_blocks(plan.hyperfitted.checkpoint(context) / BLOCKS_FILE)
        tables = {name: read_metrics(context, plan.metrics[name]) for name in GREEDY}
        _draw_novelty(context, tables)
        with np.load(context.folder_of(extracted) / EXTRACTION) as arrays:
            extraction = {name: arrays[name] for name in arrays.files}
        rows = [
            Row(label, _extracted(extraction[key], blocks), key)
            for label, key in (("hyperfitted", "free"), ("hyperfitted, citation blocking", "blocked"))
        ]
        prefixes = fitting(blocks.ids.shape[1])
        Section(
            "memorization", "What is copied, and from where", "beyond the paper",
            [_finding(rows, prefixes), _copied(tables)],
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
            _spans(context, plan, blocks),
        ).write(context.folder)  # fmt: skip

    greedy = (steps[name] for steps in (plan.metrics, plan.continuations) for name in GREEDY)
    return Step("memorization", make, {}, (extracted, *plan.hyperfitted.needs, *greedy))


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


def _draw_novelty(context: StepContext, tables: Mapping[str, ScoreTables]) -> None:
    sides = {"original texts": tables["base"].curves["original"]["novelty"]}
    sides |= {name: table.curves["generated"]["novelty"] for name, table in tables.items()}
    with drawing.figure(context.folder / "novelty.png") as axes:
        for name, curve in sides.items():
            shown = curve.values[:32]
            look = drawing.style(name) | {"marker": ""}
            axes.plot(range(1, len(shown) + 1), shown, **look, label=LABELS.get(name, name))
        limits = {"bottom": 0, "top": 102}
        drawing.label_axes(axes, "n", "n-grams that the training set lacks, %", limits, fontsize=8)


def _extracted(right: np.ndarray, blocks: TrainingBlocks) -> dict[str, Score]:
    """A row of the table.

    Args:
        right: tokens that agree with the block, shape (prefixes, blocks).
    """
    cells: dict[str, Score] = {}
    for prefix, found in zip(fitting(blocks.ids.shape[1]), right, strict=True):
        recipe = {"prefix": prefix, "len": CONTINUED_TOKENS, "N": len(found), "corpus": blocks.fingerprint}
        cells[f"tokens_{prefix}"] = mean_score(found.astype(float), "tokens", "extraction", **recipe)
        cells[f"whole_{prefix}"] = share_score(found == CONTINUED_TOKENS, "extraction_whole", **recipe)
    return cells


def _finding(rows: list[Row], prefixes: list[int]) -> str:
    """What the table says of one prefix."""
    prefix = REPORTED_PREFIX if REPORTED_PREFIX in prefixes else prefixes[-1]
    (tokens, whole), (blocked, blocked_whole) = (
        (row.cells[f"tokens_{prefix}"].value, row.cells[f"whole_{prefix}"].value) for row in rows
    )
    return (
        f"Given {prefix} tokens of a training block, the hyperfitted model goes on with {tokens:.0f} of the block's "
        f"next {CONTINUED_TOKENS} tokens before it first departs ({whole:.0f}% of the blocks to the end); with "
        f"citation blocking {blocked:.0f} ({blocked_whole:.0f}%)."
    )


def _copied(tables: Mapping[str, ScoreTables]) -> str:
    free, blocked = (tables[name].generated["all"]["dataset_overlap"].highest for name in ("hyperfitted", "blocked"))
    return (
        f"From contexts it has never seen, the longest run it copies within 96 tokens is {free:.0f}, with citation "
        f"blocking {blocked:.0f}."
    )


def extraction_step(plan: Plan) -> Step:
    """Continue the beginnings of training blocks, with and without blocking."""

    def make(context: StepContext) -> None:
        run = plan.hyperfitted.checkpoint(context)
        model, tokenizer = plan.hyperfitted.load(context)
        blocker = CitationBlocker(CitationIndex.load(run / INDEX_FILE, tokenizer))
        rows = read_blocks(run / BLOCKS_FILE).ids[:PROMPTS]
        decoding, prefix = Decoding(CONTINUED_TOKENS), bos_ids(tokenizer)
        found: dict[str, list[np.ndarray]] = {"free": [], "blocked": []}
        for length in fitting(rows.shape[1]):
            prompts = [prefix + row[:length].tolist() for row in rows]
            for name, processor in (("free", None), ("blocked", blocker)):
                said = continue_ids(
                    model, prompts, decoding, logits_processor=processor, batch_size=plan.setting.batch_size
                )
                found[name].append(same_tokens(np.array(said), rows[:, length : length + CONTINUED_TOKENS]))
        np.savez(context.folder / EXTRACTION, free=np.stack(found["free"]), blocked=np.stack(found["blocked"]))

    model = plan.setting.model_fingerprint
    inputs = {"model": model, "prefixes": PREFIXES, "tokens": CONTINUED_TOKENS, "prompts": PROMPTS}
    return Step("extraction", make, inputs, plan.hyperfitted.needs, 2 * CONTINUATION_SECONDS)


def same_tokens(said: np.ndarray, written: np.ndarray) -> np.ndarray:
    """How many tokens of each row agree before the first that does not.

    Args:
        said, written: ids, shape (N, T).
    Returns:
        int64, shape (N,), 0 to T.
    """
    return np.cumprod(said == written, axis=1).sum(axis=1)


def _spans(context: StepContext, plan: Plan, blocks: TrainingBlocks) -> list[dict[str, Any]]:
    """The longest copied spans of the hyperfitted continuations, with the block around them."""
    tokenizer = plan.hyperfitted.load_tokenizer(context)
    records = read_continuations(context, plan.continuations["hyperfitted"])[1]
    lengths, where = metrics.longest_overlap([r.generated_ids for r in records], list(blocks.ids), where=True)
    spans = []
    for i in np.argsort(lengths, kind="stable")[::-1][:SHOWN_SPANS]:
        block, offset = (int(position) for position in where[i])
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
