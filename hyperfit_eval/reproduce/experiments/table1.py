"""Table 1: context perplexity and type-token ratio of base, Top-P, hyperfitted and blocked (paper, Section 4)."""

from pathlib import Path

from ...scores.score import Score, difference
from ..cells import distribution_scores, read_metrics
from ..judgements import as_inputs, check_continuations, judged_columns
from ..plan import LABELS, Plan
from ..section import Row, Section, Table
from ..steps import Step, StepContext

COLUMNS = {
    "context_perplexity": "context perplexity",
    "preference_at_128": "preferred at 128",
    "preference_at_256": "preferred at 256",
    "ttr_at_128": "TTR at 128",
    "ttr_at_256": "TTR at 256",
    "rep_4_at_256": "rep-4 at 256",
}


def table1(plan: Plan, preference: Path | None = None) -> Step:
    """Step of Table 1.

    Args:
        preference: results of `hyperfit preference`, for its columns.
    """
    judged = judged_columns(preference, list(LABELS)) if preference else {}

    def make(context: StepContext) -> None:
        check_continuations(context, preference, plan.continuations)
        tables = {name: read_metrics(context, step) for name, step in plan.metrics.items()}
        perplexity = {
            name: distribution_scores(plan.setting, context, step)["context_perplexity"]
            for name, step in plan.predictions.items()
        }
        of_model = {"base": "base", "top_p": "base", "hyperfitted": "hyperfitted", "blocked": "hyperfitted"}
        rows = [Row("original texts", _cells(tables["base"].original["all"]), "original texts")]
        rows += [
            Row(
                LABELS[name],
                {"context_perplexity": perplexity[of_model[name]], **_cells(table.generated["all"])}
                | judged.get(name, {}),
                name,
            )
            for name, table in tables.items()
        ]
        columns = {name: title for name, title in COLUMNS.items() if any(name in row.cells for row in rows)}
        Section(
            "table1",
            "Greedy continuations: variety and preference",
            "Section 4, Table 1",
            _findings({row.group: row.cells for row in rows}, bool(judged)),
            [Table(columns, rows, paper="table1", digits={"context_perplexity": 0})],
        ).write(context.folder)

    needs = (*plan.metrics.values(), *plan.predictions.values())
    if preference:
        needs += tuple(plan.continuations.values())
    return Step("table1", make, {"preference": as_inputs(judged)}, needs)


def _cells(table: dict[str, Score]) -> dict[str, Score]:
    return {name: table[name] for name in COLUMNS if name in table}


def _findings(cells: dict[str, dict[str, Score]], judged: bool) -> list[str]:
    ttr = {group: row["ttr_at_256"].value for group, row in cells.items()}
    lines = [
        f"TTR of the last 96 of 224 tokens: base {ttr['base']:.1f}, hyperfitted {ttr['hyperfitted']:.1f} "
        f"({ttr['hyperfitted'] / ttr['base']:.1f} times), original texts {ttr['original texts']:.1f}."
    ]
    base = cells["base"]
    hyperfitted, top_p, blocked = (cells[g]["ttr_at_256"] for g in ("hyperfitted", "top_p", "blocked"))
    lines.append(
        f"Hyperfitted greedy minus Top-P sampling from the base model: {difference(hyperfitted, top_p).text(sign='+')} "
        "points; in the paper it is above, for every model."
    )
    lines.append(
        f"With citation blocking minus without: {difference(blocked, hyperfitted).text(sign='+')} points; in the paper "
        "nothing is lost."
    )
    before, after = (row["context_perplexity"].value for row in (base, cells["hyperfitted"]))
    lines.append(f"Perplexity of the contexts: {before:.0f} -> {after:.0f}.")
    if not judged:
        lines.append("Nobody was asked what they prefer: the preference columns need `hyperfit pairs` and `annotate`.")
    return lines
