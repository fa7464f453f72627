"""One result file -> rows: a model under one way of decoding, with its numbers."""

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from .. import files
from ..documents import Value, read_document
from ..errors import HyperfitError
from ..publish.result_files import SCORES, kind_of, results_in
from ..publish.results import Evaluation, number_of, open_ended
from ..records import read_continuations
from ..reproduce.cells import KIND as SCORES_KIND
from ..reproduce.cells import VERSION as SCORES_VERSION
from ..reproduce.section import KIND as SECTION
from ..reproduce.section import VERSION as SECTION_VERSION
from ..reproduce.steps import KIND as STEP
from ..reproduce.steps import MARKER, Finished, unchanged
from ..reproduce.steps import VERSION as STEP_VERSION
from ..scores.score import Score
from ..scores.signature import Signature, signature
from .search import Source

GLUE = {
    "cola": ("mcc",), "mnli": ("acc",), "mrpc": ("acc", "f1"), "qnli": ("acc",), "qqp": ("acc", "f1"),
    "rte": ("acc",), "sst2": ("acc",),
}  # fmt: skip
"""The tasks of the paper's Table 8, and the metrics whose mean is a task's score."""
MODEL_COLUMNS = ("perplexity", "mmlu", "glue")
"""Columns that do not depend on how text is generated."""
STUDY_SECTIONS = ("table3", "table7", "table8")
"""Steps of a study whose sections have these columns."""


@dataclass(frozen=True)
class Row:
    """A model under one way of decoding; one without `decoding` has numbers of the model alone."""

    model: str
    """Identity of the model: a folder or a Hub id."""
    name: str
    """How it is shown."""
    settings: dict[str, str] = field(default_factory=dict)
    """How the texts were continued, as in `publish.results.settings_of`."""
    numbers: dict[str, Score] = field(default_factory=dict)
    originals: dict[str, Score] = field(default_factory=dict)
    """The same of the original texts."""
    called: str | None = None
    """The name of the model in continuation records."""
    files: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    """Metrics that have no number in its file, such as "acc is NaN"."""

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
    rows = list(_study(source) if source.path.is_dir() else _file(source))
    left_out = tuple(reason for row in rows for reason in row.left_out)
    rows = [row for row in rows if row.numbers]
    if not rows:
        why = f" ({'; '.join(left_out)})" if left_out else ""
        raise HyperfitError(f"none of the leaderboard's numbers are in it{why}")
    if source.name is not None:
        several = len({row.model for row in rows}) > 1
        rows = [_renamed(row, f"{source.name} {row.called}" if several else source.name) for row in rows]
    # The first row stands for the file: rows without numbers are not shown.
    return [replace(row, files=(source.shown,), left_out=() if number else left_out) for number, row in enumerate(rows)]


def _file(source: Source) -> Iterator[Row]:
    document = read_document(source.path, source.shown)
    if kind_of(document) == "preference":
        yield from _preference(source.path, document)
        return
    folder = Path(os.path.realpath(source.path)).parent
    for results in results_in(document, folder):
        yield from _evaluations(results.evaluations, results.model or source.model or str(folder), results.called)


def _evaluations(evaluations: list[Evaluation], model: str, called: str | None) -> Iterator[Row]:
    name = shown_name(model)
    for evaluation in evaluations:
        if evaluation.open_ended:
            numbers, originals = ({n.metric: n for n in side} for side in (evaluation.numbers, evaluation.originals))
            yield Row(model, name, evaluation.settings, numbers, originals, called, left_out=evaluation.left_out)
    numbers = {}
    parts: dict[tuple[str, str], Score] = {}
    left_out: list[str] = []
    for evaluation in evaluations:
        task = evaluation.task.task if evaluation.task else None
        if task == "mmlu" and (accuracy := evaluation.get("acc")):
            numbers["mmlu"] = _percent(accuracy)
        if task in GLUE:
            parts |= {(task, number.metric): number for number in evaluation.numbers}
        if task == "mmlu" or task in GLUE:
            left_out += evaluation.left_out
    if glue := glue_score(parts):
        numbers["glue"] = glue
    yield Row(model, name, numbers=numbers, called=called, left_out=tuple(left_out))


