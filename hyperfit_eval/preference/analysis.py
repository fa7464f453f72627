"""From a study's answers to `preference.json`: people and judges apart, with and without inattentive people."""

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from .. import files
from ..errors import HyperfitError
from ..metrics.statistics import Interval
from .agreement import alpha_interval
from .estimates import first_share, sign_of, tables
from .judge_answers import JudgeAnswers, read_judges
from .store import Answer, Store
from .study import ALL, STORE_FILE, Study, read_study
from .votes import ORIGINAL_BETTER, Vote, Votes, outcome, percent_interval

KIND = "preference"
VERSION = 1
PREFERENCE_FILE = "preference.json"
MAX_FAILED = 0.2
"""Share of attention checks that an annotator may fail."""


def read_answers(folder: Path, study: Study) -> list[Answer]:
    """The annotators' answers so far; none where nobody annotated yet."""
    if not (folder / STORE_FILE).exists():
        return []
    store = Store(folder, study)
    try:
        return store.answers()
    finally:
        store.close()


def annotator_rows(study: Study, answers: Sequence[Answer], max_failed: float = MAX_FAILED) -> list[dict[str, Any]]:
    """What each annotator did.

    Returns:
        For each {"annotator", "annotations", "checks", "checks_failed", "attentive", "first_position",
        "equal", "median_seconds"}: percentages of their annotations, checks left out; "first_position" is the
        `estimates.first_share`. A check is failed by anything but the original. None where there is
        nothing to divide by.
    """
    pairs = study.by_id
    rows = []
    for annotator in sorted({answer.annotator for answer in answers}):
        own = [answer for answer in answers if answer.annotator == annotator]
        checks = [answer for answer in own if pairs[answer.pair].is_check]
        failed = sum(outcome(pairs[answer.pair], answer.choice) != ORIGINAL_BETTER for answer in checks)
        judged = [answer for answer in own if not pairs[answer.pair].is_check]
        decided = [answer for answer in judged if answer.choice != "equal"]
        seconds = [answer.seconds for answer in own if answer.seconds is not None]
        rows.append(
            {
                "annotator": annotator,
                "annotations": len(judged),
                "checks": len(checks),
                "checks_failed": failed,
                "attentive": failed <= max_failed * len(checks),
                "first_position": _first_position([(pairs[a.pair].original_first, a.choice) for a in decided]),
                "equal": _percent(len(judged) - len(decided), len(judged)),
                "median_seconds": float(np.median(seconds)) if seconds else None,
            }
        )
    return rows


def analyse(folder: Path, *, max_failed: float = MAX_FAILED) -> dict[str, Any]:
    """All estimates of a study, the body of `preference.json` (docs/preference.md).

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
    people = annotator_rows(study, answers, max_failed)
    attentive = {row["annotator"] for row in people if row["attentive"]}
    votes = Votes.of(study, [Vote(answer.pair, answer.annotator, answer.choice) for answer in answers])
    kept = votes.where(np.isin(votes.by, list(attentive)))
    given = _fingerprint((answer.pair, answer.annotator, answer.choice) for answer in answers)
    human: dict[str, Any] = {"answers": given, "annotators": people, "max_failed": max_failed}
    human |= {"all": None, "attentive": None}
    if len(votes):
        human["all"] = tables(study, votes, by="human", checks="kept", ratings=study.annotations)
        human["attentive"] = tables(study, kept, by="human", checks="removed", ratings=study.annotations)
    return {
        "versions": {name: version(name) for name in ("hyperfit-eval", "numpy", "scipy")},
        "study": {
            "fingerprint": study.fingerprint,
            "seed": study.seed,
            "texts": study.texts,
            "annotations_per_pair": study.annotations,
            "check_rate": study.check_rate,
            "pairs": study.count(checks=False),
            "checks": study.count(checks=True),
            "models": study.models,
        },
        "models": _columns(human["attentive"]),
        "human": human,
        "judges": {judge.name: _judge(study, judge, kept) for judge in judges},
    }


def write_preference(path: Path, body: dict[str, Any]) -> None:
    """Write the results."""
    files.write_json(path, KIND, VERSION, body)


def preference_columns(path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """The human columns of the paper's Tables 1 and 4, for reports and leaderboards.

    Args:
        path: of a `preference.json`.
    Returns:
        By model: {"preference_at_128", "preference_at_256": entry (Table 1), and at 256 tokens
        "preference_SOURCE" for each source and "preference_average": entry (Table 4)}, without annotators who
        failed attention checks. An entry is {"mean", "low", "high", "n", "unit", "method", "signature", ...}
        or {"unavailable": why}. Only lengths that the study has.
    Raises:
        HyperfitError: no such file, or it has no human annotations.
    """
    models = files.read_json(path, KIND, VERSION)["models"]
    if not models:
        raise HyperfitError(f"{path}: no human annotations; only these fill the columns of Tables 1 and 4")
    return models


def preference_consensus(path: Path) -> dict[str, dict[str, Any]]:
    """Figure 9 left, for `consensus.draw_consensus`.

    Args:
        path: a `preference.json`, or the folder of a study, which is then analysed.
    Returns:
        By the length's name, "128" and "256", what `consensus.ttr_consensus` returns, without annotators who
        failed attention checks.
    Raises:
        HyperfitError: neither of the two, or no human annotations.
    """
    human = (analyse(path) if path.is_dir() else files.read_json(path, KIND, VERSION))["human"]["attentive"]
    if human is None:
        raise HyperfitError(f"{path}: no human annotations, so there is no consensus to show")
    return human["ttr_consensus"]


def _columns(human: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Entries by model and name of their column in the paper's tables."""
    if human is None:
        return {}
    columns: dict[str, dict[str, Any]] = {}
    for model, lengths in human["preference"].items():
        by_source = {source: value for source, value in lengths.get("256", {}).items() if source != ALL}
        columns[model] = {f"preference_at_{length}": table[ALL] for length, table in lengths.items()}
        columns[model] |= {f"preference_{source}": value for source, value in by_source.items()}
    return columns


