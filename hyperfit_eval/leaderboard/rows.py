"""One result file -> rows: a model under one way of decoding, with its numbers."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import files
from ..errors import HyperfitError
from ..preference.analysis import preference_columns
from ..publish.results import Evaluation, Number, of_harness, open_ended, read_published
from ..records import Generation, read_continuations
from ..reproduce.section import Row as SectionRow
from ..reproduce.section import Section, read_section
from ..reproduce.steps import KIND as STEP
from ..reproduce.steps import MARKER, unchanged
from ..reproduce.steps import VERSION as STEP_VERSION
from ..scores.signature import signature
from .search import SCORES, Source

GLUE = {
    "cola": ("mcc",), "mnli": ("acc",), "mrpc": ("acc", "f1"), "qnli": ("acc",), "qqp": ("acc", "f1"),
    "rte": ("acc",), "sst2": ("acc",),
}  # fmt: skip
"""The tasks of the paper's Table 8, and the metrics whose mean is a task's score."""
OF_THE_MODEL = ("perplexity", "mmlu", "glue")
"""Columns that do not depend on how text is generated."""
OF_STUDY = ("table3", "table7", "table8")
"""Steps of a study whose sections have these columns."""


@dataclass(frozen=True)
class Row:
    """A model under one way of decoding; one without `decoding` has numbers of the model alone."""

    model: str
    """What tells models apart: a folder or a Hub id."""
    name: str
    """How it is shown."""
    settings: dict[str, str] = field(default_factory=dict)
    """How the texts were continued, as in `publish.results.settings_of`."""
    numbers: dict[str, Number] = field(default_factory=dict)
    originals: dict[str, Number] = field(default_factory=dict)
    """The same of the original texts."""
    called: str | None = None
    """The name of the model in continuation records."""
    files: tuple[str, ...] = ()

    @property
    def decoding(self) -> str | None:
        """As in signatures: `greedy`, `sample(temperature=0.7,...)`."""
        return self.settings.get("dec")

    @property
    def blocked(self) -> bool | None:
        """Whether citations were blocked; None where nothing was generated."""
        return None if self.decoding is None else self.settings.get("block", "none") != "none"


def read_rows(source: Source) -> list[Row]:
    """The rows in one file of results, or in a study's folder.

    Raises:
        HyperfitError: it is damaged, or no results.
    """
    try:
        rows = list(_study(source) if source.path.is_dir() else _file(source))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        if isinstance(error, HyperfitError):
            raise
        raise HyperfitError(f"damaged, or of another version ({type(error).__name__}: {error})") from error
    rows = [row for row in rows if row.numbers]
    if not rows:
        raise HyperfitError("none of the leaderboard's numbers are in it")
    if source.name is not None:
        several = len({row.model for row in rows}) > 1
        rows = [_renamed(row, f"{source.name} {row.called}" if several else source.name) for row in rows]
    return [replace(row, files=(source.shown,)) for row in rows]


def _file(source: Source) -> Iterator[Row]:
    try:
        document = json.loads(source.path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise HyperfitError(f"cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise HyperfitError(f"no JSON; is it cut off? ({error})") from error
    if not isinstance(document, dict):
        raise HyperfitError(f"a JSON {type(document).__name__}, no results")
    kind, folder = document.get("format"), source.path.resolve().parent
    if kind == "hyperfit-eval/scores":
        yield _scores(document, source)
    elif kind == "hyperfit-eval/demo-results":
        for name, entry in document["models"].items():
            which = name.split(",")[0]
            evaluation = open_ended(entry["metrics"], document["distributions"][which])
            yield _row(evaluation, str(folder / which), which)
    elif kind == "hyperfit-eval/published-results":
        yield from _evaluations(read_published(source.path), source.model or str(folder), None)
    elif kind == "hyperfit-eval/preference":
        yield from _preference(source.path, document)
    elif kind is None and {"results", "configs"} <= document.keys():
        model = _harness_model(document)
        yield from _evaluations(list(of_harness(document)), model, model)
    else:
        what = f"format {kind!r}" if kind else "neither lm-eval's results nor this package's"
        raise HyperfitError(f"{what}; expected what lm-eval or hyperfit eval, score, demo, push or preference wrote")


def _evaluations(evaluations: list[Evaluation], model: str, called: str | None) -> Iterator[Row]:
    for evaluation in evaluations:
        if evaluation.open_ended:
            yield _row(evaluation, model, called)
    numbers: dict[str, Number] = {}
    parts: dict[tuple[str, str], Number] = {}
    for evaluation in evaluations:
        task = evaluation.settings.get("task")
        if task == "mmlu" and (accuracy := evaluation.get("acc")):
            numbers["mmlu"] = _percent(accuracy)
        if task in GLUE:
            parts |= {(str(task), number.metric): number for number in evaluation.numbers}
    if glue := glue_score(parts):
        numbers["glue"] = glue
    yield Row(model, shown_name(model), numbers=numbers, called=called)


def _row(evaluation: Evaluation, model: str, called: str | None) -> Row:
    numbers = {number.metric: number for number in evaluation.numbers if math.isfinite(number.value)}
    originals = {number.metric: number for number in evaluation.originals if math.isfinite(number.value)}
    return Row(model, shown_name(model), evaluation.settings, numbers, originals, called)


def _scores(document: dict[str, Any], source: Source) -> Row:
    """Of `hyperfit score --json`: the continuation records that it names say which model it is, if they are there."""
    records = Path(document["records"])
    found = next((path for path in (records, source.path.parent / records.name) if path.is_file()), None)
    if found is None:
        called = records.name.removesuffix(".jsonl").removeprefix("continuations_")
        return _row(open_ended(document), str(source.path.resolve().parent / called), called)
    generation, _ = read_continuations(found)
    return _row(open_ended(document), _recorded_model(generation, found.resolve().parent), generation.model)


def _recorded_model(generation: Generation, folder: Path) -> str:
    """The demo and the study write short names, which mean something in their own folder alone."""
    return generation.model if "/" in generation.model else str(folder / generation.model)


def _study(source: Source) -> Iterator[Row]:
    """A folder of `hyperfit reproduce`: what its tables say of the results that are in it now.

    Raises:
        HyperfitError: no table was made from the scores in it.
    """
    steps = source.path / SCORES.parent
    current = _current(steps)
    tables = [needed for name, needed in current.items() if "/" not in name]
    # Scores of other settings may lie there, too: no table of the study has them.
    of_tables = {name for needed in tables for name in needed} & current.keys()
    found = {path.parent.relative_to(steps).as_posix(): path for path in (source.path / SCORES).glob("**/scores.json")}
    if not of_tables & found.keys():
        raise HyperfitError(
            f"no scores that its tables were made from, by each step's {MARKER}; finish it with the same "
            "`hyperfit reproduce`"
        )
    there = [name for name in OF_STUDY if name in current and (steps / name / "section.json").is_file()]
    sections = {name: read_section(steps / name) for name in there}
    of_the_models = {name: _study_numbers(sections, name) for name in ("base", "hyperfitted")}
    # A download lies in a folder that is named after a commit.
    home = source.shown if source.model else str(source.path.resolve())
    for name in sorted(of_tables & found.keys()):
        table = files.read_json(found[name], "study-scores", 1)["tables"]
        written = steps / "continue" / found[name].parent.relative_to(source.path / SCORES)
        generation, _ = read_continuations(written / "continuations.jsonl")
        row = _row(open_ended(table), f"{home}/{generation.model}", generation.model)
        yield replace(row, numbers=row.numbers | of_the_models.get(generation.model, {}))


def _current(steps: Path) -> dict[str, dict[str, str | None]]:
    """Steps whose results are of those that are there now: by name, which results of which steps they were made from.

    Only the study knows which settings it has now.
    """
    # Not .partial: what is in it is not finished.
    paths = {path.parent.relative_to(steps).as_posix(): path for path in steps.glob(f"[!.]*/**/{MARKER}")}
    # The first version named no results.
    marks = {name: {"result": ""} | files.read_json(path, STEP, STEP_VERSION) for name, path in paths.items()}
    return {name: mark["needs"] for name, mark in marks.items() if unchanged(mark, marks.get)}


def _study_numbers(sections: Mapping[str, Section], model: str) -> dict[str, Number]:
    """Perplexity, MMLU and GLUE of a model, from the sections of Tables 3, 7 and 8 where they were run."""
    numbers: dict[str, Number] = {}
    parts: dict[tuple[str, str], Number] = {}
    if row := _section_row(sections.get("table3"), model):
        numbers["perplexity"] = _of_entry("perplexity", row.cells["perplexity"], "perplexity")
    if row := _section_row(sections.get("table7"), model):
        numbers["mmlu"] = _of_entry("acc", row.cells["mmlu_0_shot"], "%")
    if row := _section_row(sections.get("table8"), f"{model} 0S"):
        for task, metrics in GLUE.items():
            names = [metric for metric in metrics if f"{task}_{metric}" in row.cells]
            parts |= {(task, metric): _of_entry(metric, row.cells[f"{task}_{metric}"], "") for metric in names}
    if glue := glue_score(parts):
        numbers["glue"] = glue
    return numbers


def _section_row(section: Section | None, group: str) -> SectionRow | None:
    tables = section.tables if section else []
    return next((row for table in tables for row in table.rows if row.group == group), None)


def _of_entry(metric: str, entry: dict[str, Any], unit: str) -> Number:
    value = entry["mean"] if "mean" in entry else entry["value"]
    return Number(metric, value, unit, entry["signature"], entry.get("low"), entry.get("high"), entry.get("method"))


def _preference(path: Path, document: dict[str, Any]) -> Iterator[Row]:
    """People's judgements; what LLM judges say is in no column."""
    for name, columns in preference_columns(path).items():
        entry = columns.get("preference_at_256", {"unavailable": "not judged"})
        if "unavailable" in entry:
            continue
        header = document["study"]["models"][name]
        settings = {
            "dec": header["decoding"]["method"],
            "block": str(header["blocker"]["ngram"]) if header["blocker"] else "none",
            "dtype": header["dtype"],
            "texts": header["texts"],
            "tok_hash": header["tokenizer"],
        }
        number = _of_entry("preference", entry, "%")
        yield Row(f"{path.resolve()}:{name}", name, settings, {"preference": number}, called=header["model"])


