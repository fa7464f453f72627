"""What a table's step leaves for the report: cells with their intervals, notes, figures. One JSON file."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import files

KIND, VERSION = "study-section", 1
FILE = "section.json"


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    label: str
    cells: dict[str, Any]
    """By column, an entry as of `scores`: mean or value, interval, n, unit, signature."""
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
    """Of columns that are not shown with one."""


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
        files.write_json(folder / FILE, KIND, VERSION, asdict(self))


def read_section(folder: Path) -> Section:
    """Read what `Section.write` wrote; errors as in `files.read_json`."""
    body = files.read_json(folder / FILE, KIND, VERSION)
    tables = [Table(**{**table, "rows": [Row(**row) for row in table["rows"]]}) for table in body["tables"]]
    figures = [Figure(**figure) for figure in body["figures"]]
    fields = {name: body[name] for name in ("name", "title", "where", "findings", "examples")}
    return Section(**fields, tables=tables, figures=figures)
