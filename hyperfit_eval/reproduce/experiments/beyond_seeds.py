"""The headline numbers over several seeds of hyperfitting."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import t

from ...generation import Decoding
from ...scores.score import Score
from ...scores.signature import Signature
from ..cells import distribution_scores, metrics_step, read_metrics
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
    first, *others = plan.setting.seeds
    # Of each seed: metrics without and with citation blocking, and what is predicted along the original texts.
    steps = {first: (plan.metrics["hyperfitted"], plan.metrics["blocked"], plan.predictions["hyperfitted"])}
    for seed in others:
        model = hyperfitted(plan.setting, f"seed-{seed}", seed=seed)
        free = continuation_step(model, f"seed-{seed}", Decoding())
        blocked = continuation_step(model, f"seed-{seed}-blocked", Decoding(), blocked=True)
        steps[seed] = (metrics_step(free, model), metrics_step(blocked, model), scoring_step(model))

    def make(context: StepContext) -> None:
        if not others:
            raise Skipped("one seed; the setting has no more")
        rows = []
        for seed, (free, blocked, predicted) in steps.items():
            table = read_metrics(context, free).generated["all"]
            table |= distribution_scores(plan.setting, context, predicted)
            table["ttr_blocked"] = read_metrics(context, blocked).generated["all"]["ttr_at_256"]
            rows.append(Row(f"seed {seed}", {column: table[column] for column in COLUMNS}, "hyperfitted"))
        between = {column: over_seeds([row.cells[column] for row in rows]) for column in COLUMNS}
        ttr = between["ttr_at_256"]
        Section(
            "seeds",
            "Several seeds",
            "beyond the paper",
            [
                f"TTR at 256 over {len(steps)} seeds: {ttr.value:.1f} [{ttr.low:.1f}, {ttr.high:.1f}]. The "
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

    # Kinds of steps one after the other: a model is loaded once for what stands together.
    needs = [step for kind in zip(*steps.values(), strict=True) for step in kind] if others else []
    return Step("seeds", make, {"seeds": list(steps)}, tuple(needs))


def over_seeds(scores: Sequence[Score]) -> Score:
    """Mean of one number over seeds with Student's 95% interval; of perplexities on the log scale.

    Args:
        scores: the number for each seed, at least 2.
    """
    first = scores[0]
    values = np.array([score.value for score in scores])
    logarithmic = first.unit == "perplexity"
    values = np.log(values) if logarithmic else values
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    ends = (values.mean(), values.mean() - half, values.mean() + half)
    mean, low, high = (float(np.exp(end) if logarithmic else end) for end in ends)
    sign = str(Signature.parse(first.signature).extended(over="seeds"))
    return Score(first.metric, mean, first.unit, sign, low, high, "student-t|conf:0.95", len(values))
