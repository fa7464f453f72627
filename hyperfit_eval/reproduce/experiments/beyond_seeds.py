"""The headline numbers over several seeds of hyperfitting."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import t

from ...generation import Decoding
from ..cells import distribution_entries, metrics_step, read_metrics
from ..models import continuation_step, hyperfitted, scoring_step
from ..plan import Plan
from ..section import Row, Section, Table
from ..steps import Skipped, Step, StepContext

COLUMNS = {
    "ttr_at_128": "TTR at 128",
    "ttr_at_256": "TTR at 256",
    "ttr_blocked": "TTR at 256, blocked",
    "self_bleu": "Self-BLEU",
    "dataset_bleu": "Dataset BLEU",
    "dataset_overlap": "overlap, tokens",
    "overlap_rate": "overlap above 5, %",
    "perplexity": "perplexity",
    "entropy_bits": "entropy, bits",
    "top_1_mass": "top-1 mass, %",
}


def seeds(plan: Plan) -> Step:
    """Hyperfit with each seed, which draws the order of the blocks; every number once for each."""
    models = {
        seed: plan.hyperfitted
        if seed == plan.setting.seeds[0]
        else hyperfitted(plan.setting, f"seed-{seed}", seed=seed)
        for seed in plan.setting.seeds
    }
    scored = {
        seed: plan.metrics["hyperfitted"]
        if seed == plan.setting.seeds[0]
        else metrics_step(continuation_step(model, f"seed-{seed}", Decoding()), model)
        for seed, model in models.items()
    }
    blocked = {
        seed: plan.metrics["blocked"]
        if seed == plan.setting.seeds[0]
        else metrics_step(continuation_step(model, f"seed-{seed}-blocked", Decoding(), blocked=True), model)
        for seed, model in models.items()
    }
    predicted = {
        seed: plan.predictions["hyperfitted"] if seed == plan.setting.seeds[0] else scoring_step(model)
        for seed, model in models.items()
    }

    def make(context: StepContext) -> None:
        if len(models) < 2:
            raise Skipped("one seed; the setting has no more")
        rows = []
        for seed in models:
            table = read_metrics(context, scored[seed])["generated"]["all"] | distribution_entries(
                plan.setting, context, predicted[seed]
            )
            table["ttr_blocked"] = read_metrics(context, blocked[seed])["generated"]["all"]["ttr_at_256"]
            rows.append(Row(f"seed {seed}", {column: table[column] for column in COLUMNS}, "hyperfitted"))
        between = {column: over_seeds([row.cells[column] for row in rows]) for column in COLUMNS}
        ttr = between["ttr_at_256"]
        Section(
            "seeds",
            "Several seeds",
            "beyond the paper",
            [
                f"TTR at 256 over {len(models)} seeds: {ttr['mean']:.1f} [{ttr['low']:.1f}, {ttr['high']:.1f}]. The "
                "intervals of single seeds are over texts, that of the last row is over seeds (Student's t)."
            ],
            [
                Table(
                    COLUMNS,
                    [*rows, Row("over seeds", between, "hyperfitted")],
                    digits={"entropy_bits": 2, "perplexity": 0},
                )
            ],
        ).write(context.folder)

    needs = (*scored.values(), *blocked.values(), *predicted.values()) if len(models) > 1 else ()
    return Step("seeds", make, {"seeds": list(models)}, needs)


def over_seeds(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean of one number over seeds as a table entry, with Student's 95% interval; of perplexities on the log scale.

    Args:
        entries: the number's cell for each seed, at least 2.
    """
    first = entries[0]
    values = np.array([entry["mean"] for entry in entries])
    logarithmic = first["unit"] == "perplexity"
    values = np.log(values) if logarithmic else values
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    ends = {"mean": values.mean(), "low": values.mean() - half, "high": values.mean() + half}
    return {
        **{name: float(np.exp(end) if logarithmic else end) for name, end in ends.items()},
        "n": len(values), "unit": first["unit"], "method": "student-t|conf:0.95",
        "signature": f"{first['signature']}|over:seeds",
    }  # fmt: skip
