"""How a study stands, for its owner: the numbers of the admin page."""

import time
from typing import Any

import numpy as np

from .agreement import fleiss_kappa, krippendorff_alpha
from .analysis import annotator_rows
from .store import Store
from .votes import Vote, Votes


def progress(store: Store) -> dict[str, Any]:
    """Counts, speed, agreement and attention checks so far.

    Nothing here says which model people prefer: who runs a study should not know before its end.

    Returns:
        {"pairs", "complete_pairs", "wanted", "annotations", "open", "undone", "last_hour", "median_seconds",
        "hours_left", "checks", "checks_failed", "alpha", "kappa", "by_model": {name: annotations},
        "annotators": rows of `analysis.annotator_rows` with "name" and "last" (seconds ago)}. Speeds and agreement
        are None where there is too little; "hours_left" is the work of one person, attention checks to come included.
    """
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
    done = {row["annotator"]: row for row in annotator_rows(study, answers)}
    # The machine's clock may have gone back since then.
    last = {answer.annotator: max(now - answer.at, 0.0) for answer in answers}
    people = [
        {
            "annotator": person.id, "annotations": 0, "checks": 0, "checks_failed": 0, "attentive": True,
            "first_position": None, "equal": None, "median_seconds": None,
            **done.get(person.id, {}),
            "name": person.name, "last": last.get(person.id),
        }
        for person in store.annotators()
    ]  # fmt: skip
    return {
        "pairs": len(counts),
        "complete_pairs": int((counts >= study.annotations).sum()),
        "wanted": study.annotations * len(counts),
        "annotations": len(votes),
        "open": store.open_count(),
        "undone": store.undone(),
        "last_hour": sum(abs(now - answer.at) < 3600 for answer in answers),
        "median_seconds": float(np.median(seconds)) if seconds else None,
        "hours_left": float(np.mean(seconds) * left / 3600) if seconds else None,
        "checks": sum(row["checks"] for row in people),
        "checks_failed": sum(row["checks_failed"] for row in people),
        "alpha": _finite(krippendorff_alpha(table)),
        "kappa": _finite(fleiss_kappa(table[counts == study.annotations])) if study.annotations > 1 else None,
        "by_model": by_model,
        "annotators": people,
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
