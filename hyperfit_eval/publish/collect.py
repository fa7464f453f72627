"""The results that a card shows: read, checked against the run, and joined."""

import os.path
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..errors import HyperfitError
from ..scores.measure import TrainingSet
from ..scores.score import Score
from ..scores.signature import Signature
from .result_files import find_results, read_results
from .results import METRICS, RECIPE, Evaluation


def collect(paths: Iterable[Path], training: TrainingSet | None, model: Path) -> list[Evaluation]:
    """The evaluations in some files; of equal ones the numbers are joined, those with intervals first.

    Args:
        paths: files of `hyperfit score --json`, `hyperfit demo`, `hyperfit eval` or lm-eval, continuation
            records, or folders, which are searched.
        training: the training set, by which continuation records are scored.
        model: folder of the model that the results are to be of.
    Raises:
        HyperfitError: a file of another kind, or results of another model.
    """
    found: dict[str, Evaluation] = {}
    for path in dict.fromkeys(file for given in paths for file in _files_of(given)):
        for evaluation in _read(path, training, model):
            before = found.get(evaluation.title)
            if before and (before.settings, before.task) != (evaluation.settings, evaluation.task):
                raise HyperfitError(
                    f"{path}: other results of '{evaluation.title}' with other settings were given; give one of them"
                )
            found[evaluation.title] = _joined(before, evaluation) if before else evaluation
    return list(found.values())


def _files_of(path: Path) -> list[Path]:
    if not os.path.lexists(path):
        raise HyperfitError(f"--results {path}: no such file or folder")
    if not path.is_dir():
        return [path]
    found = [file for file in find_results(path) if not file.is_dir()]
    if not found:
        raise HyperfitError(f"--results {path}: no results*.json or scores*.json in it; give a file")
    return found


def _read(path: Path, training: TrainingSet | None, model: Path) -> list[Evaluation]:
    evaluations = []
    for results in read_results(path, f"--results {path}", training=training):
        if results.kind == "published-results":
            raise HyperfitError(f"--results {path}: of a model that was published; give what its numbers came from")
        if results.kind == "demo-results" and not str(results.called).startswith("hyperfitted"):
            continue
        of = Path(results.model or "")
        if results.kind == "lm-eval" and of.is_absolute() and of.is_dir() and of != model.resolve():
            raise HyperfitError(f"--results {path}: results of {of}, not of {model}; give its own")
        evaluations += [_checked(path, evaluation, training) for evaluation in results.evaluations]
    return evaluations


def _joined(one: Evaluation, other: Evaluation) -> Evaluation:
    return replace(
        one,
        numbers=_merge(one.numbers, other.numbers),
        originals=_merge(one.originals, other.originals),
        left_out=tuple(dict.fromkeys([*one.left_out, *other.left_out])),
    )


def _merge(one: list[Score], other: list[Score]) -> list[Score]:
    best: dict[str, Score] = {}
    for number in [*one, *other]:
        if number.metric not in best or (best[number.metric].low is None and number.low is not None):
            best[number.metric] = number
    order = list(METRICS)
    return sorted(best.values(), key=lambda number: order.index(number.metric) if number.metric in METRICS else 0)


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
        measured_against = Signature.parse(number.signature).get("data")
        if measured_against not in (None, training.fingerprint):
            raise HyperfitError(
                f"--results {path}: {number.metric} is against training blocks {measured_against}, the run's are "
                f"{training.fingerprint}; give its own"
            )
    return evaluation
