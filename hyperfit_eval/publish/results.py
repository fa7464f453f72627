"""Results in one form: numbers with intervals, signatures and settings."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import files
from ..documents import Value, read_document
from ..errors import HyperfitError
from ..scores.score import Score
from ..scores.signature import Signature, prediction_signature

KIND = "published-results"
VERSION = 1
FILE = "results.json"

METRICS: dict[str, tuple[str, str]] = {
    "ttr_at_128": ("TTR at 128 tokens", "%"),
    "ttr_at_256": ("TTR at 256 tokens", "%"),
    "rep_4_at_256": ("repeated 4-grams at 256 tokens", "%"),
    "self_bleu_avg": ("Self-BLEU of words, mean", "BLEU"),
    "self_bleu_max": ("Self-BLEU of words, highest", "BLEU"),
    "self_bleu_token_avg": ("Self-BLEU of ids, mean", "BLEU"),
    "self_bleu_token_max": ("Self-BLEU of ids, highest", "BLEU"),
    "dataset_bleu_avg": ("BLEU against the training set, words, mean", "BLEU"),
    "dataset_bleu_max": ("BLEU against the training set, words, highest", "BLEU"),
    "dataset_bleu_token_avg": ("BLEU against the training set, ids, mean", "BLEU"),
    "dataset_bleu_token_max": ("BLEU against the training set, ids, highest", "BLEU"),
    "dataset_overlap_avg": ("longest run copied, of 96 tokens, mean", "tokens"),
    "dataset_overlap_max": ("longest run copied, of 96 tokens, highest", "tokens"),
    "overlap_rate": ("texts with more than 5 tokens copied in a row, of 224", "%"),
    "context_perplexity": ("perplexity of the contexts", "perplexity"),
    "perplexity": ("perplexity of the original texts", "perplexity"),
    "entropy_bits": ("entropy of the predictions", "bits"),
    "top_1_mass": ("probability of the likeliest token", "%"),
}
"""The numbers of the open-ended task that are published, by lm-eval's names: label and unit."""
RECIPE = ("N", "ctx", "dec", "block", "dtype", "texts", "tok_hash")
"""Fields of a signature without which its number cannot be measured again."""


def published_json(score: Score) -> dict[str, object]:
    """A number of results.json, which has its metric beside it."""
    names = ("metric", "value", "unit", "signature", "low", "high", "method")
    return {name: getattr(score, name) for name in names}


def read_published_score(value: Value) -> Score:
    """Read what `published_json` made; errors as `Value`."""
    return replace(_signed_score(value["metric"].text(), value), n=None, highest=None)


@dataclass(frozen=True)
class TaskSettings:
    """How one of lm-eval's own tasks was run."""

    task: str
    num_fewshot: int | None = None
    limit: float | None = None
    """Questions asked of each task; None for all."""
    N: int | None = None
    """Questions asked in all."""
    dtype: str | None = None
    lm_eval: str | None = None
    """Its version."""


@dataclass(frozen=True)
class Evaluation:
    """The numbers of one way of decoding, or of one task of lm-eval, with what is needed to repeat it."""

    title: str
    settings: dict[str, str]
    """The fields of the open-ended task's signatures, see `settings_of`; empty for another task."""
    numbers: list[Score]
    originals: list[Score] = field(default_factory=list)
    """The same metrics of the original continuations."""
    left_out: tuple[str, ...] = ()
    """Metrics that have no number in the file, such as "acc is NaN"; not published."""
    task: TaskSettings | None = None
    """Set for a task of lm-eval, None for the open-ended one."""

    @classmethod
    def from_json(cls, value: Value) -> "Evaluation":
        """Read what `write_results` wrote."""
        numbers, originals = (list(map(read_published_score, value[s].elements())) for s in ("numbers", "originals"))
        settings = value["settings"]
        if settings.get("task") is None:
            return cls(value["title"].text(), _settings(settings), numbers, originals)
        return cls(value["title"].text(), {}, numbers, originals, task=_task_settings(settings))

    def to_json(self) -> dict[str, object]:
        """Without `left_out`."""
        numbers, originals = (list(map(published_json, side)) for side in (self.numbers, self.originals))
        settings = asdict(self.task) if self.task else self.settings
        return {"title": self.title, "settings": settings, "numbers": numbers, "originals": originals}

    @property
    def open_ended(self) -> bool:
        """True where texts were continued, False for another task of lm-eval."""
        return self.task is None

    @property
    def count(self) -> str | None:
        """Number of texts or questions, where it is known."""
        return self.settings.get("N") if self.task is None else str(self.task.N) if self.task.N else None

    def get(self, metric: str) -> Score | None:
        """The number of this name."""
        return next((number for number in self.numbers if number.metric == metric), None)


def write_results(path: Path, evaluations: Sequence[Evaluation]) -> None:
    """Write results.json of a published model."""
    files.write_json(path, KIND, VERSION, {"evaluations": [evaluation.to_json() for evaluation in evaluations]})


