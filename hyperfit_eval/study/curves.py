"""Figure 2, the training curves, and Figure 9, type-token ratio against length (paper, Section 3, A.1)."""

import shutil

from ..training.folder import HISTORY, PLOT
from ..training.monitor import read_history
from . import drawing
from .models import CHECKPOINT
from .plan import LABELS, Plan
from .scores import scores
from .section import Figure, Section
from .steps import Step, Workplace

SHOWN = ("base", "top_p", "hyperfitted", "blocked")


def figure2(plan: Plan) -> Step:
    """Training loss, validation loss and TTR along the hyperfitting run."""
    trained = plan.hyperfitted.trained
    assert trained is not None

    def make(place: Workplace) -> None:
        run = place.of(trained) / CHECKPOINT
        rows, _ = read_history(run / HISTORY)
        shutil.copy(run / PLOT, place.folder / "figure2.png")
        first, last = rows[0], rows[-1]
        findings = []
        if first.validation_loss is not None and last.validation_loss is not None and last.train_loss is not None:
            findings.append(
                f"Training loss falls to {last.train_loss:.3f} nats a token while validation loss goes from "
                f"{first.validation_loss:.2f} to {last.validation_loss:.2f}."
            )
        if first.ttr is not None and last.ttr is not None:
            findings.append(f"TTR of 96 greedy tokens: {100 * first.ttr:.1f} -> {100 * last.ttr:.1f}%.")
        Section(
            "figure2", "Training curves", "Section 3, Figure 2", findings,
            figures=[Figure("figure2.png", "Losses on the training and on held-out blocks, and TTR, by epoch.")],
        ).write(place.folder)  # fmt: skip

    return Step("figure2", make, {}, (trained,))


def figure9(plan: Plan) -> Step:
    """TTR of the 96 most recent tokens against the length so far; the left half needs human judgements."""

    def make(place: Workplace) -> None:
        tables = {name: scores(place, plan.scores[name]) for name in SHOWN}
        series = {"original texts": tables["base"]["original"]["all"]["ttr_curve"]}
        series |= {name: table["generated"]["all"]["ttr_curve"] for name, table in tables.items()}
        with drawing.figure(place.folder / "figure9.png") as axes:
            for name, curve in series.items():
                lengths = [curve["first"] + i for i in range(len(curve["values"]))]
                look = drawing.style(name) | {"marker": ""}
                axes.plot(lengths, curve["values"], **look, label=LABELS.get(name, name))
                if "low" in curve:
                    axes.fill_between(lengths, curve["low"], curve["high"], color=look["color"], alpha=0.15, lw=0)
            axes.set_xlabel("tokens generated")
            axes.set_ylabel("TTR of the last 96 tokens, %")
            axes.set_ylim(0, 100)
            axes.grid(color="0.92")
            axes.legend(frameon=False, fontsize=8, loc="lower left")
        loss = {name: curve["values"][0] - curve["values"][-1] for name, curve in series.items()}
        Section(
            "figure9", "Variety against length", "Appendix A.1, Figure 9 right",
            [
                f"From the first 96 tokens to the last of 224, TTR falls by {loss['base']:.1f} points for the base "
                f"model and by {loss['hyperfitted']:.1f} for the hyperfitted one (original texts: "
                f"{loss['original texts']:.1f})."
            ],
            figures=[Figure("figure9.png", "Mean and 95% interval over the texts.")],
        ).write(place.folder)  # fmt: skip

    return Step("figure9", make, {}, tuple(plan.scores[name] for name in SHOWN))
