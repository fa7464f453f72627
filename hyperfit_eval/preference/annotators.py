"""The annotators of a study: their answers, and how each of them answered."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .store import Answer, Store
from .study import STORE_FILE, Study
from .votes import ORIGINAL_BETTER, first_share, outcome

MAX_FAILED = 0.2
"""Share of attention checks that an annotator may fail."""


@dataclass(frozen=True)
class AnnotatorRow:
    """One annotator's work.

    Attributes:
        annotator: number; names stay in the study's store.
        annotations: attention checks left out.
        checks_failed: answered with anything but the original.
        first_position: the `votes.first_share`, percent.
        equal: percent of the annotations.
        median_seconds: None, like the percentages, where there is nothing to divide by.
    """

    annotator: int
    annotations: int = 0
    checks: int = 0
    checks_failed: int = 0
    attentive: bool = True
    first_position: float | None = None
    equal: float | None = None
    median_seconds: float | None = None


def read_answers(folder: Path, study: Study) -> list[Answer]:
    """The annotators' answers so far; none where nobody annotated yet."""
    if not (folder / STORE_FILE).exists():
        return []
    store = Store(folder, study)
    try:
        return store.answers()
    finally:
        store.close()


def annotator_rows(study: Study, answers: Sequence[Answer], max_failed: float = MAX_FAILED) -> list[AnnotatorRow]:
    """One row for each annotator."""
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
            AnnotatorRow(
                annotator,
                len(judged),
                len(checks),
                failed,
                failed <= max_failed * len(checks),
                _first_position([(pairs[a.pair].original_first, a.choice) for a in decided]),
                100 * (len(judged) - len(decided)) / len(judged) if judged else None,
                float(np.median(seconds)) if seconds else None,
            )
        )
    return rows


def _first_position(decided: Sequence[tuple[bool, str]]) -> float | None:
    """`first_share` of (whether the original stood first, "first" or "second"), None where one order is missing."""
    sides = [[choice for original_first, choice in decided if original_first == side] for side in (True, False)]
    hits, totals = [side.count("first") for side in sides], [len(side) for side in sides]
    return float(first_share(np.array(hits), np.array(totals))) if all(totals) else None