def read_published(path: Path) -> list[Evaluation]:
    """Read what `write_results` wrote.

    Raises:
        HyperfitError: missing, foreign, or damaged.
    """
    document = read_document(path)
    files.check_header(path, document.content, KIND, VERSION)
    return published(document)


def published(document: Value) -> list[Evaluation]:
    """The evaluations in results.json of a published model.

    Raises:
        HyperfitError: damaged, or two evaluations of one title.
    """
    evaluations = [Evaluation.from_json(entry) for entry in document["evaluations"].elements()]
    titles = [evaluation.title for evaluation in evaluations]
    if twice := next((title for title in titles if titles.count(title) > 1), None):
        raise HyperfitError(f"{document.file}: two evaluations are called {twice!r}")
    return evaluations


def open_ended(table: Value, more: Value | None = None, fields: dict[str, str] | None = None) -> Evaluation:
    """An evaluation from the tables of `scores.score_records`.

    Args:
        table: {"generated": {"all": entries}, "original": ...}.
        more: entries of what the model predicts along the original texts.
        fields: settings, by default those of a signature in the table.
    """
    generated = table["generated"]["all"]
    settings = fields or settings_of(generated["ttr_at_128"]["signature"].text())
    entries = _entries(generated) | (_signed(_entries(more), settings) if more else {})
    return evaluation_of(settings, entries, _entries(table["original"]["all"]))


def evaluation_of(
    settings: dict[str, str], entries: dict[str, Value], originals: dict[str, Value], left_out: tuple[str, ...] = ()
) -> Evaluation:
    """The evaluation of one way of decoding, from entries of a table by metric."""
    return Evaluation(title_of(settings), settings, _numbers(entries), _numbers(originals), left_out)


def settings_of(text: str) -> dict[str, str]:
    """The fields of a signature that say how the texts were continued.

    Example:
        settings_of("ttr|unit:ids|win:96|N:60|dec:greedy|block:none|texts:65c3|v:0.1.0")
        == {"N": "60", "dec": "greedy", "block": "none", "texts": "65c3", "v": "0.1.0"}
    """
    sign = Signature.parse(text)
    names = ("N", "ctx", "dec", "block", "dtype", "seed", "texts", "tok_hash", "v")
    return {name: value for name in names if (value := sign.get(name)) is not None}


def _settings(value: Value) -> dict[str, str]:
    """The settings of the open-ended task, with all that is needed to repeat it."""
    settings = {name: entry.text() for name, entry in value.items()}
    if lacking := [name for name in RECIPE if name not in settings]:
        raise HyperfitError(f"{value.file}: field '{value.field}' has no '{lacking[0]}'")
    return settings


def _task_settings(value: Value) -> TaskSettings:
    return TaskSettings(
        value["task"].text(),
        value.optional("num_fewshot", lambda shots: shots.integer(high=1000)),
        value.optional("limit", Value.number),
        value.optional("N", Value.integer),
        value.optional("dtype", Value.text),
        value.optional("lm_eval", Value.text),
    )


def _entries(table: Value) -> dict[str, Value]:
    return dict(table.items())


def _numbers(entries: dict[str, Value]) -> list[Score]:
    """The published ones of some entries of a table, each in its place of METRICS."""
    numbers = []
    for metric, (_, unit) in METRICS.items():
        entry = entries.get(metric)
        if entry is None and metric.endswith(("_avg", "_max")):
            entry = entries.get(metric[:-4])
            if entry and metric.endswith("_max") and (highest := entry.get("max")):
                numbers.append(Score(metric, highest.number(), unit, entry["signature"].text()))
                continue
        number = entry and number_of(metric, entry, unit)
        if number:
            numbers.append(number)
    return numbers


def number_of(metric: str, entry: Value, unit: str) -> Score | None:
    """The number in an entry of a table; None where it is unavailable or has no signature."""
    if entry.get("unavailable") or (entry.get("mean") or entry.get("value")) is None or entry.get("signature") is None:
        return None
    return replace(_signed_score(metric, entry, unit), n=None, highest=None)


def _signed_score(metric: str, entry: Value, unit: str | None = None) -> Score:
    score = Score.from_json(metric, entry, unit)
    Signature.parse(score.signature)  # others compare it, long after the file was read
    return score


def _signed(entries: dict[str, Value], settings: dict[str, str]) -> dict[str, Value]:
    """Entries of predictions along the original texts, which have no signature of their own, with one."""
    recipe: dict[str, Any] = {name: settings.get(name) for name in ("N", "dtype", "texts", "tok_hash", "v")}
    signed = {}
    for name, entry in entries.items():
        own = {} if entry.get("signature") else {"signature": prediction_signature(name, **recipe)}
        signed[name] = Value(entry.content | own, entry.file, entry.field)
    return signed


def title_of(settings: dict[str, str]) -> str:
    """As in `greedy, citation blocking`."""
    decoding, block = settings.get("dec", "unknown"), settings.get("block", "none")
    if block == "none":
        return decoding
    return f"{decoding}, citation blocking" + ("" if block == "5" else f" ({block})")
