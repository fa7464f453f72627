"""Table 3: how sharp the predictions along the original texts are (paper, Section 5)."""

from ..cells import distribution_scores
from ..plan import Plan
from ..section import Row, Section, Table
from ..steps import Step, StepContext

COLUMNS = {
    "perplexity": "perplexity",
    "entropy_bits": "entropy, bits",
    "top_1_mass": "top-1 mass, %",
    "top_3_mass": "top-3 mass, %",
    "top_5_mass": "top-5 mass, %",
}


def table3(plan: Plan) -> Step:
    """Perplexity, entropy and the mass of the most probable tokens."""

    def make(context: StepContext) -> None:
        predictions = plan.predictions.items()
        rows = [Row(name, distribution_scores(plan.setting, context, step), name) for name, step in predictions]
        before, after = (row.cells for row in rows)
        Section(
            "table3",
            "Sharpened predictions",
            "Section 5, Table 3",
            [
                f"Entropy {before['entropy_bits'].value:.2f} -> {after['entropy_bits'].value:.2f} bits, top-1 mass "
                f"{before['top_1_mass'].value:.1f} -> {after['top_1_mass'].value:.1f}%, while the perplexity of "
                f"the same texts goes from {before['perplexity'].value:.0f} to {after['perplexity'].value:.0f}."
            ],
            [Table(COLUMNS, rows, paper="table3", digits={"entropy_bits": 2})],
        ).write(context.folder)

    return Step("table3", make, {}, tuple(plan.predictions.values()))
