"""Decoding sweep: variety against copying, for base and hyperfitted model, over the usual ways to decode."""

from collections.abc import Mapping

from ...generation import Decoding
from .. import drawing
from ..cells import metrics_step, read_metrics
from ..models import continuation_step
from ..plan import Plan
from ..section import Figure, Row, Section, Table
from ..steps import Step, StepContext

COLUMNS = {
    "ttr_at_256": "TTR at 256",
    "rep_4_at_256": "rep-4 at 256",
    "self_bleu": "Self-BLEU",
    "dataset_overlap": "overlap, tokens",
}


def decodings(seed: int) -> Mapping[str, Decoding]:
    """The decodings compared; all of exactly 224 tokens."""
    return {
        "temperature 0.7": Decoding(do_sample=True, temperature=0.7, seed=seed),
        "temperature 1": Decoding(do_sample=True, seed=seed),
        "top-p 0.9": Decoding(do_sample=True, top_p=0.9, seed=seed),
        "top-k 50": Decoding(do_sample=True, top_k=50, seed=seed),
        "min-p 0.1": Decoding(do_sample=True, min_p=0.1, seed=seed),
        "beam search, 4": Decoding(num_beams=4),
        "repetition penalty 1.2": Decoding(repetition_penalty=1.2),
    }


def decoding(plan: Plan) -> Step:
    """Each decoding of both models, beside greedy."""
    seed = plan.setting.seeds[0]
    steps: dict[tuple[str, str], Step] = {}
    for model in (plan.base, plan.hyperfitted):
        steps[model.name, "greedy"] = plan.metrics[model.name]
        for name, way in decodings(seed).items():
            continued = continuation_step(model, f"{model.name}-{name.replace(', ', ' ').replace(' ', '-')}", way)
            steps[model.name, name] = metrics_step(continued, plan.hyperfitted)

    def make(context: StepContext) -> None:
        tables = {key: read_metrics(context, step).generated["all"] for key, step in steps.items()}
        rows = [
            Row(f"{model}, {name}", {column: table[column] for column in COLUMNS}, model)
            for (model, name), table in tables.items()
        ]
        original = read_metrics(context, plan.metrics["base"]).original["all"]["ttr_at_256"].value
        with drawing.figure(context.folder / "decoding.png", 7.0, 5.0) as axes:
            axes.axvline(original, **drawing.style("original texts") | {"marker": ""})
            named: list[tuple[float, float, str]] = []
            for model in ("base", "hyperfitted"):
                points = {name: table for (of, name), table in tables.items() if of == model}
                x = [table["ttr_at_256"].value for table in points.values()]
                y = [table["dataset_overlap"].value for table in points.values()]
                axes.plot(x, y, **drawing.style(model) | {"linestyle": ""}, label=model)
                named += zip(x, y, points, strict=True)
            axes.set_yscale("log")
            axes.set_yticks(ticks := [2, 5, 10, 20, 50, 100, 200], [str(tick) for tick in ticks])
            axes.minorticks_off()
            limits = {"bottom": 2, "top": 300}
            axes.set_xlim(0, 105)
            drawing.label_axes(axes, "TTR at 256, %", "longest run copied, tokens (mean)", limits, loc="upper left")
            drawing.name_points(axes, named)
        best = max((table["ttr_at_256"].value, name) for (model, name), table in tables.items() if model == "base")
        greedy = tables["hyperfitted", "greedy"]["ttr_at_256"].value
        Section(
            "decoding", "Other ways to decode", "beyond the paper",
            [
                f"The most varied decoding of the base model is {best[1]} with a TTR of {best[0]:.1f}; hyperfitted "
                f"greedy has {greedy:.1f}, the original texts {original:.1f}. Contrastive search is not compared: "
                "transformers runs it only as code from the Hub, which is not executed here."
            ],
            [Table(COLUMNS, rows)],
            [Figure("decoding.png", "Variety and copying of every decoding; dotted: the original texts' variety.")],
        ).write(context.folder)  # fmt: skip

    return Step("decoding", make, {}, tuple(steps.values()))
