"""Results from wherever they were measured, in one form: numbers with intervals, signatures and settings."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import files
from ..errors import HyperfitError
from ..records import read_continuations
from ..scores.measure import NORMAL_95, TrainingSet
from ..scores.signature import harness_signature, prediction_signature
from ..scores.tables import score_records

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


@dataclass(frozen=True)
class Number:
    """One published number; `low` and `high` are its 95% interval where it has one."""

    metric: str
    value: float
    unit: str
    signature: str
    low: float | None = None
    high: float | None = None
    method: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """The numbers of one way of decoding, or of one task of lm-eval, with what is needed to repeat it."""

    title: str
    settings: dict[str, Any]
    """For the open-ended task the fields of its signatures; for another task {"task", "num_fewshot", ...}."""
    numbers: list[Number]
    originals: list[Number] = field(default_factory=list)
    """The same metrics of the original continuations."""

    @property
    def open_ended(self) -> bool:
        """Whether texts were continued; if not it is another task of lm-eval."""
        return "task" not in self.settings

    def get(self, metric: str) -> Number | None:
        """The number of this name."""
        return next((number for number in self.numbers if number.metric == metric), None)


def write_results(path: Path, evaluations: Sequence[Evaluation]) -> None:
    """Write results.json of a published model."""
    files.write_json(path, KIND, VERSION, {"evaluations": [asdict(evaluation) for evaluation in evaluations]})


def read_published(path: Path) -> list[Evaluation]:
    """Read what `write_results` wrote.

    Raises:
        HyperfitError: missing, foreign, or damaged.
    """
    document = files.read_json(path, KIND, VERSION)
    try:
        return [
            Evaluation(
                entry["title"],
                entry["settings"],
                [Number(**number) for number in entry["numbers"]],
                [Number(**number) for number in entry["originals"]],
            )
            for entry in document["evaluations"]
        ]
    except (KeyError, TypeError) as error:
        raise HyperfitError(f"{path}: not as `hyperfit push` writes it ({error})") from error


def collect(paths: Iterable[Path], training: TrainingSet | None, model: Path) -> list[Evaluation]:
    """The evaluations in some files; of equal ones the numbers are joined, those with intervals first.

    Args:
        paths: files of `hyperfit score --json`, `hyperfit demo`, `hyperfit eval` or lm-eval, continuation
            records, or folders of them.
        training: the training set, by which continuation records are scored.
        model: folder of the model that the results are to be of.
    Raises:
        HyperfitError: a file of another kind, or results of another model.
    """
    found: dict[str, Evaluation] = {}
    for path in (file for given in paths for file in _files_of(given)):
        for evaluation in _read(path, training, model):
            before = found.get(evaluation.title)
            if before and before.settings != evaluation.settings:
                raise HyperfitError(
                    f"{path}: other results of '{evaluation.title}' with other settings were given; give one of them"
                )
            found[evaluation.title] = _joined(before, evaluation) if before else evaluation
    return list(found.values())


def open_ended(
    table: dict[str, Any], more: dict[str, dict[str, Any]] | None = None, fields: dict[str, str] | None = None
) -> Evaluation:
    """An evaluation from the tables of `scores.score_records`.

    Args:
        table: {"generated": {"all": entries}, "original": ...}.
        more: entries of what the model predicts along the original texts.
        fields: settings, by default those of a signature in the table.
    """
    generated = table["generated"]["all"]
    settings = fields or settings_of(generated["ttr_at_128"]["signature"])
    numbers = [*_numbers(generated), *_numbers(_signed(more or {}, settings))]
    return Evaluation(_title(settings), settings, numbers, _numbers(table["original"]["all"]))


def settings_of(text: str) -> dict[str, str]:
    """The fields of a signature that say how the texts were continued.

    Example:
        settings_of("ttr|unit:ids|win:96|N:60|dec:greedy|block:none|texts:65c3|v:0.1.0")
        == {"N": "60", "dec": "greedy", "block": "none", "texts": "65c3", "v": "0.1.0"}
    """
    fields = dict(part.partition(":")[::2] for part in text.split("|")[1:])
    names = ("N", "ctx", "dec", "block", "dtype", "seed", "texts", "tok_hash", "v")
    return {name: fields[name] for name in names if name in fields}


def _files_of(path: Path) -> list[Path]:
    if not path.exists():
        raise HyperfitError(f"--results {path}: no such file or folder")
    if not path.is_dir():
        return [path]
    found = [file for pattern in ("results*.json", "scores*.json") for file in sorted(path.glob(pattern))]
    if not found:
        raise HyperfitError(f"--results {path}: no results*.json or scores*.json in it; give a file")
    return found


def _read(path: Path, training: TrainingSet | None, model: Path) -> list[Evaluation]:
    if path.suffix == ".jsonl":
        generation, records = read_continuations(path)
        return [_checked(path, open_ended(score_records(generation, records, training=training)), training)]
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise HyperfitError(f"--results {path}: cannot be read as JSON ({error})") from error
    kind = document.get("format") if isinstance(document, dict) else None
    if kind == "hyperfit-eval/scores":
        found = [open_ended(document)]
    elif kind == "hyperfit-eval/demo-results":
        more = document["distributions"]["hyperfitted"]
        tables = {name: entry["metrics"] for name, entry in document["models"].items()}
        found = [open_ended(table, more) for name, table in tables.items() if name.startswith("hyperfitted")]
    elif isinstance(document, dict) and {"results", "configs"} <= document.keys():
        _refuse_other_model(path, document, model)
        found = list(of_harness(document))
    else:
        raise HyperfitError(
            f"--results {path}: format {kind!r}; expected what `hyperfit score --json`, `hyperfit eval` or "
            "lm-eval wrote"
        )
    return [_checked(path, evaluation, training) for evaluation in found]


def of_harness(document: dict[str, Any]) -> Iterator[Evaluation]:
    """The evaluations in lm-eval's results: the open-ended tasks, and each other task or group that is in no group."""
    members = {task for group in document.get("group_subtasks", {}).values() for task in group}
    results = document["results"] | document.get("groups", {})
    for task, values in results.items():
        config = document["configs"].get(task, {})
        signatures = (config.get("metadata") or {}).get("signatures")
        if signatures:
            yield _open_ended_of_harness(values, signatures)
        elif task not in members:
            found = _other_task(document, task, values)
            if found.numbers:
                yield found


