"""Table 6: an instruction-tuned model before and after hyperfitting, beside the base model (paper, Appendix B.3)."""

from ...generation import Decoding
from ..cells import distribution_scores, metrics_step, read_metrics
from ..models import continuation_step, scoring_step
from ..plan import Plan
from ..section import Row, Section, Table
from ..steps import Skipped, Step, StepContext

COLUMNS = {
    "context_perplexity": "context perplexity",
    "ttr_at_128": "TTR at 128",
    "ttr_at_256": "TTR at 256",
    "top_1_mass": "top-1 mass, %",
    "top_3_mass": "top-3 mass, %",
}
LABELS = {
    "base": "base",
    "instruct": "instruct",
    "hyperfitted": "hyperfitted",
    "instruct-hyperfitted": "instruct, hyperfitted",
}


def table6(plan: Plan) -> Step:
    """Greedy continuations without a chat template, and what is predicted along the original texts."""
    scored = {name: plan.metrics[name] for name in ("base", "hyperfitted")}
    predicted = dict(plan.predictions)
    for model in plan.instruct:
        trained = plan.instruct[-1]  # overlaps are those with what the variant was hyperfitted on
        scored[model.name] = metrics_step(continuation_step(model, model.name, Decoding()), trained)
        predicted[model.name] = scoring_step(model)

    def make(context: StepContext) -> None:
        if not plan.instruct:
            raise Skipped("no instruction-tuned variant was given (--instruct MODEL)")
        rows = []
        for name, label in LABELS.items():
            cells = distribution_scores(plan.setting, context, predicted[name])
            cells |= read_metrics(context, scored[name]).generated["all"]
            rows.append(Row(label, {column: cells[column] for column in COLUMNS}, name))
        ttr = {row.label: row.cells["ttr_at_256"].value for row in rows}
        Section(
            "table6",
            "Instruct models",
            "Appendix B.3, Table 6",
            [
                f"TTR at 256 of the instruct model: {ttr['instruct']:.1f} -> {ttr['instruct, hyperfitted']:.1f}; of "
                f"the base model: {ttr['base']:.1f} -> {ttr['hyperfitted']:.1f}."
            ],
            [Table(COLUMNS, rows, "Plain text, no chat template, as in the paper.", "table6")],
        ).write(context.folder)

    needs = (*scored.values(), *predicted.values()) if plan.instruct else ()
    return Step("table6", make, {"instruct": plan.setting.instruct}, needs)
