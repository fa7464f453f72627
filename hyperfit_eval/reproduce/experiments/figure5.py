"""Figure 5: the same samples in another order, and fewer samples (paper, Sections 6.1 and 6.3)."""

import numpy as np

from ...generation import Decoding
from ...records import SHORT
from ...scores.score import Score
from .. import drawing
from ..cells import mean_score, metrics_step, read_metrics, recipe_of, write_values
from ..models import continuation_step, hyperfitted, read_predictions, scoring_step
from ..plan import Plan
from ..section import Figure, Row, Section, Table
from ..steps import Skipped, Step, StepContext

ORDERS = {"original": "none", "Shuffle-1": "one", "Shuffle-All": "all"}


def figure5_left(plan: Plan) -> Step:
    """How often models trained on the same samples in other orders have the same most probable token."""
    seed = plan.setting.seeds[0]
    models = {
        name: plan.hyperfitted if shuffle == "none" else hyperfitted(plan.setting, name, shuffle=shuffle, seed=seed)
        for name, shuffle in ORDERS.items()
    }
    steps = {name: scoring_step(model) for name, model in models.items()}

    def make(context: StepContext) -> None:
        found = {name: read_predictions(context, step) for name, step in steps.items()}
        top1 = {name: arrays["top1"] for name, arrays in found.items()}
        recipe = recipe_of(plan.setting, found["original"], 256)
        rows = [
            Row(
                name,
                {
                    f"agreement_{other}": mean_score(
                        agreement(top1[name], top1[other]), "%", "top1_agreement", **recipe
                    )
                    if other != name
                    else Score("top1_agreement", 100.0)
                    for other in ORDERS
                },
                "hyperfitted",
            )
            for name in ORDERS
        ]
        pairs = [(a, b) for i, a in enumerate(ORDERS) for b in list(ORDERS)[i + 1 :]]
        between = [agreement(top1[a], top1[b]).mean() for a, b in pairs]
        Section(
            "figure5_left", "The same samples in another order", "Section 6.1, Figure 5 left",
            [
                f"Models trained on the same samples in another order choose another most probable token at "
                f"{100 - max(between):.0f} to {100 - min(between):.0f}% of the places (paper: about 30%)."
            ],
            [
                Table(
                    {f"agreement_{name}": name for name in ORDERS}, rows, "Same most probable token along the original "
                    "texts, %. Shuffle-1 swaps two samples, Shuffle-All reorders all; the seed is the same.",
                    "figure5_left",
                )
            ],
        ).write(context.folder)  # fmt: skip

    return Step("figure5_left", make, {}, tuple(steps.values()))


def figure5_right(plan: Plan) -> Step:
    """TTR against the number of training samples, the number of updates being the same."""
    setting = plan.setting
    if not setting.quantities:
        return Step("figure5_right", _no_quantities)
    largest = max(setting.quantities)
    own_samples, own_updates = setting.training_length()
    # The paper's 5000 are its 2000 samples in 20 epochs; so is any setting's largest number in its own epochs.
    updates = own_updates * largest // own_samples
    steps = {}
    for number in setting.quantities:
        if (number, updates) == (own_samples, own_updates):
            steps[number] = plan.metrics["hyperfitted"]  # the same run; the first 96 tokens do not depend on the rest
            continue
        model = hyperfitted(
            setting, f"quantity-{number}", num_train_samples=number, max_steps=updates, seed=setting.seeds[0]
        )
        steps[number] = metrics_step(continuation_step(model, f"quantity-{number}", Decoding(SHORT)), model)

    def make(context: StepContext) -> None:
        entries = {n: read_metrics(context, step).generated["all"]["ttr_at_128"] for n, step in steps.items()}
        base = read_metrics(context, plan.metrics["base"]).generated["all"]["ttr_at_128"]
        with drawing.figure(context.folder / "figure5_right.png") as axes:
            numbers = sorted(entries)
            middle = np.array([entries[n].value for n in numbers])
            around = np.abs(np.array([entries[n].ends for n in numbers]).T - middle)
            axes.errorbar(numbers, middle, around, **drawing.style("hyperfitted"), capsize=2, label="hyperfitted")
            axes.axhline(base.value, **drawing.style("base") | {"marker": ""}, label="base")
            axes.set_xscale("log", base=2)
            axes.set_xticks(numbers, [str(n) for n in numbers])
            drawing.label_axes(
                axes, "training samples", "TTR of the first 96 tokens, %", drawing.PERCENT, loc="lower right"
            )
        write_values(context.folder / "figure5_right.json", {str(n): score.to_json() for n, score in entries.items()})
        fewest, most = min(entries), max(entries)
        rows = [Row(f"{n} samples", {"ttr_at_128": entries[n]}, "hyperfitted") for n in sorted(entries)]
        Section(
            "figure5_right", "Fewer samples", "Section 6.3, Figure 5 right",
            [
                f"{updates} updates each (paper: 5000). TTR of the first 96 tokens is {entries[most].value:.1f} with "
                f"{most} samples and {entries[fewest].value:.1f} with {fewest}; base model {base.value:.1f}. "
                "The paper's TinyLlama stays above 50 until there are only 8 samples."
            ],
            [
                Table(
                    {"ttr_at_128": "TTR at 128"}, [*rows, Row("base", {"ttr_at_128": base}, "base")],
                    paper="figure5_right",
                )
            ],
            [Figure("figure5_right.png", "Mean and 95% interval over the texts.")],
        ).write(context.folder)  # fmt: skip

    inputs = {"quantities": list(setting.quantities), "updates": updates}
    return Step("figure5_right", make, inputs, (*steps.values(), plan.metrics["base"]))


def _no_quantities(context: StepContext) -> None:
    raise Skipped("the setting names no numbers of training samples")


def agreement(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Percent of the positions with the same most probable token, for each text, shape (texts,)."""
    return 100 * (first == second).mean(axis=1)