def joins_preference(row: Row, preference: Row) -> bool:
    """Whether a row of preferences alone is of the continuations of `row`, as far as both files say."""
    wanted = preference.settings
    block = row.settings.get("block", "none")
    return (
        row.called == preference.called
        and (row.decoding or "").partition("(")[0] == wanted["dec"]
        and block.partition("+")[0] == wanted["block"]
        and all(row.settings.get(name) == wanted[name] for name in ("dtype", "texts", "tok_hash"))
    )


def glue_score(parts: dict[tuple[str, str], Number]) -> Number | None:
    """Unweighted mean over the tasks of GLUE that are there, percent; the signature names them.

    The interval takes the tasks for independent, and the two metrics of one task for perfectly correlated,
    which cannot be too narrow.

    Args:
        parts: (task, metric) -> number, fractions.
    """
    scores, halves, used = {}, [], []
    for task, metrics in GLUE.items():
        numbers = [parts[task, metric] for metric in metrics if (task, metric) in parts]
        if len(numbers) < len(metrics):
            continue
        scores[task] = sum(number.value for number in numbers) / len(numbers)
        half = [(n.high - n.low) / 2 if n.low is not None and n.high is not None else math.nan for n in numbers]
        halves.append(sum(half) / len(half))
        used += numbers
    if not scores or not math.isfinite(sum(scores.values())):
        return None
    # By default a signature has the running version, which need not be the one that measured.
    sign = signature("glue", agg="task-mean", tasks="+".join(scores), **{"v": None} | _common_fields(used))
    value, half_width = (100 * total / len(scores) for total in (sum(scores.values()), math.hypot(*halves)))
    if not math.isfinite(half_width):
        return Number("glue", value, "%", sign)
    return Number("glue", value, "%", sign, value - half_width, value + half_width, "normal|conf:0.95")