def _open_ended_of_harness(values: dict[str, Any], signatures: dict[str, str]) -> Evaluation:
    settings = settings_of(signatures["ttr_at_128"])
    sides: dict[str, dict[str, dict[str, Any]]] = {"": {}, "original_": {}}
    for prefix, entries in sides.items():
        for name in METRICS:
            value = values.get(f"{prefix}{name},none")
            if not isinstance(value, float | int):
                continue
            sign = signatures.get(prefix + name) or signatures.get(
                prefix + name.removesuffix("_avg").removesuffix("_max")
            )
            entries[name] = {
                "value": value,
                "signature": sign,
                **_normal(value, values.get(f"{prefix}{name}_stderr,none")),
            }
    numbers = _numbers(_signed(sides[""], settings))
    return Evaluation(_title(settings), settings, numbers, _numbers(sides["original_"]))


def _other_task(document: dict[str, Any], task: str, values: dict[str, Any]) -> Evaluation:
    config, size = document.get("config", {}), document.get("n-samples", {}).get(task, {})
    settings = {
        "task": task,
        "num_fewshot": _shots(document, task),
        "limit": config.get("limit"),
        "N": size.get("effective", values.get("sample_len")),
        "dtype": str(config.get("model_dtype", "")).removeprefix("torch."),
        "lm_eval": document.get("lm_eval_version"),
    }
    numbers = []
    for key, value in values.items():
        metric, _, filtered = key.partition(",")
        if not filtered or metric.endswith("_stderr") or not isinstance(value, float):
            continue
        sign = harness_signature(metric, filter=filtered, **settings)
        interval = _normal(value, values.get(f"{metric}_stderr,{filtered}"))
        numbers.append(Number(metric, value, "", sign, **interval))
    return Evaluation(task, settings, numbers)