def _judge(study: Study, judge: JudgeAnswers, human: Votes) -> dict[str, Any]:
    """A judge's estimates from one verdict a pair, its failures, and how far it agrees with people."""
    verdicts = judge.verdicts()
    votes = Votes.of(study, [Vote(pair, 0, choice) for pair, choice in verdicts.items()])
    # Its side bias is seen in single answers: where both orders count, the verdicts have none.
    result = tables(study, votes, by=f"judge:{judge.name}", checks="kept", ratings=1)
    for name in ("krippendorff_alpha", "fleiss_kappa", "first_position"):
        del result[name]
    checks = [pair for pair in study.pairs if pair.is_check and pair.id in verdicts]
    passed = sum(outcome(pair, verdicts[pair.id]) == ORIGINAL_BETTER for pair in checks)
    return {
        "model": judge.model,
        "prompt": judge.header["prompt"],
        "request": judge.header["request"],
        "answers": _fingerprint((row["pair"], row["swapped"], row["status"], row["verdict"]) for row in judge.rows),
        "counts": judge.counts(),
        "checks": len(checks),
        "checks_failed": len(checks) - passed,
        "agreement_with_humans": agreement_with_humans(study, votes, human, judge.name),
        **result,
    }


def agreement_with_humans(study: Study, judge: Votes, human: Votes, name: str) -> dict[str, Any]:
    """How often a judge says what people say, on the pairs that both judged.

    Args:
        study: whose pairs were judged.
        judge, human: one verdict a pair, and people's annotations.
        name: of the judge, for the signatures.
    Returns:
        {"pairs", "with_majority": percent of the pairs on which more people say one thing than any other,
        "majority_pairs": how many these are, "alpha": Krippendorff's alpha of judge and majority on them,
        "with_annotator": percent of single annotations that say the same, "between_annotators": the same between
        two people, the ceiling}. All but the counts are entries (docs/preference.md), whose "annotations" are
        people's.
    """
    contexts = np.unique([pair.context for pair in human.pairs], return_inverse=True)[1]
    verdict, people = judge.table(), human.table()
    both = (verdict.sum(axis=1) > 0) & (people.sum(axis=1) > 0)
    verdict, people, contexts = verdict[both], people[both], contexts[both]
    ordered = np.sort(people, axis=1)
    clear = ordered[:, 2] > ordered[:, 1]
    majority = np.eye(3, dtype=int)[people.argmax(axis=1)]
    ratings = people.sum(axis=1)
    recipe = {"by": f"judge:{name}", "ann": study.annotations, "checks": "removed"}

    def entry(what: str, interval: Interval | str, unit: str, counted: np.ndarray) -> dict[str, Any]:
        if isinstance(interval, str):
            return {"unavailable": interval}
        sign = sign_of(study, f"agreement({what})", recipe)
        return interval.as_dict() | {"annotations": int(ratings[counted].sum()), "unit": unit, "signature": sign}

    def share(what: str, hits: np.ndarray, totals: np.ndarray) -> dict[str, Any]:
        return entry(what, _share(contexts, hits, totals), "%", totals > 0)

    numbers = np.flatnonzero(both)[clear]
    outcomes = np.concatenate([table[clear].argmax(axis=1) for table in (verdict, majority)])
    two = Votes(human.pairs, np.tile(numbers, 2), np.repeat([0, 1], len(numbers)), outcomes)
    return {
        "pairs": int(both.sum()),
        "majority_pairs": int(clear.sum()),
        "with_majority": share("majority", (verdict * majority).sum(axis=1) * clear, clear),
        "alpha": entry("alpha", alpha_interval(two), "", clear),
        "with_annotator": share("annotator", (verdict * people).sum(axis=1), ratings),
        "between_annotators": share("people", (people * (people - 1)).sum(axis=1), ratings * (ratings - 1)),
    }


def _share(contexts: np.ndarray, hits: np.ndarray, totals: np.ndarray) -> Interval | str:
    """Percentage of hits, from the counts and the contexts of pairs, shape (P,), or why it has no interval."""
    by_context = np.array([np.bincount(contexts, weights=values) for values in (hits, totals)])
    hits, totals = by_context[:, by_context[1] > 0]
    if len(totals) < 2:
        return f"{len(totals)} contexts that both judged, an interval needs 2"
    return percent_interval(hits, totals)


def _fingerprint(rows: Iterable[Sequence[Any]]) -> str:
    """Of answers, in whatever order they came."""
    return files.fingerprint(sorted(map(repr, rows)))


def _first_position(decided: Sequence[tuple[bool, str]]) -> float | None:
    """`first_share` of (whether the original stood first, "first" or "second"), None where one order is missing."""
    sides = [[choice for original_first, choice in decided if original_first == side] for side in (True, False)]
    hits, totals = [side.count("first") for side in sides], [len(side) for side in sides]
    return float(first_share(np.array(hits), np.array(totals))) if all(totals) else None


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None
