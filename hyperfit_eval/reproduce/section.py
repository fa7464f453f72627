"""The result of a table's step, for the report: cells with their intervals, notes, figures. One JSON file."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .. import files
from ..documents import Value
from ..scores.score import Score

KIND, VERSION = "study-section", 1
FILE = "section.json"
_PLAIN = ("name", "title", "where", "findings", "examples")


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    label: str
    cells: dict[str, Score]
    """By column."""
    group: str = ""
    """The paper's rows of this group are shown beneath it."""


@dataclass(frozen=True)
class Table:
    """A table of a section."""

    columns: dict[str, str]
    """Name of the metric to the heading of its column."""
    rows: list[Row]
    caption: str = ""
    paper: str = ""
    """Name of the table in paper.yaml whose rows stand beside these."""
    digits: dict[str, int] = field(default_factory=dict)
    """Digits after the point, for columns that do not have one."""


@dataclass(frozen=True)
class Figure:
    """A picture in the step's folder."""

    file: str
    caption: str


@dataclass(frozen=True)
class Section:
    """One table or figure of the paper, or one analysis beyond it, as measured."""

    name: str
    title: str
    where: str
    """Section and table of the paper, or "beyond the paper"."""
    findings: list[str]
    """Sentences filled from the numbers: what they say, the unwelcome included."""
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    examples: list[dict[str, Any]] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write section.json."""
        body = {name: getattr(self, name) for name in _PLAIN} | {"figures": [asdict(figure) for figure in self.figures]}
        body["tables"] = [
            {**vars(table), "rows": [vars(row) | {"cells": _to_json(row.cells)} for row in table.rows]}
            for table in self.tables
        ]
        order = (field.name for field in fields(self))
        files.write_json(folder / FILE, KIND, VERSION, {name: body[name] for name in order})


def read_section(folder: Path) -> Section:
    """Read what `Section.write` wrote; errors as in `files.read_json`."""
    path = folder / FILE
    body = files.read_json(path, KIND, VERSION)
    tables = [
        Table(**{**table, "rows": [Row(**{**row, "cells": _from_json(row["cells"], path)}) for row in table["rows"]]})
        for table in body["tables"]
    ]
    figures = [Figure(**figure) for figure in body["figures"]]
    return Section(**{name: body[name] for name in _PLAIN}, tables=tables, figures=figures)


def _to_json(cells: dict[str, Score]) -> dict[str, object]:
    return {column: score.to_json() for column, score in cells.items()}


def _from_json(cells: dict[str, object], path: Path) -> dict[str, Score]:
    return {column: Score.from_json(column, Value(entry, str(path), column)) for column, entry in cells.items()}
