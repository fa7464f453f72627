"""Rows -> tables: what belongs to one row is joined, what was measured otherwise is kept apart."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from ..scores.score import Score
from ..scores.signature import Signature
from .rows import MODEL_COLUMNS, Row, joins_preference


@dataclass(frozen=True)
class Column:
    """A number of the leaderboard."""

    metric: str
    title: str
    unit: str
    higher: bool
    """Whether more is better; for the order alone, see docs/leaderboard.md."""


COLUMNS = (
    Column("ttr_at_256", "TTR@256", "%", True),
    Column("preference", "preferred or equal", "%", True),
    Column("self_bleu_avg", "Self-BLEU", "BLEU", False),
    Column("dataset_overlap_avg", "overlap", "tokens", False),
    Column("perplexity", "perplexity", "", False),
    Column("mmlu", "MMLU", "%", True),
    Column("glue", "GLUE", "%", True),
)
ROW_FIELDS = ("dec", "block", "seed", "data")
"""Fields in which rows of one table may differ: how the texts were decoded, and each model's own training set."""


@dataclass
class Table:
    """Rows that were measured in the same way; each column has one recipe."""

    recipes: dict[str, Signature] = field(default_factory=dict)
    """By metric what the signatures of all rows share."""
    rows: list[tuple[int | None, Row]] = field(default_factory=list)
    """With their ranks by TTR@256; None without one."""
    originals: dict[str, Score] = field(default_factory=dict)
    """The original texts, for comparison; not ranked. Without what the rows measured in different ways."""


def recipe(signature: str) -> Signature:
    """The part of a signature that must be equal for two numbers to be compared.

    Example:
        str(recipe("ttr|N:60|dec:greedy|block:5|texts:65c3|v:0.1.0")) == "ttr|N:60|texts:65c3|v:0.1.0"
    """
    return Signature.parse(signature).without(*ROW_FIELDS)


def tables(rows: Iterable[Row]) -> list[Table]:
    """All rows in tables, the largest table first."""
    merged = joined([_published_columns(row) for row in rows])
    # Rows with most numbers first, so that they say what a table's recipes are; then a fixed order.
    ordered = sorted(merged, key=lambda row: (-len(row.numbers), row.name, row.model, str(row.settings), row.files))
    found: list[Table] = []
    for row in ordered:
        recipes = {metric: recipe(number.signature) for metric, number in row.numbers.items()}
        table = next((table for table in found if _fits(recipes, table.recipes)), None)
        if table is None:
            table = Table()
            found.append(table)
        table.recipes |= recipes
        table.rows.append((None, row))
    for table in found:
        table.originals = _originals([row for _, row in table.rows])
        table.rows = ranked([row for _, row in table.rows])
    return sorted(found, key=lambda table: -len(table.rows))


def joined(rows: Sequence[Row]) -> list[Row]:
    """Rows of the same model and decoding as one, and numbers of a model in all of its rows.

    Where two files disagree on a number, both rows stay.
    """
    result: list[Row] = []
    for row in (row for row in rows if row.decoding is not None and set(row.numbers) != {"preference"}):
        for place, other in enumerate(result):
            if (other.model, other.settings) == (row.model, row.settings) and not _contradict(other, row):
                result[place] = _union(other, row)
                break
        else:
            result.append(row)
    for row in (row for row in rows if row.decoding is None):
        result = _shared(result, row)
    for row in (row for row in rows if row.decoding is not None and set(row.numbers) == {"preference"}):
        places = [place for place, other in enumerate(result) if joins_preference(other, row)]
        if len(places) == 1 and not _contradict(result[places[0]], row):
            result[places[0]] = _union(result[places[0]], replace(row, settings=result[places[0]].settings))
        else:
            result.append(row)
    return result


def ranked(rows: Sequence[Row]) -> list[tuple[int | None, Row]]:
    """By TTR@256, highest first; equal ones share a rank, those without one follow by name."""
    key = COLUMNS[0].metric
    values = sorted((row.numbers[key].value for row in rows if key in row.numbers), reverse=True)
    ranks = [values.index(row.numbers[key].value) + 1 if key in row.numbers else None for row in rows]
    pairs = zip(ranks, rows, strict=True)
    return sorted(pairs, key=lambda pair: (math.inf if pair[0] is None else pair[0], pair[1].name, str(pair[1].files)))


def differences(table: Table, other: Table) -> list[str]:
    """Fields of the signatures in which two tables differ, as `texts`, `N`; empty where they share no column.

    A field that is in one of the signatures only is named where nothing else differs.
    """
    names: set[str] = set()
    missing: set[str] = set()
    for metric in table.recipes.keys() & other.recipes.keys():
        one, two = (dict(t.recipes[metric].fields) | {t.recipes[metric].metric: ""} for t in (table, other))
        names |= {name for name in one.keys() & two.keys() if one[name] != two[name]}
        missing |= one.keys() ^ two.keys()
    return sorted(names or missing)


def _originals(rows: Sequence[Row]) -> dict[str, Score]:
    """Scores of the original texts that were measured in the same way for all rows; overlap is with a training set."""
    found: dict[str, list[Score]] = {}
    for row in rows:
        for metric, number in row.originals.items():
            found.setdefault(metric, []).append(number)
    shared = {}
    for metric, numbers in found.items():
        generated = [row.numbers[metric] for row in rows if metric in row.numbers]
        training_sets = {_training_set(number) for number in [*numbers, *generated]}
        if len(training_sets) == 1 and len({number.signature for number in numbers}) == 1:
            shared[metric] = numbers[0]
    return shared


def _training_set(number: Score) -> str | None:
    return Signature.parse(number.signature).get("data")


def _published_columns(row: Row) -> Row:
    metrics = [column.metric for column in COLUMNS]
    sides = ({m: side[m] for m in metrics if m in side} for side in (row.numbers, row.originals))
    numbers, originals = sides
    return replace(row, numbers=numbers, originals=originals)


def _fits(one: dict[str, Signature], other: dict[str, Signature]) -> bool:
    """Whether they share a column, and no column has two recipes."""
    common = one.keys() & other.keys()
    return bool(common) and all(one[metric] == other[metric] for metric in common)


def _contradict(one: Row, other: Row) -> bool:
    for metric in one.numbers.keys() & other.numbers.keys():
        a, b = one.numbers[metric], other.numbers[metric]
        if recipe(a.signature) != recipe(b.signature) or not math.isclose(a.value, b.value, rel_tol=1e-6):
            return True
    return False


def _union(one: Row, other: Row) -> Row:
    """All numbers of both; of equal ones the one with an interval."""
    numbers = dict(other.numbers) | one.numbers
    for metric in one.numbers.keys() & other.numbers.keys():
        if one.numbers[metric].low is None:
            numbers[metric] = other.numbers[metric]
    return replace(
        one,
        numbers=numbers,
        originals=other.originals | one.originals,
        files=tuple(dict.fromkeys([*one.files, *other.files])),
    )


def _shared(rows: list[Row], extra: Row) -> list[Row]:
    """Numbers of a model alone, in each of its rows that they do not contradict; else in a row of their own."""
    assert extra.numbers.keys() <= set(MODEL_COLUMNS)
    fits = [row.model == extra.model and not _contradict(row, extra) for row in rows]
    if not any(fits):
        return [*rows, extra]
    return [_union(row, extra) if fit else row for row, fit in zip(rows, fits, strict=True)]
