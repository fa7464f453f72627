"""Markdown tables of metrics with their intervals."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..plain import for_terminal

_BAR = re.compile(r"(?<!\\)\|")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the rest to the right."""
    lines = [_row(header), "|---|" + "---:|" * (len(header) - 1)]
    return "\n".join(lines + [_row(row) for row in rows])


def with_interval(entry: Mapping[str, Any] | None, digits: int = 1) -> str:
    """`73.1 [71.0, 75.2]` from a metric with its interval, the value of one without, or a dash.

    Args:
        entry: {"mean", "low", "high"} or {"value"} or {"unavailable"}, or None where there is no such row.
    """
    if entry is None or "unavailable" in entry:
        return "-"
    if "value" in entry:
        return f"{entry['value']:.{digits}f}"
    return f"{entry['mean']:.{digits}f} [{entry['low']:.{digits}f}, {entry['high']:.{digits}f}]"


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same for a terminal: columns padded to one width."""
    table = [[for_terminal(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in table
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _row(cells: Sequence[str]) -> str:
    # A bar inside a cell would open another one; `plain.for_markdown` has escaped those of its texts.
    return "| " + " | ".join(_BAR.sub(r"\\|", cell).replace("\n", " ") for cell in cells) + " |"
