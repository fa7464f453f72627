"""From a study's answers to `preference.json`: people and judges apart, with and without inattentive people."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from .. import files
from ..documents import Value
from ..errors import HyperfitError
from .agreement import agreement_with_humans
from .annotators import MAX_FAILED, annotator_rows, read_answers
from .consensus import Consensus
from .estimates import tables
from .judge_answers import JudgeAnswers, read_judges
from .results import Estimate, Estimates, HumanResults, JudgeResults, PreferenceResults
from .study import ALL, Study, read_study
from .votes import ORIGINAL_BETTER, Vote, Votes, outcome

KIND = "preference"
VERSION = 1
PREFERENCE_FILE = "preference.json"


def analyze(folder: Path, *, max_failed: float = MAX_FAILED) -> PreferenceResults:
    """All estimates of a study.

    Args:
        folder: of the study.
        max_failed: share of attention checks that an annotator may fail.
    Raises:
        HyperfitError: no study, or nothing was judged yet.
    """
    if not 0 <= max_failed <= 1:
        raise HyperfitError(f"--max-failed {max_failed:g}: expected a share from 0 to 1")
    study = read_study(folder)
    answers, judges = read_answers(folder, study), read_judges(folder, study)
    if not answers and not judges:
        raise HyperfitError(
            f"{folder}: nothing was judged yet; run `hyperfit annotate {folder}` or `hyperfit judge {folder}`"
        )
    annotators = annotator_rows(study, answers, max_failed)
    votes = Votes.of(study, [Vote(answer.pair, answer.annotator, answer.choice) for answer in answers])
    attentive = votes.where(np.isin(votes.by, [row.annotator for row in annotators if row.attentive]))
    fingerprint = _fingerprint((answer.pair, answer.annotator, answer.choice) for answer in answers)
    human = HumanResults(fingerprint, annotators, max_failed)
    if len(votes):
        ratings = study.annotations
        human = replace(
            human,
            all=tables(study, votes, by="human", checks="kept", ratings=ratings),
            attentive=tables(study, attentive, by="human", checks="removed", ratings=ratings),
        )
    return PreferenceResults(
        {name: version(name) for name in ("hyperfit-eval", "numpy", "scipy")},
        study,
        human,
        _columns(human.attentive) if human.attentive else {},
        {judge.name: _judge(study, judge, attentive) for judge in judges},
    )


def write_preference(path: Path, results: PreferenceResults) -> None:
    """Write `preference.json`."""
    files.write_json(path, KIND, VERSION, results.to_json())


def preference_columns(path: Path) -> dict[str, dict[str, Estimate]]:
    """The human columns of the paper's Tables 1 and 4, for reports and leaderboards.

    Args:
        path: of a `preference.json`.
    Returns:
        By model, `results.PreferenceResults.columns`. Only lengths that the study has.
    Raises:
        HyperfitError: no such file, it is damaged, or it has no human annotations.
    """
    models = _read(path)["models"]
    if not models.content:
        raise HyperfitError(f"{path}: no human annotations; only these fill the columns of Tables 1 and 4")
    return {
        model: {name: Estimate.from_json(name, entry) for name, entry in columns.items()}
        for model, columns in models.items()
    }


def preference_consensus(path: Path) -> dict[str, Consensus]:
    """Figure 9 left, for `consensus.draw_consensus`, by the length's name, "128" and "256", from attentive people.

    Args:
        path: a `preference.json`, or the folder of a study, which is then analyzed.
    Raises:
        HyperfitError: neither of the two, a damaged file, or no human annotations.
    """
    if path.is_dir():
        attentive = analyze(path).human.attentive
        if attentive:
            return attentive.ttr_consensus
    else:
        human = _read(path)["human"].get("attentive")
        if human:
            return {length: Consensus.from_json(entry) for length, entry in human["ttr_consensus"].items()}
    raise HyperfitError(f"{path}: no human annotations, so there is no consensus to show")


def _read(path: Path) -> Value:
    return Value(files.read_json(path, KIND, VERSION), str(path))


def _columns(human: Estimates) -> dict[str, dict[str, Estimate]]:
    """Estimates by model and name of their column in the paper's tables."""
    columns = {}
    for model, lengths in human.preference.items():
        columns[model] = {f"preference_at_{length}": table[ALL] for length, table in lengths.items()}
        by_source = lengths.get("256", {}).items()
        columns[model] |= {f"preference_{source}": estimate for source, estimate in by_source if source != ALL}
    return columns


def _judge(study: Study, judge: JudgeAnswers, human: Votes) -> JudgeResults:
    """A judge's estimates from one verdict a pair, its failures, and how far it agrees with people."""
    verdicts = judge.verdicts()
    votes = Votes.of(study, [Vote(pair, 0, choice) for pair, choice in verdicts.items()])
    # Its side bias is seen in single answers: where both orders count, the verdicts have none.
    estimates = tables(study, votes, by=f"judge:{judge.name}", checks="kept", ratings=1)
    checks = [pair for pair in study.pairs if pair.is_check and pair.id in verdicts]
    passed = sum(outcome(pair, verdicts[pair.id]) == ORIGINAL_BETTER for pair in checks)
    return JudgeResults(
        model=judge.model,
        prompt=str(judge.header["prompt"]),
        request=judge.header["request"],
        answers=_fingerprint((row["pair"], row["swapped"], row["status"], row["verdict"]) for row in judge.rows),
        counts=judge.counts(),
        checks=len(checks),
        checks_failed=len(checks) - passed,
        agreement_with_humans=agreement_with_humans(study, votes, human, judge.name),
        estimates=replace(estimates, agreement={}),
    )


def _fingerprint(rows: Iterable[Sequence[Any]]) -> str:
    """Fingerprint of answers, in whatever order they came."""
    return files.fingerprint(sorted(map(repr, rows)))
