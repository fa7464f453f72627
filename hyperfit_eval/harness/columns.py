"""The metrics of the open-ended task: one value a text, then one number a metric.

lm-eval collects each metric's values in a column of its own, over all processes, and hands every
aggregation its column alone. Metrics that need all texts at once (Self-BLEU and the comparisons with
the training set) therefore read the first column, `texts`, whose values are the continuation records
themselves; that is also how `--log_samples` keeps every continuation with its ids. The other
corpus-level columns carry only the text's id.

Fractions are reported x100, as in the paper. What a model cannot give is the word "unavailable",
never a number.
"""

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lm_eval.api.metrics import mean

from .. import metrics
from ..errors import HyperfitError
from ..metrics.signature import Preset
from ..records import LONG, SHORT
from ..texts.blocks import TrainingBlocks, read_blocks
from ..texts.contexts import TextSet

UNAVAILABLE = "unavailable"
WINDOW_TOKENS = 96
"""TTR depends on length, so it is taken over the last 96 tokens in both scenarios (paper, Section 4)."""

REPETITION = ("ttr_at_128", "ttr_at_256", "rep_4_at_256")
DISTRIBUTION = ("entropy_bits", "top_1_mass", "top_3_mass", "top_5_mass")
SELF_BLEU = ("self_bleu_avg", "self_bleu_max", "self_bleu_token_avg", "self_bleu_token_max")
DATASET = ("dataset_bleu_avg", "dataset_bleu_max", "dataset_bleu_token_avg", "dataset_bleu_token_max",
           "dataset_overlap_avg", "dataset_overlap_max")  # fmt: skip
SIDES = {"": "generated", "original_": "original"}
"""The original continuations get the same metrics, as the row of human texts in the paper's tables."""

HIGHER_IS_BETTER: dict[str, bool] = {
    "ttr_at_128": True,
    "ttr_at_256": True,
    "rep_4_at_256": False,
    **dict.fromkeys(SELF_BLEU + DATASET, False),
}

logger = logging.getLogger("lm_eval.tasks.hyperfit_openended")


