"""Table 2: likeness of the continuations to each other and to the training set (paper, Section 4.2)."""

from ...scores.score import Score
from ..cells import highest, read_metrics
from ..paper import printed
from ..plan import LABELS, Plan
from ..section import Row, Section, Table
from ..steps import Step, StepContext


def table2(plan: Plan) -> Step:
    """Self-BLEU, Dataset BLEU and Dataset Overlap: mean and maximum of each text's highest value."""
    metric_names = {
        "self_bleu": "Self-BLEU",
        "dataset_bleu": "Dataset BLEU",
        "dataset_overlap": "overlap, tokens",
        "self_bleu_token": "Self-BLEU of tokens",
        "dataset_bleu_token": "Dataset BLEU of tokens",
    }

    def make(context: StepContext) -> None:
        tables = {name: read_metrics(context, step) for name, step in plan.metrics.items()}
        sides = [("original texts", "original texts", tables["base"].original["all"])]
        sides += [(LABELS[name], name, table.generated["all"]) for name, table in tables.items()]
        rows = [Row(label, _average_and_highest(values, metric_names), group) for label, group, values in sides]
        columns = {f"{name}_{what}": f"{title} {what}" for name, title in metric_names.items() for what in _WHAT}
        Section(
            "table2",
            "Diversity, and overlap with the training set",
            "Section 4.2, Table 2",
            _findings({row.group: row.cells for row in rows}),
            [
                Table(
                    columns, rows, paper="table2", digits={f"{name}_max": 0 for name in ("dataset_overlap",)},
                    caption="BLEU of the first 96 tokens, split at white space and without smoothing, or of token ids "
                    "with exponential smoothing; the paper does not say which it used.",
                )
            ],
        ).write(context.folder)  # fmt: skip

    return Step("table2", make, {}, tuple(plan.metrics.values()))


_WHAT = ("avg", "max")


def _average_and_highest(values: dict[str, Score], names: dict[str, str]) -> dict[str, Score]:
    return {
        f"{name}_{what}": score if what == "avg" else highest(score, f"{name}_max")
        for name, score in ((name, values.get(name) or Score.missing(name, "no training set")) for name in names)
        for what in _WHAT
    }


def _findings(cells: dict[str, dict[str, Score]]) -> list[str]:
    def of(group: str, name: str) -> float:
        return cells[group][name].value

    return [
        f"Self-BLEU: base {of('base', 'self_bleu_avg'):.1f}, hyperfitted {of('hyperfitted', 'self_bleu_avg'):.1f}, "
        f"original texts {of('original texts', 'self_bleu_avg'):.1f}.",
        f"Longest run copied from the training set, on average and at most: base "
        f"{of('base', 'dataset_overlap_avg'):.1f} / {of('base', 'dataset_overlap_max'):.0f} tokens, hyperfitted "
        f"{of('hyperfitted', 'dataset_overlap_avg'):.1f} / {of('hyperfitted', 'dataset_overlap_max'):.0f}, with "
        f"citation blocking {of('blocked', 'dataset_overlap_avg'):.1f} / {of('blocked', 'dataset_overlap_max'):.0f}. "
        f"The paper's largest averages are {printed('table2', 'hyperfitted', 'dataset_overlap_avg')[-1]} and "
        f"{printed('table2', 'blocked', 'dataset_overlap_avg')[-1]}.",
    ]