def _study(source: Source) -> Iterator[Row]:
    """A folder of `hyperfit reproduce`: what its tables say of the results that are in it now.

    Raises:
        HyperfitError: no table was made from the scores in it.
    """
    steps = source.path / SCORES.parent
    current = _current(source, steps)
    tables = [needed for name, needed in current.items() if "/" not in name]
    # Scores of other settings may lie there, too: no table of the study has them.
    of_tables = {name for needed in tables for name in needed} & current.keys()
    found = {path.parent.relative_to(steps).as_posix(): path for path in (source.path / SCORES).glob("**/scores.json")}
    if not of_tables & found.keys():
        raise HyperfitError(
            f"no scores that its tables were made from, by each step's {MARKER}; finish it with the same "
            "`hyperfit reproduce`"
        )
    there = [name for name in STUDY_SECTIONS if name in current and (steps / name / "section.json").is_file()]
    sections = {name: _headed(source, steps / name / "section.json", SECTION, SECTION_VERSION) for name in there}
    of_the_models = {name: _study_numbers(sections, name) for name in ("base", "hyperfitted")}
    # A download lies in a folder that is named after a commit.
    home = source.shown if source.model else str(source.path.resolve())
    for name in sorted(of_tables & found.keys()):
        document = _headed(source, found[name], SCORES_KIND, SCORES_VERSION)
        folder = steps / "continue" / found[name].parent.relative_to(source.path / SCORES)
        generation, _ = read_continuations(folder / "continuations.jsonl")
        evaluation = open_ended(document["tables"])
        for row in _evaluations([evaluation], f"{home}/{generation.model}", generation.model):
            if row.decoding:
                yield replace(row, numbers=row.numbers | of_the_models.get(generation.model, {}))


def _current(source: Source, steps: Path) -> dict[str, Mapping[str, str]]:
    """Steps whose results are of those that are there now: by name, which results of which steps they were made from.

    Only the study knows which settings it has now.
    """
    # Not .partial: what is in it is not finished.
    paths = {path.parent.relative_to(steps).as_posix(): path for path in steps.glob(f"[!.]*/**/{MARKER}")}
    made = {name: Finished.from_json(_headed(source, path, STEP, STEP_VERSION)) for name, path in paths.items()}
    return {name: step.needs for name, step in made.items() if unchanged(step, made.get)}


def _headed(source: Source, path: Path, kind: str, version: int) -> Value:
    """A document in a study's folder."""
    document = read_document(path, f"{source.shown}/{path.relative_to(source.path).as_posix()}")
    files.check_header(document.file, document.content, kind, version)
    return document


def _study_numbers(sections: Mapping[str, Value], model: str) -> dict[str, Score]:
    """Perplexity, MMLU and GLUE of a model, from the sections of Tables 3, 7 and 8 where they were run."""
    numbers: dict[str, Score | None] = {}
    parts: dict[tuple[str, str], Score] = {}
    if cells := _cells(sections.get("table3"), model):
        numbers["perplexity"] = number_of("perplexity", cells["perplexity"], "perplexity")
    if cells := _cells(sections.get("table7"), model):
        numbers["mmlu"] = number_of("acc", cells["mmlu_0_shot"], "%")
    if cells := _cells(sections.get("table8"), f"{model} 0S"):
        for task, metrics in GLUE.items():
            for metric in metrics:
                entry = cells.get(f"{task}_{metric}")
                if entry and (number := number_of(metric, entry, "")):
                    parts[task, metric] = number
    numbers["glue"] = glue_score(parts)
    return {name: number for name, number in numbers.items() if number}


def _cells(section: Value | None, group: str) -> Value | None:
    """The cells of the row of this group in a section's tables."""
    tables = section["tables"].elements() if section else []
    rows = [row for table in tables for row in table["rows"].elements()]
    return next((row["cells"] for row in rows if (of := row.get("group")) and of.text() == group), None)


def _preference(path: Path, document: Value) -> Iterator[Row]:
    """People's judgements; what LLM judges say is in no column."""
    for name, columns in document["models"].items():
        entry = columns.get("preference_at_256")
        number = entry and number_of("preference", entry, "%")
        if not number:
            continue
        header = document["study"]["models"][name]
        blocker = header.get("blocker")
        settings = {
            "dec": header["decoding"]["method"].text(),
            "block": str(blocker["ngram"].integer()) if blocker else "none",
            "dtype": header["dtype"].text(),
            "texts": header["texts"].text(),
            "tok_hash": header["tokenizer"].text(),
        }
        model = f"{os.path.realpath(path)}:{name}"
        yield Row(model, name, settings, {"preference": number}, called=header["model"].text())


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


def glue_score(parts: dict[tuple[str, str], Score]) -> Score | None:
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
        return Score("glue", value, "%", sign)
    return Score("glue", value, "%", sign, value - half_width, value + half_width, "normal|conf:0.95")


def _common_fields(numbers: Iterable[Score]) -> dict[str, str]:
    """The fields of several signatures, each with all of its values."""
    values: dict[str, dict[str, None]] = {}
    for number in numbers:
        for name, value in Signature.parse(number.signature).without("task", "filter").fields:
            values.setdefault(name, {})[value or ""] = None
    return {name: ",".join(found) for name, found in values.items()}


def _percent(number: Score) -> Score:
    low, high = (None if end is None else 100 * end for end in (number.low, number.high))
    return replace(number, value=100 * number.value, unit="%", low=low, high=high)


def shown_name(model: str) -> str:
    """A Hub id as it is, the last two parts of a path."""
    parts = Path(model).parts
    return "…/" + "/".join(parts[-2:]) if Path(model).is_absolute() else model


def _renamed(row: Row, name: str) -> Row:
    return replace(row, model=name, name=name)
