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
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from lm_eval.api.metrics import mean

from .. import metrics
from ..errors import HyperfitError
from ..records import CONTEXT_TOKENS, SHORT, Continuation, Generation
from ..scores.measure import Measured, TrainingSet, generated_texts, measure, original_texts
from ..scores.signature import PRESETS, Preset, bleu_signature, prediction_signature
from ..scores.training_set import read_training_set
from ..texts.contexts import TextSet
from .requests import Doc

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
        self.texts_fingerprint = texts.fingerprint
        self.training: TrainingSet | None = read_training_set(training_set) if training_set else None
        self.records: list[dict[str, Any]] = []
        self.corpus_level: dict[str, float | str] = {}
        self.signatures: dict[str, str] = {}
        self.bos: bool | None = None
        """Whether BOS was read before the texts; None where the model gives no distributions."""

    def of_text(self, doc: Doc, continuation: dict[str, Any], score: dict[str, Any] | None) -> dict[str, Any]:
        """Return this text's value of every metric, `texts` first; None is a value the model does not give."""
        values: dict[str, Any] = {
            "texts": {"id": doc["id"], "source": doc["source"], "texts": self.texts_fingerprint, **continuation}
        }
        for prefix, side in SIDES.items():
            values |= {prefix + name: value for name, value in _repetition(continuation[f"{side}_ids"]).items()}
        if score:
            self.bos = len(score["context_nll"]) == CONTEXT_TOKENS
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
        if self.bos is not None:
            one, names = self.records[0], ("context_perplexity", "perplexity", *DISTRIBUTION)
            recipe = {"dtype": one["dtype"], "texts": self.texts_fingerprint, "tok_hash": one["tokenizer"]}
            self.signatures |= {
                name: prediction_signature(name, N=len(records), bos=self.bos, **recipe) for name in names
            }
        return len(records)

    def _given(self, name: str) -> bool:
        if not self.records or name.startswith("original_"):
            return True
        # Only a model with exact ids also gives distributions.
        return all(record["generated_ids"] is not None for record in self.records)

    def _corpus_level_names(self) -> list[str]:
        names = [prefix + name for prefix in SIDES for name in SELF_BLEU]
        if self.training is not None:
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
            exact = all(record[f"{side}_ids"] is not None for record in self.records)
            measured = self._measured(side) if exact else self._measured_in_words()
            for name, metric in measured.items():
                if metric.unavailable:
                    logger.warning("%s%s is unavailable: %s", prefix, name, metric.unavailable)
                    continue
                self.signatures[prefix + name] = metric.sign(len(self.records))
                results[f"{prefix}{name}_avg"] = float(metric.values.mean())
                results[f"{prefix}{name}_max"] = float(metric.values.max())
                if name == "dataset_overlap" and not prefix:
                    results |= self._by_source(f"{name}_avg", metric.values)
        return dict.fromkeys(self._corpus_level_names(), UNAVAILABLE) | results

    def _measured(self, side: str) -> dict[str, Measured]:
        """Metrics as `hyperfit score` computes them from the same records, with the same signatures."""
        generation = generation_of(self.records[0], self.texts_fingerprint)
        records = [continuation_of(record) for record in self.records]
        texts = (generated_texts if side == "generated" else original_texts)(generation, records)
        return measure(texts, self.training)

    def _measured_in_words(self) -> dict[str, Measured]:
        """The same for continuations without ids, as far as words go."""
        preset = PRESETS["paper"]
        words = [record["generated_text_at_128"].split() for record in self.records]
        recipe = {"unit": preset.unit, "len": SHORT, "dec": self.records[0]["decoding"]["method"]}

        def of(name: str, values: np.ndarray, **fields: Any) -> dict[str, Measured]:
            sign = partial(bleu_signature_of, name, preset, recipe | fields)
            return {name: Measured(values, "BLEU", sign, in_words=True)}

        smoothing = preset.smoothing.as_arguments()
        measured = of("self_bleu", metrics.self_bleu(words, **smoothing), agg="max-pair") if len(words) > 1 else {}
        if self.training is not None:
            corpus = [text.split() for text in self.training.texts]
            values = metrics.dataset_bleu(words, corpus, SHORT, **smoothing)
            measured |= of("dataset_bleu", values, agg="max-window", win=SHORT, **self.training.fields)
        return measured

    def _by_source(self, name: str, values: np.ndarray) -> dict[str, float]:
        means = {}
        for source in self.sources:
            mine = [i for i, record in enumerate(self.records) if record["source"] == source]
            if mine:
                means[f"{name}_{source}"] = float(values[mine].mean())
        return means


def bleu_signature_of(name: str, preset: Preset, fields: dict[str, Any], count: int) -> str:
    """Signature of a BLEU over `count` texts."""
    return bleu_signature(name, preset.smoothing, **fields, N=count)


def generation_of(record: dict[str, Any], texts_fingerprint: str, model: str = "") -> Generation:
    """The header of the records that a logged value of `texts` belongs to."""
    names = ("tokenizer", "former_tokenizer", "bos", "decoding", "blocker", "seed", "dtype")
    return Generation(model=model, texts=texts_fingerprint, **{name: record[name] for name in names})


def continuation_of(record: dict[str, Any]) -> Continuation:
    """The continuation record in a logged value of `texts`."""
    return Continuation(**{field.name: record[field.name] for field in fields(Continuation)})


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
