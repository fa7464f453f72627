"""leaderboard.md, leaderboard.html and leaderboard.csv from the tables."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from .. import __version__
from ..files import write_text
from ..plain import for_csv, for_markdown, for_terminal, markdown_code
from ..report.tables import markdown_table
from ..scores.score import Score
from ..scores.signature import Signature
from .rows import Row
from .search import Unread
from .tables import COLUMNS, Column, Table, differences

NAMES = {
    "texts": "evaluation texts", "N": "number of texts", "tok_hash": "tokenizer", "v": "version of hyperfit-eval",
    "version": "version of sacrebleu", "smooth": "smoothing", "len": "length", "rows": "number of training blocks",
    "ctx": "length of the contexts", "study": "preference study", "limit": "limit of questions", "shots": "shots",
    "num_fewshot": "shots", "lm_eval": "version of lm-eval",
}  # fmt: skip
"""Fields of signatures, in words."""
_NEUTRAL = {("top_p", "1.0"), ("top_k", "0"), ("min_p", "0.0")}


@dataclass(frozen=True)
class Cell:
    """A number as the page prints it."""

    main: str = "-"
    interval: str = ""
    value: float | str = ""
    signature: str = ""

    @property
    def text(self) -> str:
        """`73.1 [71.0, 75.2]`."""
        return f"{self.main} {self.interval}".strip()


@dataclass(frozen=True)
class Line:
    """A row as the page prints it."""

    rank: int | None
    name: str
    decoding: str
    blocked: str
    is_blocked: str
    """For the filter: yes, no, or nothing where no text was generated."""
    cells: list[Cell]
    files: list[str]


def write_leaderboard(folder: Path, tables: Sequence[Table], skipped: Sequence[Unread]) -> list[Path]:
    """Write the three files; returns their paths."""
    content = {
        "tables": [_table(number, table, tables[0]) for number, table in enumerate(tables, start=1)],
        "skipped": skipped,
        "columns": COLUMNS,
        "version": __version__,
    }
    written = []
    for name in ("leaderboard.md", "leaderboard.html"):
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("hyperfit_eval.leaderboard"), undefined=jinja2.StrictUndefined,
            trim_blocks=True, lstrip_blocks=True, autoescape=name.endswith(".html"),
        )  # fmt: skip
        environment.filters |= {"md": for_markdown, "code": markdown_code, "line": for_terminal}
        write_text(folder / name, environment.get_template(f"{name}.j2").render(**content))
        written.append(folder / name)
    write_text(folder / "leaderboard.csv", as_csv(tables))
    return [*written, folder / "leaderboard.csv"]


def as_csv(tables: Sequence[Table]) -> str:
    """One line a row: values, ends of intervals and signatures of all columns."""
    fields = ["table", "rank", "model", "decoding", "blocked", "training_blocks", "files"]
    for column in COLUMNS:
        fields += [column.metric, f"{column.metric}_low", f"{column.metric}_high", f"{column.metric}_signature"]
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    for number, table in enumerate(tables, start=1):
        for rank, row in table.rows:
            line: dict[str, object] = {"table": number, "rank": rank, "model": row.name, "files": "; ".join(row.files)}
            line |= {"decoding": row.decoding, "blocked": blocked(row), "training_blocks": training_blocks(row)}
            for metric, score in row.numbers.items():
                line |= {metric: score.value, f"{metric}_low": score.low, f"{metric}_high": score.high}
                line[f"{metric}_signature"] = score.signature
            writer.writerow({name: for_csv(value) for name, value in line.items()})
    return text.getvalue()


def blocked(row: Row) -> str:
    """`no`, `5-grams` with the rule's variants, or nothing where no text was generated."""
    if row.blocked is None:
        return ""
    ngram, *more = row.settings["block"].split("+") if row.blocked else ("",)
    return ", ".join([f"{ngram}-grams", *more]) if row.blocked else "no"


def training_blocks(row: Row) -> str:
    """Fingerprint of the training set that overlap was measured against."""
    overlap = row.numbers.get("dataset_overlap_avg")
    return Signature.parse(overlap.signature).get("data") or "" if overlap else ""


def decoding(row: Row) -> str:
    """`greedy`, `temperature 0.7, top-p 0.9, top-k 50, seed 0`; settings that change nothing are left out."""
    method, _, settings = (row.decoding or "").removesuffix(")").partition("(")
    parts = dict(part.partition("=")[::2] for part in settings.split(",")) if settings else {}
    parts = {name: value for name, value in parts.items() if (name, value) not in _NEUTRAL}
    if not parts:
        return method
    return ", ".join(f"{name.replace('_', '-')} {value}" for name, value in parts.items())


def _table(number: int, table: Table, first: Table) -> dict[str, object]:
    columns = [column for column in COLUMNS if column.metric in table.recipes]
    with_originals = [_cell(table.originals.get(column.metric)) for column in columns]
    rows = [
        Line(
            rank=rank,
            name=for_terminal(row.name),
            decoding=for_terminal(decoding(row)),
            blocked=for_terminal(blocked(row)),
            is_blocked={None: "", True: "yes", False: "no"}[row.blocked],
            cells=[_cell(row.numbers.get(column.metric)) for column in columns],
            files=[for_terminal(file) for file in row.files],
        )
        for rank, row in table.rows
    ]
    apart = [NAMES.get(name, name) for name in differences(table, first)] if number > 1 else []
    originals = with_originals if any(cell.text != "-" for cell in with_originals) else []
    return {
        "number": number,
        "title": _title(table),
        "apart": list(dict.fromkeys(apart)),
        "columns": [{"title": _heading(column), "order": "up" if column.higher else "down"} for column in columns],
        "rows": rows,
        "originals": originals,
        "recipes": {column.title: str(table.recipes[column.metric]) for column in columns},
        "markdown": _markdown(columns, rows, originals),
    }


def _markdown(columns: Sequence[Column], rows: Sequence[Line], originals: Sequence[Cell]) -> str:
    header = ["model", "rank", "decoding", "blocked", *map(_heading, columns)]
    lines = [
        [for_markdown(row.name), str(row.rank or "-"), for_markdown(row.decoding or "-"),
         for_markdown(row.blocked or "-"), *(cell.text for cell in row.cells)]
        for row in rows
    ]  # fmt: skip
    if originals:
        lines.append(["*original texts*", "", "", "", *(cell.text for cell in originals)])
    return markdown_table(header, lines)


def _heading(column: Column) -> str:
    return column.title + (f", {column.unit}" if column.unit and column.unit != "BLEU" else "")


def _cell(number: Score | None) -> Cell:
    if number is None:
        return Cell()
    interval = "" if number.low is None or number.high is None else f"[{number.low:.1f}, {number.high:.1f}]"
    return Cell(f"{number.value:.1f}", interval, number.value, number.signature)


def _title(table: Table) -> str:
    """The settings that all rows of a table share, as `60 texts 65c3db7b, float32, tokenizer 18a19846`."""
    first = next((table.recipes[c.metric] for c in COLUMNS if c.metric in table.recipes), Signature("", ()))
    parts = {name: value or "" for name, value in first.fields}
    what = "questions" if {"task", "tasks"} & parts.keys() else "texts"
    words = {"task": "{}", "tasks": "{}", "N": f"{{}} {what}", "dtype": "{}"}
    hashes = {"texts": "set {}", "tok_hash": "tokenizer {}"}
    words_of = [text.format(parts[name]) for name, text in words.items() if name in parts]
    words_of += [text.format(parts[name][:8]) for name, text in hashes.items() if name in parts]
    return ", ".join(words_of) or "other"
