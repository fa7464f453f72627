"""Files of results: where they are in a folder, and what is in one. For the leaderboard, cards, and whatever comes."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import files
from ..documents import Value, brief, read_document
from ..errors import HyperfitError
from ..preference.analysis import PREFERENCE_FILE
from ..records import read_continuations
from ..scores.measure import TrainingSet
from ..scores.tables import score_records
from .harness_results import folder_path, harness_model, model_identity, of_harness
from .results import Evaluation, open_ended, published

SCORES = Path("steps") / "score"
"""In a study's folder, what each of its models got."""
KINDS = ("scores", "demo-results", "published-results", "preference")
"""Formats of ours that hold results, beside lm-eval's own."""
PATTERNS = ("*results*.json", "*scores*.json", "*preference*.json")
FOREIGN_FOLDERS = {".cache", ".git", ".hg", ".ipynb_checkpoints", ".nox", ".partial", ".svn", ".tox", ".venv"}
"""Folders that are not searched. Others may begin with a dot: lm-eval makes `.__M` of pretrained=./M."""
_HEAD_BYTES = 200


@dataclass(frozen=True)
class ModelResults:
    """The results of one model in one file."""

    kind: str
    """lm-eval, continuations, or one of KINDS."""
    evaluations: list[Evaluation]
    model: str | None = None
    """Identity of the model: a folder's path or a Hub id; None where the file says nothing."""
    called: str | None = None
    """The name of the model in continuation records."""


def find_results(folder: Path) -> Iterator[Path]:
    """Result files below a folder in the order of their names; a study's steps are one result, of its folder.

    Links to folders are not followed.
    """
    for name, folders, names in os.walk(folder):
        here = Path(name)
        if (here / SCORES).is_dir():
            folders.clear()
            yield here
            if (here / PREFERENCE_FILE).is_file():  # `hyperfit reproduce --preference` left it
                yield here / PREFERENCE_FILE
            continue
        folders[:] = sorted(set(folders) - FOREIGN_FOLDERS)
        yield from (here / name for name in sorted(names) if name.endswith(".json") and _may_be_results(here / name))


def read_results(path: Path, shown: str | None = None, *, training: TrainingSet | None = None) -> list[ModelResults]:
    """The results in a file.

    Args:
        path: of `hyperfit score --json`, `hyperfit demo`, `hyperfit push`, `hyperfit eval` or lm-eval, or continuation
            records, which are scored.
        shown: how the file is called in errors.
        training: the training set by which records are scored.
    Raises:
        HyperfitError: it cannot be read, is damaged, or holds something else.
    """
    if path.suffix == ".jsonl":
        generation, records = read_continuations(path)
        table = Value(score_records(generation, records, training=training), str(path))
        return [ModelResults("continuations", [open_ended(table)], called=generation.model)]
    document = read_document(path, shown)
    return results_in(document, path.resolve().parent)


def results_in(document: Value, folder: Path) -> list[ModelResults]:
    """The results in a document that lies in a folder."""
    kind = kind_of(document)
    if kind == "scores":
        return [_scores(document, folder)]
    if kind == "demo-results":
        return list(_demo(document, folder))
    if kind == "published-results":
        return [ModelResults(kind, published(document))]
    if kind == "lm-eval":
        model = harness_model(document)
        return [ModelResults(kind, list(of_harness(document)), model, model)]
    raise HyperfitError(f"{document.file}: a {kind} file holds no results of a model")


def kind_of(document: Value) -> str:
    """lm-eval, or one of KINDS.

    Raises:
        HyperfitError: another format, or a later version of it.
    """
    if document.names() >= {"results", "configs"} and document.get("format") is None:
        return "lm-eval"
    named = document.get("format")
    kind = named.text().removeprefix("hyperfit-eval/") if named else None
    if kind not in KINDS:
        what = f"format {brief(named.content)}" if named else "neither lm-eval's results nor this package's"
        raise HyperfitError(
            f"{document.file}: {what}; expected what lm-eval or hyperfit eval, score, demo, push or preference wrote"
        )
    files.check_header(document.file, document.content, kind, 1)
    return kind


def recorded_model(model: str, folder: Path) -> str:
    """Identity of the model of continuation records.

    Args:
        model: as the records name it; the demo and the study write short names, which mean something in their own
            folder alone.
        folder: that the records are in.
    """
    if "/" in model:
        return model_identity(model)
    own = str(folder / model)
    return folder_path(own) or folder_path(model) or own


def _scores(document: Value, folder: Path) -> ModelResults:
    """Results of `hyperfit score --json`; the name of its model is in it, or in the records beside it."""
    # Only their name counts: a path in a file that came from elsewhere may lead anywhere.
    name = document["records"].text().replace("\\", "/").rpartition("/")[2]
    beside = folder / name
    if named := document.get("model"):
        model, called = named.text(), document["called"].text()
    elif name.endswith(".jsonl") and beside.is_file() and not beside.is_symlink():
        generation, _ = read_continuations(beside)
        model, called = recorded_model(generation.model, folder), generation.model
    else:
        called = name.removesuffix(".jsonl").removeprefix("continuations_")
        model = str(folder / called)
    return ModelResults("scores", [open_ended(document)], model, called)


def _demo(document: Value, folder: Path) -> Iterator[ModelResults]:
    for name, entry in document["models"].items():
        which = name.split(",")[0]
        evaluation = open_ended(entry["metrics"], document["distributions"][which])
        yield ModelResults("demo-results", [evaluation], str(folder / which), which)


def _may_be_results(path: Path) -> bool:
    if any(path.match(pattern) for pattern in PATTERNS):
        return True
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES).decode("utf-8", "replace")
    except OSError:
        return False
    return any(json.dumps(f"hyperfit-eval/{kind}") in head for kind in KINDS)
