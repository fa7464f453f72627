"""`hyperfit demo`: the whole path on the model and texts that ship here.

Evaluate the base model, hyperfit it on 96 passages, evaluate it again with and without citation
blocking, and write the report. Every step leaves its file in the output folder (docs/formats.md).
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from .. import metrics
from ..checkpoint_files import INDEX_FILE
from ..citation import CitationBlocker, CitationIndex
from ..files import write_json
from ..generation import Decoding, TextScore, continue_passages, describe_blocker, score_ids
from ..machine import versions
from ..records import CONTEXT_TOKENS, Continuation, Generation, write_continuations
from ..scores.tables import score_records
from ..scores.training_set import training_set_of
from ..terminal import bar
from ..texts.contexts import TextSet, demo_corpus_path, demo_texts
from ..tokenizers import bos_ids, tokenizer_fingerprint
from ..training.recipe import HyperfitArguments, RecipeArguments
from ..training.run import FinishedRun, hyperfit
from .location import demo_model_dir

BATCH_SIZE = 60
TRAINING_BLOCKS, VALIDATION_BLOCKS = 96, 12
LEARNING_RATE = 1e-3
"""The paper's 1e-6 is right for billions of parameters; millions need about this to reach near-zero
loss in 16 epochs, which spares a minute beside the paper's 20."""
EVALUATE_EVERY_EPOCHS = 2
STEPS_AN_EPOCH = TRAINING_BLOCKS // 8

BASE, TOP_P, HYPERFITTED, BLOCKED = (
    "base, greedy",
    "base, Top-P",
    "hyperfitted, greedy",
    "hyperfitted, greedy, blocked",
)


@dataclass(frozen=True)
class Measured:
    """One way of continuing the texts, and what came of it."""

    name: str
    records: list[Continuation]
    table: dict[str, Any]
    """Of `scores.score_records`."""
    fluency: dict[str, Any]
    """The base model's perplexity of these continuations, with its interval."""
    overlaps: list[int]
    """Longest run of tokens that each continuation, its 224 tokens, shares with the training blocks."""


@dataclass(frozen=True)
class Demo:
    """Everything that the report shows."""

    folder: Path
    run: FinishedRun
    measured: dict[str, Measured]
    original_fluency: dict[str, Any]
    distributions: dict[str, dict[str, dict[str, Any]]]
    """For base and hyperfitted: what they predict along the original texts."""
    texts_fingerprint: str
    tokenizer: Any
    seconds: float


def run_demo(folder: Path, epochs: int = 16, texts: TextSet | None = None, say: Callable[[str], None] = print) -> Demo:
    """Run every step and return what the report shows; about five minutes on two CPU cores.

    Args:
        folder: output folder; the files of an earlier demo in it are replaced.
        epochs: of hyperfitting.
        texts: what is continued; the 60 that ship with the package unless given.
        say: prints a line.
    Raises:
        HyperfitError: the folder holds something else, or cannot be written.
    """
    started = time.monotonic()
    texts = texts or demo_texts()
    base_dir = str(demo_model_dir())
    say(f"[1/4] The base model continues {len(texts.passages)} texts it has never seen")
    tokenizer = AutoTokenizer.from_pretrained(base_dir)
    base = _load(base_dir)
    steps = _Steps(folder, tokenizer, base, texts)
    greedy = {BASE: steps.continued(BASE, base, Decoding())}
    greedy[TOP_P] = steps.continued(TOP_P, base, Decoding.top_p_baseline())

    say(f"[2/4] Hyperfitting it on {TRAINING_BLOCKS} passages of 256 tokens, {epochs} epochs")
    run = hyperfit(
        HyperfitArguments(
            model=base_dir,
            corpus=str(demo_corpus_path()),
            num_train_samples=TRAINING_BLOCKS,
            num_validation_samples=VALIDATION_BLOCKS,
            evaluation_texts="demo",
            # The report shows the whole curve, whatever share of so short a training it takes.
            evaluation_share=1,
            overwrite_output_dir=True,
        ),
        RecipeArguments(
            output_dir=str(folder / "hyperfitted"),
            num_train_epochs=epochs,
            learning_rate=LEARNING_RATE,
            eval_strategy="steps",
            eval_steps=STEPS_AN_EPOCH * EVALUATE_EVERY_EPOCHS,
            report_to="none",
        ),
        say=say,
    )

    say("[3/4] The hyperfitted model continues the same texts, without and with citation blocking")
    hyperfitted = _load(str(run.folder))
    index = CitationIndex.load(run.folder / INDEX_FILE, tokenizer=tokenizer)
    greedy[HYPERFITTED] = steps.continued(HYPERFITTED, hyperfitted, Decoding())
    greedy[BLOCKED] = steps.continued(BLOCKED, hyperfitted, Decoding(), CitationBlocker(index))

    say("[4/4] Measuring")
    training = training_set_of(run.blocks)
    measured = {}
    for name, (generation, records) in greedy.items():
        ids = [record.generated_ids for record in records]
        table = score_records(generation, records, training=training)
        overlaps = metrics.longest_overlap(ids, training.rows).tolist()
        measured[name] = Measured(name, records, table, steps.fluency(ids, records), overlaps)
    some = greedy[BASE][1]
    demo = Demo(
        folder=folder,
        run=run,
        measured=measured,
        original_fluency=steps.fluency([record.original_ids for record in some], some),
        distributions={"base": steps.distributions(base, some), "hyperfitted": steps.distributions(hyperfitted, some)},
        texts_fingerprint=texts.fingerprint,
        tokenizer=tokenizer,
        seconds=time.monotonic() - started,
    )
    _write_results(demo)
    return demo


