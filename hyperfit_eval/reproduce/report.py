"""report.md and report.html from the sections that the steps left: measured rows with the paper's beneath them."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from ..files import write_text
from ..report.tables import markdown_table
from ..scores.signature import Signature
from .paper import paper_tables
from .section import Row, Section, Table
from .verdicts import AGREES, DISAGREES, UNCLEAR, verdicts

NAMES = {"top_p": "base, Top-P", "blocked": "hyperfitted, citation blocking"}


@dataclass(frozen=True)
class Head:
    """The head of a printed column, with the numbers of its signatures."""

    title: str
    marks: list[int]


@dataclass(frozen=True)
class PrintedRow:
    """A row as text; the paper's rows stand apart from the measured ones."""

    cells: list[str]
    paper: bool = False


def write_report(
    root: Path, sections: Sequence[tuple[Section, Path]], skipped: Mapping[str, str], facts: Mapping[str, str]
) -> None:
    """Write report.md, with its figures beside it, and report.html, which holds everything.

    First in both is what agreed with the paper and what did not.

    Args:
        sections: in the order of the report, each with the folder that its figures are in.
        skipped: why experiments are not in it, by name.
        facts: what the study was run on: model, corpus, texts, seeds, versions.
    """
    signatures: dict[str, int] = {}
    known = {section.name for section, _ in sections} | set(skipped)
    judged = verdicts([section for section, _ in sections], skipped)
    found = [one for one in judged if one.section in known]
    content = {
        "verdicts": found,
        "not_run": list(dict.fromkeys(one.section for one in judged if one.section not in known)),
        "counts": {kind: sum(one.verdict == kind for one in found) for kind in (AGREES, DISAGREES, UNCLEAR)},
        "sections": [_content(section, folder, root, signatures) for section, folder in sections],
        "names": {section.name for section, _ in sections},
        "skipped": dict(skipped),
        "facts": dict(facts),
    }
    content["signatures"] = list(signatures)
    for name in ("report.md", "report.html"):
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("hyperfit_eval.reproduce"), undefined=jinja2.StrictUndefined, trim_blocks=True,
            lstrip_blocks=True, autoescape=name.endswith(".html"),
        )  # fmt: skip
        environment.filters |= {"md": plain_markdown, "code": _with_code, "prose": _prose}
        write_text(root / name, environment.get_template(f"{name}.j2").render(**content))


def _content(section: Section, folder: Path, root: Path, signatures: dict[str, int]) -> dict[str, object]:
    return {
        "name": section.name,
        "title": section.title,
        "where": section.where,
        "findings": section.findings,
        "tables": [_table(table, signatures) for table in section.tables],
        "figures": [
            {
                "path": (folder / figure.file).relative_to(root).as_posix(),
                "data": base64.b64encode((folder / figure.file).read_bytes()).decode(),
                "caption": figure.caption,
            }
            for figure in section.figures
        ],
        "examples": section.examples,
    }


def cell_texts(table: Table, row: Row) -> list[str]:
    """A row's numbers with their intervals, a dash for each that it lacks."""
    return [row.cells[name].text(table.digits.get(name, 1)) if name in row.cells else "-" for name in table.columns]


def _table(table: Table, signatures: dict[str, int]) -> dict[str, object]:
    """Cells as text; the number of a column's signature stands in its head."""
    header = [Head("", [])]
    for name, title in table.columns.items():
        marks = {
            signatures.setdefault(_recipe(row.cells[name].signature), len(signatures) + 1)
            for row in table.rows
            if name in row.cells and row.cells[name].signature
        }
        header.append(Head(title, sorted(marks)))
    rows = [PrintedRow([row.label, *cell_texts(table, row)]) for row in table.rows] + _paper_rows(table)
    heads = [f"{head.title} [{','.join(map(str, head.marks))}]" if head.marks else head.title for head in header]
    return {
        "caption": table.caption,
        "header": header,
        "rows": rows,
        "markdown": markdown_table(heads, [row.cells for row in rows]),
        "notes": paper_tables()[table.paper].notes if table.paper else [],
    }


def _paper_rows(table: Table) -> list[PrintedRow]:
    """The paper's rows of the groups that the table has, in the table's columns."""
    if not table.paper:
        return []
    groups = {row.group for row in table.rows}
    rows = []
    for row in paper_tables()[table.paper].rows:
        values = [row.values.get(name) for name in table.columns]
        if row.group in groups and any(value is not None for value in values):
            label = f"paper: {row.model}" + (
                f", {NAMES.get(row.group, row.group)}" if row.model != "Original texts" else ""
            )
            rows.append(PrintedRow([label, *("-" if v is None else str(v) for v in values)], paper=True))
    return rows


def _recipe(signature: str) -> str:
    """A signature without the fields in which rows of one column differ by design; they are in the rows' names."""
    return str(Signature.parse(signature).without("dec", "block", "seed", "dtype", "max", "over"))


def _with_code(text: str) -> Markup:
    """A sentence for HTML: escaped, what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _prose(text: str) -> str:
    """A sentence of ours for Markdown: names and messages in it as they are, what stands between backticks as code.

    Brackets and arrows of our own stay as they are, so that the file itself reads well.
    """
    parts = re.split(r"(`[^`]*`)", text.replace("\n", " "))
    return "".join(part if i % 2 else re.sub(r"([\\*_<|]|\](?=\())", r"\\\1", part) for i, part in enumerate(parts))


def plain_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line; spaces at its ends stay."""
    escaped = re.sub(r"([\\`*_\[\]<>#|~$&])", r"\\\1", text.replace("\n", " "))
    # What would begin a list.
    return re.sub(r"^(\s*\d*)([-+.)])(?=\s)", r"\1\\\2", escaped)
