"""Table 5: where overlaps with the training set happen, source by source (paper, Appendix B.2)."""

from ..cells import read_metrics
from ..paper import printed
from ..plan import GREEDY, LABELS, Plan
from ..section import Row, Section, Table
from ..steps import Step, StepContext


def table5(plan: Plan) -> Step:
    """Share of the continuations that overlap the training set by more than 5 tokens, for each source."""

    def make(context: StepContext) -> None:
        tables = {name: read_metrics(context, plan.metrics[name]) for name in GREEDY}
        sources = list(tables["base"].sources)
        rows = [
            Row(
                LABELS[name],
                {_column(source): table.generated[source]["overlap_rate"] for source in sources}
                | {"overlap_rate_average": table.generated["all"]["overlap_rate"]},
                name,
            )
            for name, table in tables.items()
        ]
        rate = {row.group: row.cells["overlap_rate_average"].value for row in rows}
        paper = {name: printed("table5", name, "overlap_rate_average") for name in ("base", "hyperfitted")}
        after, before = (f"{paper[name][0]:.0f} to {paper[name][-1]:.0f}%" for name in ("hyperfitted", "base"))
        Section(
            "table5",
            "Where overlaps happen",
            "Appendix B.2, Table 5",
            [
                f"{rate['hyperfitted']:.0f}% of the hyperfitted continuations share more than 5 tokens in a row with "
                f"the training set, {rate['base']:.0f}% of the base model's (paper: {after} and {before})."
            ],
            [
                Table(
                    {_column(source): source for source in sources} | {"overlap_rate_average": "all"},
                    rows, "Share of texts, %.", "table5",
                )
            ],
        ).write(context.folder)  # fmt: skip

    return Step("table5", make, {}, tuple(plan.metrics[name] for name in GREEDY))


def _column(source: str) -> str:
    """The paper's Wikipedia stands beside the shipped texts in the style of an encyclopedia."""
    return f"overlap_rate_{'wikipedia' if source == 'encyclopedic' else source}"