def _common_fields(numbers: Iterable[Number]) -> dict[str, str]:
    """The fields of several signatures, each with all of its values."""
    values: dict[str, dict[str, None]] = {}
    for number in numbers:
        for part in number.signature.split("|")[1:]:
            name, _, value = part.partition(":")
            if name not in ("task", "filter"):
                values.setdefault(name, {})[value] = None
    return {name: ",".join(found) for name, found in values.items()}


def _percent(number: Number) -> Number:
    low, high = (None if end is None else 100 * end for end in (number.low, number.high))
    return replace(number, value=100 * number.value, unit="%", low=low, high=high)


def _harness_model(document: dict[str, Any]) -> str:
    """The model in lm-eval's results: a folder or a Hub id, with the adapter or the revision that was used."""
    config = document.get("config") or {}
    arguments = config.get("model_args") or {}
    if isinstance(arguments, str):  # as older versions wrote it
        arguments = dict(part.partition("=")[::2] for part in arguments.split(",") if "=" in part)
    model = arguments.get("pretrained") or arguments.get("model") or document.get("model_name")
    if not isinstance(model, str):
        raise HyperfitError("lm-eval's results without the name of a model")
    if Path(model).is_dir():
        model = str(Path(model).resolve())
    adapter = arguments.get("peft") or arguments.get("delta")
    revision = arguments.get("revision") or "main"
    return model + (f" + {adapter}" if adapter else "") + (f"@{revision}" if revision != "main" else "")


def shown_name(model: str) -> str:
    """A Hub id as it is, the last two parts of a path."""
    parts = Path(model).parts
    return "…/" + "/".join(parts[-2:]) if Path(model).is_absolute() else model


def _renamed(row: Row, name: str) -> Row:
    return replace(row, model=name, name=name)
