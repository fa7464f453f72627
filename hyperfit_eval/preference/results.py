"""The numbers of a study as values, each with its JSON in `preference.json` (docs/preference.md)."""

from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any, Self

from ..documents import Value
from ..metrics.statistics import Difference, Interval
from ..records import CONTEXT_TOKENS
from ..scores.score import Score
from ..scores.signature import signature
from .annotators import AnnotatorRow
from .consensus import Consensus
from .judge_answers import JudgeCounts
from .pairs import CLEANING
from .ranking import Ranking
from .study import Study


@dataclass(frozen=True)
class Recipe:
    """The part that all signatures of one set of judgements share.

    Attributes:
        by: "human" or "judge:NAME".
        annotations: judgements that a complete pair has.
        checks: "kept" or "removed", for those who failed attention checks.
    """

    study: Study
    by: str
    annotations: int
    checks: str

    def sign(self, metric: str, **fields: object) -> str:
        """Signature of a number: who judged, which study, and what else decides it."""
        who = {"by": self.by, "ann": self.annotations, "checks": self.checks}
        own = {"ctx": CONTEXT_TOKENS, "clean": CLEANING, "study": self.study.fingerprint}
        return signature(metric, **who, **fields, **own, texts=self.study.texts or None)


@dataclass(frozen=True)
class Estimate(Score):
    """A score from judgements, with its interval over contexts.

    Attributes:
        annotations: judgements that it is made from.
        preferred, equal: percent of them, where it is the percentage of either.
        by_order: rates by what stood first, "original" or "model", of the `first_position`.
        raw: plain share of the `first_position`.
    """

    annotations: int = 0
    preferred: float | None = None
    equal: float | None = None
    by_order: dict[str, float] | None = None
    raw: float | None = None

    @classmethod
    def from_votes(
        cls, metric: str, interval: Interval, annotations: int, unit: str = "%", signature: str = "", **parts: Any
    ) -> Self:
        """An interval over contexts with what it is made from."""
        ends = interval.low, interval.high, interval.method, interval.n
        return cls(metric, interval.mean, unit, signature, *ends, annotations=annotations, **parts)

    def to_json(self) -> dict[str, object]:
        """The entry of a table; `Score.from_json` reads it back."""
        if not self.available:
            return {"unavailable": self.unavailable}
        entry = {
            "mean": self.value, "low": self.low, "high": self.high, "n": self.n, "method": self.method,
            "annotations": self.annotations, "preferred": self.preferred, "equal": self.equal, "unit": self.unit,
            "signature": self.signature, "by_order": self.by_order, "raw": self.raw,
        }  # fmt: skip
        return {name: content for name, content in entry.items() if content is not None}

    @classmethod
    def from_json(cls, metric: str, entry: Value, unit: str | None = None) -> Self:
        """Read `to_json` back; errors and arguments as in `Score.from_json`."""
        by_order = entry.get("by_order")
        return replace(
            super().from_json(metric, entry, unit),
            annotations=entry.optional("annotations", Value.integer) or 0,
            preferred=entry.optional("preferred", Value.number),
            equal=entry.optional("equal", Value.number),
            by_order={name: rate.number() for name, rate in by_order.items()} if by_order else None,
            raw=entry.optional("raw", Value.number),
        )


@dataclass(frozen=True)
class PairedTest:
    """A minus B in percent preferred or equal, on the contexts that both have.

    Attributes:
        result: None where it is `unavailable`.
        p_holm: p-value that holds together with those of the other tests at this length.
    """

    a: str
    b: str
    result: Difference | None = None
    signature: str = ""
    p_holm: float = 1.0
    unavailable: str | None = None

    def to_json(self) -> dict[str, object]:
        """The test on one level."""
        if self.result is None:
            return {"a": self.a, "b": self.b, "unavailable": self.unavailable}
        recipe = {"unit": "%", "signature": self.signature, "p_holm": self.p_holm}
        return {"a": self.a, "b": self.b, **self.result.as_dict(), **recipe}


