"""The paper's own numbers, to stand beside the measured ones."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml


@dataclass(frozen=True)
class PaperRow:
    """One row as printed."""

    group: str
    """base, hyperfitted, blocked, top_p, ...: what is compared with what."""
    model: str
    values: dict[str, float | str | None]
    """By the names of our metrics; text for a bound, None where nothing is printed."""


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper, or the numbers that its text gives for a figure."""

    name: str
    title: str
    section: str
    columns: list[str]
    rows: list[PaperRow]
    notes: list[str]


@cache
def paper_tables() -> dict[str, PaperTable]:
    """All that is in paper.yaml, by name: table1, figure3, ..."""
    text = files("hyperfit_eval.reproduce").joinpath("paper.yaml").read_text(encoding="utf-8")
    tables = {}
    for name, entry in yaml.safe_load(text).items():
        rows = [
            PaperRow(row["group"], row["model"], dict(zip(entry["columns"], row["values"], strict=True)))
            for row in entry["rows"]
        ]
        tables[name] = PaperTable(
            name, entry["title"], entry["section"], entry["columns"], rows, entry.get("notes", [])
        )
    return tables


def printed(table: str, group: str, column: str) -> list[float]:
    """All numbers of a column that the paper prints for one group of rows, smallest first; bounds are left out."""
    values = [row.values[column] for row in paper_tables()[table].rows if row.group == group]
    return sorted(value for value in values if isinstance(value, int | float))
