"""Variety, copying and fluency beside each other: what TTR praises and what it does not see.

TTR alone would praise word salad, and a training text that is recited: so the longest copied run and the base model's
perplexity of the text stand beside it. Loops are cheap for any language model: a very low perplexity is no merit.
"""

import numpy as np

from ... import metrics
from ...checkpoint_files import BLOCKS_FILE
from ...metrics import mean_interval
from ...records import CONTEXT_TOKENS, LONG
from ...scores.score import Score
from ...scores.signature import signature
from ...scores.training_set import read_training_set
from ..cells import perplexity, read_metrics, recipe_of
from ..models import read_continuations, read_predictions, scoring_step
from ..plan import LABELS, Plan
from ..section import Row, Section, Table
from ..steps import Step, StepContext

COLUMNS = {
    "ttr_at_256": "TTR at 256 tokens",
    "rep_4_at_256": "rep-4",
    "copied_avg": f"longest run copied, of {LONG} tokens, avg",
    "copied_max": "max",
    "fluency": "base model's perplexity of it",
}


def fluency(plan: Plan) -> Step:
    """TTR, repeated 4-grams, longest copied run and fluency of the original texts and of all continuations."""
    scored = {name: scoring_step(plan.base, along=step) for name, step in plan.continuations.items()}

    def make(context: StepContext) -> None:
        training = read_training_set(plan.hyperfitted.checkpoint(context) / BLOCKS_FILE)
        originals = read_predictions(context, plan.predictions["base"])
        tables = {name: read_metrics(context, step) for name, step in plan.metrics.items()}
        cells = _measured(tables["base"].original["all"]) | {"fluency": _fluency(plan, originals)}
        rows = [Row("original texts", cells, "original texts")]
        for name, table in tables.items():
            ids = [record.generated_ids for record in read_continuations(context, plan.continuations[name])[1]]
            lengths = metrics.longest_overlap(ids, training.rows).astype(float)
            recipe = {"N": len(ids), "len": LONG, "data": training.fingerprint, "texts": plan.setting.texts.fingerprint}
            sign = signature("overlap", **recipe)
            rows.append(
                Row(
                    LABELS[name],
                    {
                        **_measured(table.generated["all"]),
                        "copied_avg": Score.of("overlap", mean_interval(lengths), "tokens", sign),
                        "copied_max": Score("overlap", int(lengths.max()), "tokens", f"{sign}|max"),
                        "fluency": _fluency(plan, read_predictions(context, scored[name])),
                    },
                    name,
                )
            )
        of_group = {row.group: row.cells for row in rows}
        value = {name: of_group[name]["fluency"].value for name in ("original texts", "hyperfitted", "base")}
        copied = {name: of_group[name] for name in ("base", "hyperfitted", "blocked")}
        runs = {
            name: f"{cells['copied_avg'].value:.1f} tokens on average and {cells['copied_max'].value} at most"
            for name, cells in copied.items()
        }
        Section(
            "fluency", "Variety, copying and fluency", "beyond the paper",
            [
                f"The longest run of the {LONG} tokens that is in the training set: base {runs['base']}; hyperfitted "
                f"{runs['hyperfitted']}; with citation blocking {runs['blocked']}.",
                f"The base model's perplexity of the text: original texts {value['original texts']:.0f}, hyperfitted "
                f"{value['hyperfitted']:.0f}, base {value['base']:.0f} (loops are easy to predict).",
            ],
            [Table(COLUMNS, rows, digits={"copied_max": 0, "fluency": 0})],
        ).write(context.folder)  # fmt: skip

    needs = (*plan.metrics.values(), *plan.continuations.values(), *scored.values(), plan.predictions["base"])
    return Step("fluency", make, {"columns": list(COLUMNS)}, (*needs, *plan.hyperfitted.needs))


def _measured(table: dict[str, Score]) -> dict[str, Score]:
    return {name: table[name] for name in COLUMNS if name in table}


def _fluency(plan: Plan, arrays: dict[str, np.ndarray]) -> Score:
    losses = arrays["nll"][:, CONTEXT_TOKENS - int(arrays["first_scored"]) :].mean(axis=1)
    return perplexity(losses, "fluency", **recipe_of(plan.setting, arrays, LONG))
