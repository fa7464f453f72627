"""How a study stands, for its owner: the numbers of the admin page."""

import time
from dataclasses import asdict, dataclass

import numpy as np

from .agreement import fleiss_kappa, krippendorff_alpha
from .annotators import AnnotatorRow, annotator_rows
from .store import Store
from .votes import Vote, Votes


@dataclass(frozen=True)
class AnnotatorProgress(AnnotatorRow):
    """An annotator of a running study.

    Attributes:
        name: for the owner alone.
        last: seconds since the last answer; None without one.
    """

    name: str = ""
    last: float | None = None


@dataclass(frozen=True)
class Progress:
    """Counts, speed, agreement and attention checks so far.

    Nothing here says which model people prefer: who runs a study should not know before its end. Speeds and agreement
    are None where there is too little.

    Attributes:
        pairs, complete_pairs: without attention checks.
        wanted, annotations: in the end, and so far.
        open: pairs that are with an annotator at this moment.
        undone: answers that were taken back.
        last_hour: answers, attention checks included.
        hours_left: work of one person, attention checks to come included.
        alpha, kappa: Krippendorff's and Fleiss'.
        by_model: annotations.
    """

    pairs: int
    complete_pairs: int
    wanted: int
    annotations: int
    open: int
    undone: int
    last_hour: int
    median_seconds: float | None
    hours_left: float | None
    checks: int
    checks_failed: int
    alpha: float | None
    kappa: float | None
    by_model: dict[str, int]
    annotators: list[AnnotatorProgress]

    def to_json(self) -> dict[str, object]:
        """The object that the admin page reads."""
        return asdict(self)


def progress(store: Store) -> Progress:
    """How the study stands now."""
    study, answers = store.study, store.answers()
    votes = Votes.of(study, [Vote(answer.pair, answer.annotator, answer.choice) for answer in answers])
    table = votes.table()
    counts = table.sum(axis=1)
    now = time.time()
    seconds = [answer.seconds for answer in answers if answer.seconds is not None]
    # With the mean, not the median: a few slow pairs take much of the time.
    left = np.maximum(study.annotations - counts, 0).sum() / (1 - study.check_rate)
    by_model = dict.fromkeys(study.models, 0)
    for number in votes.pair:
        by_model[votes.pairs[number].other] += 1
    rows = {row.annotator: row for row in annotator_rows(study, answers)}
    # The machine's clock may have gone back since then.
    last = {answer.annotator: max(now - answer.at, 0.0) for answer in answers}
    annotators = [
        AnnotatorProgress(
            **vars(rows.get(person.id, AnnotatorRow(person.id))), name=person.name, last=last.get(person.id)
        )
        for person in store.annotators()
    ]
    return Progress(
        pairs=len(counts),
        complete_pairs=int((counts >= study.annotations).sum()),
        wanted=study.annotations * len(counts),
        annotations=len(votes),
        open=store.open_count(),
        undone=store.undone(),
        last_hour=sum(abs(now - answer.at) < 3600 for answer in answers),
        median_seconds=float(np.median(seconds)) if seconds else None,
        hours_left=float(np.mean(seconds) * left / 3600) if seconds else None,
        checks=sum(row.checks for row in annotators),
        checks_failed=sum(row.checks_failed for row in annotators),
        alpha=_finite(krippendorff_alpha(table)),
        kappa=_finite(fleiss_kappa(table[counts == study.annotations])) if study.annotations > 1 else None,
        by_model=by_model,
        annotators=annotators,
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