class Columns:
    """Values and aggregations for one task; `training_set` is a training-blocks file or None."""

    def __init__(self, texts: TextSet, training_set: Path | None):
        self.expected_texts = len(texts.passages)
        self.sources = list(dict.fromkeys(passage.source for passage in texts.passages))
        self.blocks: TrainingBlocks | None = read_blocks(training_set) if training_set else None
        self.records: list[dict[str, Any]] = []
        self.corpus_level: dict[str, float | str] = {}
        self.signatures: dict[str, str] = {}

    def of_text(self, doc: dict, continuation: dict[str, Any], score: dict[str, Any] | None) -> dict[str, Any]:
        """Return this text's value of every metric, `texts` first; None is a value the model does not give."""
        values: dict[str, Any] = {"texts": {"id": doc["id"], "source": doc["source"], **continuation}}
        for prefix, side in SIDES.items():
            values |= {prefix + name: value for name, value in _repetition(continuation[f"{side}_ids"]).items()}
        # Sum and count: perplexity is the exponential of the mean over all tokens of all texts.
        values["context_perplexity"] = score and [math.fsum(score["context_nll"]), len(score["context_nll"])]
        values["perplexity"] = score and [math.fsum(score["nll"]), len(score["nll"])]
        values["entropy_bits"] = score and score["entropy_bits"]
        for k in (1, 3, 5):
            values[f"top_{k}_mass"] = score and 100 * score[f"top_{k}"]
        for source in self.sources:
            mine = doc["source"] == source
            values[f"ttr_at_256_{source}"] = values["ttr_at_256"] if mine else None
            values[f"context_perplexity_{source}"] = values["context_perplexity"] if mine else None
        return values | dict.fromkeys([*self._corpus_level_names(), "comparable"], doc["id"])

    def aggregations(self) -> dict[str, Callable[[Sequence[Any]], Any]]:
        """Return each metric's aggregation; asked for anew for each metric, after `texts` was gathered."""
        scored = ["context_perplexity", *(f"context_perplexity_{source}" for source in self.sources), "perplexity"]
        per_text = [prefix + name for prefix in SIDES for name in REPETITION] + list(DISTRIBUTION)
        per_source = [f"ttr_at_256_{source}" for source in self.sources]
        return {
            "texts": self._gather,
            **dict.fromkeys(scored, _perplexity),
            # lm-eval knows the standard error of its own `mean` alone, and that takes no gaps.
            **{name: mean if self._given(name) else _mean_of_given for name in per_text},
            **dict.fromkeys(per_source, _mean_of_given),
            **{name: partial(self._corpus_level, name) for name in self._corpus_level_names()},
            "comparable": self._comparable,
        }

    def _gather(self, records: Sequence[dict[str, Any]]) -> int:
        # Sorted, since several processes interleave the texts and sums depend on their order.
        self.records = sorted(records, key=lambda record: record["id"])
        self.corpus_level = self._compute_corpus_level()
        return len(records)

    def _given(self, name: str) -> bool:
        if not self.records or name.startswith("original_"):
            return True
        # Only a model with exact ids also gives distributions.
        return all(record["generated_ids"] is not None for record in self.records)

    def _corpus_level_names(self) -> list[str]:
        names = [prefix + name for prefix in SIDES for name in SELF_BLEU]
        if self.blocks is not None:
            names += [prefix + name for prefix in SIDES for name in DATASET]
            names += [f"dataset_overlap_avg_{source}" for source in self.sources]
        return names

    def _corpus_level(self, name: str, ids: Sequence[str]) -> float | str:
        if sorted(ids) != [record["id"] for record in self.records]:
            raise HyperfitError(f"{name}: its texts are not those gathered; report this with your lm-eval version")
        return self.corpus_level[name]

    def _comparable(self, ids: Sequence[str]) -> str:
        if len(ids) == self.expected_texts:
            return "yes"
        # Self-BLEU is a maximum over the other texts: it grows with their number.
        logger.warning("corpus-level scores of %d of %d texts compare with no full run", len(ids), self.expected_texts)
        return f"no ({len(ids)} of {self.expected_texts} texts)"

    def _compute_corpus_level(self) -> dict[str, float | str]:
        results: dict[str, float | str] = {}
        for prefix, side in SIDES.items():
            words = [record[f"{side}_text_at_128"].split() for record in self.records]
            ids = [record[f"{side}_ids"] for record in self.records]
            ids = None if any(row is None for row in ids) else [row[:SHORT] for row in ids]
            rows = {"words": words, "ids": ids}
            for preset in metrics.PRESETS.values():
                results |= self._bleu(prefix, preset, rows[preset.unit])
            if self.blocks is not None:
                results |= self._overlap(prefix, ids)
        return results

    def _bleu(self, prefix: str, preset: Preset, rows: list | None) -> dict[str, float | str]:
        suffix = "" if preset.name == "paper" else f"_{preset.name}"
        tokenizer = self.records[0]["tokenizer"]
        recipe: dict[str, Any] = {"unit": preset.unit, "agg": "max-pair", "N": len(self.records), "len": SHORT}
        results: dict[str, float | str] = {}

        def put(metric: str, values: Any, **fields: Any) -> None:
            name = f"{prefix}{metric}{suffix}"
            results[f"{name}_avg"] = UNAVAILABLE if values is None else float(values.mean())
            results[f"{name}_max"] = UNAVAILABLE if values is None else float(values.max())
            self.signatures[name] = metrics.bleu_signature(metric, preset.smoothing, **recipe, **fields, tok_hash=tokenizer)

        smoothing = {"smooth_method": preset.smoothing.method, "effective_order": preset.smoothing.effective_order}
        if len(self.records) < 2:
            rows = None
        put("self_bleu", None if rows is None else metrics.self_bleu(rows, **smoothing))
        if self.blocks is not None:
            corpus = self._corpus(preset.unit)
            values = None if rows is None or corpus is None else metrics.dataset_bleu(rows, corpus, SHORT, **smoothing)
            put("dataset_bleu", values, win=SHORT, rows=len(self.blocks.ids), data=self.blocks.fingerprint)
        return results

    def _overlap(self, prefix: str, ids: list | None) -> dict[str, float | str]:
        corpus = self._corpus("ids")
        values = None if ids is None or corpus is None else metrics.longest_overlap(ids, corpus)
        names = [f"{prefix}dataset_overlap_avg", f"{prefix}dataset_overlap_max"]
        if not prefix:
            names += [f"dataset_overlap_avg_{source}" for source in self.sources]
        if values is None:
            return dict.fromkeys(names, UNAVAILABLE)
        results = dict(zip(names, (float(values.mean()), float(values.max())), strict=False))
        for source in self.sources if not prefix else []:
            mine = [value for value, record in zip(values, self.records, strict=True) if record["source"] == source]
            results[f"dataset_overlap_avg_{source}"] = float(sum(mine) / len(mine)) if mine else UNAVAILABLE
        return results

    def _corpus(self, unit: str) -> Any:
        """Rows of the training set, or None where its ids are another tokenizer's."""
        assert self.blocks is not None
        if unit == "words":
            return [text.split() for text in self.blocks.texts]
        if self.blocks.tokenizer != self.records[0]["tokenizer"]:
            logger.warning("the training set was cut with another tokenizer: its token metrics are unavailable")
            return None
        return list(self.blocks.ids)


def signatures(columns: Columns) -> dict[str, str]:
    """The recipe of each metric: BLEU from its computation, the rest from the constants here."""
    common = {"dec": "see generation_kwargs", "ctx": 32}
    fixed = {
        "ttr_at_128": metrics.signature("ttr", win=WINDOW_TOKENS, scn=128, unit="ids", **common),
        "ttr_at_256": metrics.signature("ttr", win=WINDOW_TOKENS, scn=256, unit="ids", **common),
        "rep_4_at_256": metrics.signature("rep", n=4, len=LONG, unit="ids", **common),
    }
    return fixed | columns.signatures


def _repetition(ids: list[int] | None) -> dict[str, float | None]:
    if ids is None:
        return dict.fromkeys(REPETITION)
    return {
        "ttr_at_128": 100 * metrics.type_token_ratio(ids[:SHORT], WINDOW_TOKENS),
        "ttr_at_256": 100 * metrics.type_token_ratio(ids, WINDOW_TOKENS),
        "rep_4_at_256": 100 * metrics.repetition(ids, 4),
    }


def _mean_of_given(values: Sequence[float | None]) -> float | str:
    given = [value for value in values if value is not None]
    return math.fsum(given) / len(given) if given else UNAVAILABLE


def _perplexity(values: Sequence[Sequence[float] | None]) -> float | str:
    given = [value for value in values if value is not None]
    if not given:
        return UNAVAILABLE
    return math.exp(math.fsum(total for total, _ in given) / sum(count for _, count in given))
