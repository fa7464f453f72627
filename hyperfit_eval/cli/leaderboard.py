"""`hyperfit leaderboard`: results of many models side by side."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import HyperfitError
from ..extras import require_extra
from ..plain import for_terminal


def leaderboard(
    results: Annotated[
        list[str],
        typer.Argument(metavar="RESULTS...", help="Files, folders (searched) or Hub ids; NAME=RESULTS names a model."),
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where leaderboard.md, .html and .csv are written.")],
) -> None:
    """Rank models by their results; what was measured in different ways stands in different tables.

    Reads what lm-eval and `hyperfit eval`, `score --json`, `demo`, `push`, `reproduce` and `preference` wrote.

    Example: `hyperfit leaderboard runs/demo runs/eval --out runs/leaderboard`
    """
    require_extra("reports", "hyperfit leaderboard", "jinja2")
    from ..leaderboard.page import write_leaderboard
    from ..leaderboard.rows import read_rows
    from ..leaderboard.search import Unread, find
    from ..leaderboard.tables import tables

    if out.exists() and not out.is_dir():
        raise HyperfitError(f"--out {out}: a file; give a folder")
    sources, skipped = find(results)
    rows = []
    for source in sources:
        try:
            found = read_rows(source)
        except HyperfitError as error:
            skipped.append(Unread.because(source.shown, error))
            continue
        rows += found
        skipped += [Unread(source.shown, f"{reason}, left out") for row in found for reason in row.left_out]
    for one in skipped:
        print(for_terminal(f"skipped {one.shown}: {one.reason}"))
    if not rows:
        raise HyperfitError(f"no results in {', '.join(results)}; {len(skipped)} skipped, nothing written")
    made = tables(rows)
    paths = write_leaderboard(out, made, skipped)
    print(f"{sum(len(table.rows) for table in made)} rows in {len(made)} tables; {len(skipped)} skipped")
    print("written to " + ", ".join(map(str, paths)))