def _shots(document: dict[str, Any], task: str) -> int | None:
    """Examples in the prompts of a task, or of all tasks of a group where they have the same number."""
    shots = document.get("n-shot", {})
    if task in shots:
        return shots[task]
    inside = {_shots(document, each) for each in document.get("group_subtasks", {}).get(task, [])}
    return inside.pop() if len(inside) == 1 else None


def _numbers(entries: dict[str, dict[str, Any]]) -> list[Number]:
    """The published ones of some entries of a table, each in its place of METRICS."""
    numbers = []
    for metric, (_, unit) in METRICS.items():
        entry = entries.get(metric)
        if entry is None and metric.endswith(("_avg", "_max")):
            entry = entries.get(metric[:-4])
            if entry and metric.endswith("_max") and "max" in entry:
                numbers.append(Number(metric, float(entry["max"]), unit, entry["signature"]))
                continue
        if not entry or "unavailable" in entry or not entry.get("signature"):
            continue
        value = entry.get("mean", entry.get("value"))
        if value is not None and math.isfinite(value):
            interval = {name: entry.get(name) for name in ("low", "high", "method")}
            numbers.append(Number(metric, float(value), unit, entry["signature"], **interval))
    return numbers


def _signed(entries: dict[str, dict[str, Any]], settings: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Entries of predictions along the original texts, which have no signature of their own, with one."""
    recipe: dict[str, Any] = {name: settings.get(name) for name in ("N", "dtype", "texts", "tok_hash", "v")}
    return {
        name: {**entry, "signature": entry.get("signature") or prediction_signature(name, **recipe)}
        for name, entry in entries.items()
    }


def _normal(value: float, stderr: Any) -> dict[str, Any]:
    if not isinstance(stderr, float | int) or not math.isfinite(stderr):
        return {}
    half = NORMAL_95 * stderr
    return {"low": value - half, "high": value + half, "method": "normal|conf:0.95"}


def _joined(one: Evaluation, other: Evaluation) -> Evaluation:
    return Evaluation(
        one.title, one.settings, _merge(one.numbers, other.numbers), _merge(one.originals, other.originals)
    )


def _merge(one: list[Number], other: list[Number]) -> list[Number]:
    best: dict[str, Number] = {}
    for number in [*one, *other]:
        if number.metric not in best or (best[number.metric].low is None and number.low is not None):
            best[number.metric] = number
    order = list(METRICS)
    return sorted(best.values(), key=lambda number: order.index(number.metric) if number.metric in METRICS else 0)


def _title(settings: dict[str, str]) -> str:
    """As in `greedy, citation blocking`."""
    decoding, block = settings.get("dec", "unknown"), settings.get("block", "none")
    if block == "none":
        return decoding
    return f"{decoding}, citation blocking" + ("" if block == "5" else f" ({block})")


def _checked(path: Path, evaluation: Evaluation, training: TrainingSet | None) -> Evaluation:
    """The same, unless its signatures name another tokenizer or training set than the run's."""
    if training is None or not evaluation.open_ended:
        return evaluation
    if lacking := [name for name in RECIPE if name not in evaluation.settings]:
        raise HyperfitError(f"--results {path}: its signatures have no '{lacking[0]}'; measure again with this version")
    tokenizer = evaluation.settings["tok_hash"]
    if tokenizer != training.tokenizer:
        raise HyperfitError(
            f"--results {path}: of tokenizer {tokenizer}, the run's is {training.tokenizer}; give its own"
        )
    for number in evaluation.numbers:
        fields = dict(part.partition(":")[::2] for part in number.signature.split("|")[1:])
        if fields.get("data", training.fingerprint) != training.fingerprint:
            raise HyperfitError(
                f"--results {path}: {number.metric} is against training blocks {fields['data']}, the run's are "
                f"{training.fingerprint}; give its own"
            )
    return evaluation


def _refuse_other_model(path: Path, document: dict[str, Any], model: Path) -> None:
    named = document.get("config", {}).get("model_args", {})
    pretrained = named.get("pretrained") if isinstance(named, dict) else None
    if pretrained and Path(pretrained).is_dir() and Path(pretrained).resolve() != model.resolve():
        raise HyperfitError(f"--results {path}: results of {pretrained}, not of {model}; give its own")