@dataclass(frozen=True)
class Estimates:
    """All that one set of judgements says about the models.

    Attributes:
        annotators: how many people judged.
        pairs, complete_pairs: with a judgement, and with as many as are wanted.
        contexts: with a judgement.
        preference: percent preferred or equal, by model, length and source.
        paired_tests: of all pairs of models, by length.
        bradley_terry: by length, and for "all" where there are several.
        agreement: `krippendorff_alpha`, `fleiss_kappa` and `first_position` of single judgements; none of a judge's
            verdicts, of which a pair has one.
        ttr_consensus: by length.
    """

    annotations: int
    annotators: int
    pairs: int
    complete_pairs: int
    contexts: int
    signature: str
    preference: dict[str, dict[str, dict[str, Estimate]]]
    paired_tests: dict[str, list[PairedTest]]
    bradley_terry: dict[str, Ranking]
    agreement: dict[str, Estimate]
    ttr_consensus: dict[str, Consensus]

    @property
    def lengths(self) -> list[str]:
        """Names of the lengths, "128" and "256"."""
        return list(next(iter(self.preference.values())))


@dataclass(frozen=True)
class HumanResults:
    """People's answers and their estimates.

    Attributes:
        answers: fingerprint of the answers.
        max_failed: share of attention checks that an annotator may fail and be `attentive`.
        all, attentive: estimates from all annotators, and from those; None before the first annotation.
    """

    answers: str
    annotators: list[AnnotatorRow]
    max_failed: float
    all: Estimates | None = None
    attentive: Estimates | None = None


@dataclass(frozen=True)
class HumanAgreement:
    """How often a judge says what people say, on the pairs that both judged.

    Attributes:
        majority_pairs: pairs on which more people say one thing than any other.
        with_majority: percent of these on which the judge says the same.
        alpha: Krippendorff's alpha of judge and majority on them.
        with_annotator: percent of single annotations that say the same.
        between_annotators: the same between two people, the ceiling.
    """

    pairs: int
    majority_pairs: int
    with_majority: Estimate
    alpha: Estimate
    with_annotator: Estimate
    between_annotators: Estimate


@dataclass(frozen=True)
class JudgeResults:
    """A judge's answers and their estimates, from one verdict a pair.

    Attributes:
        prompt, answers: fingerprints.
        request: fields of the requests beside model and messages.
    """

    model: str
    prompt: str
    request: object
    answers: str
    counts: JudgeCounts
    checks: int
    checks_failed: int
    agreement_with_humans: HumanAgreement
    estimates: Estimates


@dataclass(frozen=True)
class PreferenceResults:
    """The body of `preference.json`.

    Attributes:
        columns: of the paper's Tables 1 and 4, by model: `preference_at_128`, `preference_at_256`, and at 256 tokens
            `preference_SOURCE` and `preference_average`; from attentive people.
        judges: by name.
    """

    versions: dict[str, str]
    study: Study
    human: HumanResults
    columns: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    judges: dict[str, JudgeResults] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """The whole file but its header."""
        study = self.study
        return {
            "versions": self.versions,
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
            "models": _json(self.columns),
            "human": _json(self.human),
            "judges": _json(self.judges),
        }


def _json(value: Any) -> Any:
    """JSON of a value of this module: its fields by name, those of `agreement` and `estimates` on its own level."""
    if isinstance(value, Estimate | PairedTest | Ranking):
        return value.to_json()
    if is_dataclass(value):
        entry: dict[str, object] = {}
        for name, part in vars(value).items():
            entry |= _json(part) if name in ("agreement", "estimates") else {name: _json(part)}
        return entry
    if isinstance(value, dict):
        return {name: _json(part) for name, part in value.items()}
    return [_json(part) for part in value] if isinstance(value, list) else value
