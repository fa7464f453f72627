"""Decoding sweep: variety against copying, for base and hyperfitted model, over the usual ways to decode."""

from collections.abc import Mapping

from ..generation import Decoding
from . import drawing
from .models import Model, writing
from .plan import Plan
from .scores import scores, scoring
from .section import Figure, Row, Section, Table
from .steps import Step, Workplace

COLUMNS = {
    "ttr_at_256": "TTR at 256",
    "rep_4_at_256": "rep-4 at 256",
    "self_bleu": "Self-BLEU",
    "dataset_overlap": "overlap, tokens",
}


def ways(seed: int) -> Mapping[str, Decoding]:
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
        steps[model.name, "greedy"] = plan.scores[model.name]
        for name, way in ways(seed).items():
            steps[model.name, name] = scoring(_written(model, name, way), plan.hyperfitted)

    def make(place: Workplace) -> None:
        tables = {key: scores(place, step)["generated"]["all"] for key, step in steps.items()}
        rows = [
            Row(f"{model}, {name}", {column: table[column] for column in COLUMNS}, model)
            for (model, name), table in tables.items()
        ]
        original = scores(place, plan.scores["base"])["original"]["all"]["ttr_at_256"]["mean"]
        with drawing.figure(place.folder / "decoding.png", 7.0, 5.0) as axes:
            axes.axvline(original, **drawing.style("original texts") | {"marker": ""})
            named: list[tuple[float, float, str]] = []
            for model in ("base", "hyperfitted"):
                points = {name: table for (of, name), table in tables.items() if of == model}
                x = [table["ttr_at_256"]["mean"] for table in points.values()]
                y = [table["dataset_overlap"]["mean"] for table in points.values()]
                axes.plot(x, y, **drawing.style(model) | {"linestyle": ""}, label=model)
                named += zip(x, y, points, strict=True)
            axes.set_yscale("log")
            axes.set_yticks(ticks := [2, 5, 10, 20, 50, 100, 200], [str(tick) for tick in ticks])
            axes.minorticks_off()
            axes.set_ylim(2, 300)
            axes.set_xlabel("TTR at 256, %")
            axes.set_ylabel("longest run copied, tokens (mean)")
            axes.set_xlim(0, 105)
            axes.grid(color="0.92")
            axes.legend(frameon=False, loc="upper left")
            drawing.name_points(axes, named)
        best = max((table["ttr_at_256"]["mean"], name) for (model, name), table in tables.items() if model == "base")
        greedy = tables["hyperfitted", "greedy"]["ttr_at_256"]["mean"]
        Section(
            "decoding", "Other ways to decode", "beyond the paper",
            [
                f"The most varied decoding of the base model is {best[1]} with a TTR of {best[0]:.1f}; hyperfitted "
                f"greedy has {greedy:.1f}, the original texts {original:.1f}. Contrastive search is not compared: "
                "transformers runs it only as code from the Hub, which is not executed here."
            ],
            [Table(COLUMNS, rows)],
            [Figure("decoding.png", "Variety and copying of every decoding; dotted: the original texts' variety.")],
        ).write(place.folder)  # fmt: skip

    return Step("decoding", make, {}, tuple(steps.values()))


def _written(model: Model, name: str, way: Decoding) -> Step:
    return writing(model, f"{model.name}-{name.replace(', ', ' ').replace(' ', '-')}", way)