class _Steps:
    """The steps that need tokenizer and base model."""

    def __init__(self, folder: Path, tokenizer: Any, base: Any, texts: TextSet):
        self.folder, self.tokenizer, self.base, self.texts = folder, tokenizer, base, texts
        self.prefix = bos_ids(tokenizer)

    def continued(
        self, name: str, model: Any, decoding: Decoding, blocker: CitationBlocker | None = None
    ) -> tuple[Generation, list[Continuation]]:
        """Continue all texts and write the records."""
        with bar(len(self.texts.passages), f"Continuing ({name})") as shown:
            records = continue_passages(
                model,
                self.tokenizer,
                self.texts.passages,
                decoding,
                blocker=blocker,
                batch_size=BATCH_SIZE,
                progress=shown.update,
            )
        generation = Generation(
            model=name.split(",")[0],
            tokenizer=tokenizer_fingerprint(self.tokenizer),
            decoding=decoding.describe(),
            blocker=describe_blocker(blocker),
            seed=decoding.seed,
            dtype=str(model.dtype).removeprefix("torch."),
            texts=self.texts.fingerprint,
            versions=versions(),
        )
        file = f"continuations_{name.replace(', ', '_').replace('-', '_').lower()}.jsonl"
        write_continuations(self.folder / file, generation, records)
        return generation, records

    def fluency(self, continuations: list[list[int]], records: list[Continuation]) -> dict[str, Any]:
        """Perplexity of continuations under the base model: high for word salad, very low for loops."""
        rows = [record.context_ids + ids for record, ids in zip(records, continuations, strict=True)]
        scores = score_ids(self.base, rows, prefix=self.prefix, batch_size=BATCH_SIZE)
        return _perplexity([score.nll[CONTEXT_TOKENS:].mean() for score in scores])

    def distributions(self, model: Any, records: list[Continuation]) -> dict[str, dict[str, Any]]:
        """What a model predicts along the original texts (paper, Tables 1 and 3)."""
        rows = [record.context_ids + record.original_ids for record in records]
        scores: list[TextScore] = score_ids(model, rows, prefix=self.prefix, batch_size=BATCH_SIZE)
        columns = {
            "entropy_bits": [score.entropy_bits.mean() for score in scores],
            "top_1_mass": [100 * score.top_mass[:, 0].mean() for score in scores],
            "top_3_mass": [100 * score.top_mass[:, 1].mean() for score in scores],
            "top_5_mass": [100 * score.top_mass[:, 2].mean() for score in scores],
        }
        return {
            "context_perplexity": _perplexity([score.context_nll(CONTEXT_TOKENS).mean() for score in scores]),
            "perplexity": _perplexity([score.nll.mean() for score in scores]),
            **{name: metrics.mean_interval(np.array(values)).as_dict() for name, values in columns.items()},
        }


def _load(model: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()


def _perplexity(losses: list[float]) -> dict[str, Any]:
    """Perplexity over texts of equal length: the interval is that of the mean loss, exponentiated."""
    interval = metrics.mean_interval(np.array(losses))
    ends = {name: math.exp(getattr(interval, name)) for name in ("mean", "low", "high")}
    return interval.as_dict() | ends


def _write_results(demo: Demo) -> None:
    body = {
        "texts": demo.texts_fingerprint,
        "training_blocks": demo.run.blocks.fingerprint,
        "final_training_loss": demo.run.training.loss,
        "seconds": round(demo.seconds, 1),
        "original_fluency": demo.original_fluency,
        "distributions": demo.distributions,
        "models": {name: {"fluency": m.fluency, "metrics": m.table} for name, m in demo.measured.items()},
        "history": [asdict(row) for row in demo.run.history],
        "versions": versions(),
    }
    write_json(demo.folder / "results.json", "demo-results", 1, body)
