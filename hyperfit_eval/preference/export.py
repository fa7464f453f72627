"""A study's annotations for others: CSV, JSON lines, and a dataset folder for the Hub."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from .. import __version__
from ..errors import HyperfitError
from ..plain import for_csv
from ..records import CONTEXT_TOKENS
from .annotators import MAX_FAILED, annotator_rows
from .store import Answer
from .study import SHUFFLED, Study
from .votes import EQUAL, MODEL_BETTER, ORIGINAL_BETTER, outcome

OUTCOMES = {ORIGINAL_BETTER: "original", EQUAL: "equal", MODEL_BETTER: "model"}
UNKNOWN_LICENSE = "unknown"


@dataclass(frozen=True)
class AnnotationRow:
    """One annotation that counts, texts included; annotators are numbers, without names."""

    pair: str
    context_id: str
    source: str
    length: int
    """128 or 256, tokens with the context."""
    model: str
    attention_check: bool
    annotator: int
    annotator_attentive: bool
    choice: str
    original_first: bool
    preferred: str
    """original, equal, model, or shuffled."""
    seconds: float | None
    answered_at: float
    ttr: float | None
    context: str
    first: str
    second: str


def annotation_rows(study: Study, answers: Sequence[Answer], max_failed: float = MAX_FAILED) -> Iterator[AnnotationRow]:
    """One row for each annotation that counts."""
    pairs = study.by_id
    attentive = {row.annotator: row.attentive for row in annotator_rows(study, answers, max_failed)}
    for answer in answers:
        pair = pairs[answer.pair]
        first, second = pair.shown
        preferred = outcome(pair, answer.choice)
        yield AnnotationRow(
            pair=pair.id,
            context_id=pair.context,
            source=pair.source,
            length=pair.scenario,
            model=pair.other,
            attention_check=pair.is_check,
            annotator=answer.annotator,
            annotator_attentive=attentive[answer.annotator],
            choice=answer.choice,
            original_first=pair.original_first,
            preferred=SHUFFLED if pair.is_check and preferred == MODEL_BETTER else OUTCOMES[preferred],
            seconds=answer.seconds,
            answered_at=answer.at,
            ttr=pair.ttr,
            context=pair.context_text,
            first=first,
            second=second,
        )


def to_csv(rows: Sequence[AnnotationRow]) -> str:
    """The rows as CSV, with a header.

    It begins with a byte order mark, without which spreadsheets on Windows do not take it for UTF-8: read it as
    "utf-8-sig". A text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    lines = io.StringIO()
    lines.write("\ufeff")
    names = list(vars(rows[0])) if rows else []
    writer = csv.DictWriter(lines, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows([{key: for_csv(value) for key, value in vars(row).items()} for row in rows])
    return lines.getvalue()


def to_jsonl(rows: Sequence[AnnotationRow]) -> str:
    """The rows as JSON lines without a header, as the Hub's viewer reads them."""
    return "".join(json.dumps(vars(row), ensure_ascii=False) + "\n" for row in rows)


def dataset_files(
    study: Study,
    answers: Sequence[Answer],
    license: str = UNKNOWN_LICENSE,
    names: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """The files of a Hub dataset: annotations and a card, by path.

    Args:
        license: of the texts; the originals keep the licenses of the datasets that they come from.
        names: what models are called there, where it is not their name in the study.
    Raises:
        HyperfitError: nothing was annotated yet.
    """
    import jinja2

    rows = [replace(row, model=names.get(row.model, row.model)) for row in annotation_rows(study, answers)]
    judged = [row for row in rows if not row.attention_check]
    if not judged:
        raise HyperfitError("nothing was annotated yet, so there is no dataset")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hyperfit_eval.preference"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
    )
    card = environment.get_template("dataset_card.md.j2").render(
        license=license,
        unknown=license == UNKNOWN_LICENSE,
        study=study,
        models={names.get(name, name): made for name, made in study.models.items()},
        annotations=len(judged),
        checks=len(rows) - len(judged),
        annotators=len({row.annotator for row in rows}),
        inattentive=len({row.annotator for row in rows if not row.annotator_attentive}),
        pairs=len({row.pair for row in judged}),
        contexts=len({row.context_id for row in judged}),
        context_tokens=CONTEXT_TOKENS,
        max_failed=MAX_FAILED,
        version=__version__,
        size=_size(len(rows)),
    )
    return {"README.md": card, "data/annotations.jsonl": to_jsonl(rows)}


def _size(rows: int) -> str:
    """The Hub's size category."""
    for limit, name in ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K")):
        if rows < limit:
            return name
    return "100K<n<1M"
