"""Figure 2, the training curves, and Figure 9, type-token ratio against length (paper, Section 3, A.1)."""

import shutil
from pathlib import Path
from typing import Any

from ..preference.analysis import preference_consensus
from ..preference.consensus import draw_consensus
from ..training.folder import HISTORY, PLOT
from ..training.monitor import read_history
from . import drawing
from .models import CHECKPOINT
from .plan import LABELS, Plan
from .quality import check_judged
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
                f"Training loss ends at {last.train_loss:.3f} nats a token while validation loss goes from "
                f"{first.validation_loss:.2f} to {last.validation_loss:.2f}."
            )
        if first.ttr is not None and last.ttr is not None:
            findings.append(f"TTR of 96 greedy tokens: {100 * first.ttr:.1f} -> {100 * last.ttr:.1f}%.")
        Section(
            "figure2", "Training curves", "Section 3, Figure 2", findings,
            figures=[Figure("figure2.png", "Losses on the training and on held-out blocks, and TTR, by epoch.")],
        ).write(place.folder)  # fmt: skip

    return Step("figure2", make, {}, (trained,))


def figure9(plan: Plan, preference: Path | None = None) -> Step:
    """TTR of texts by what annotators agree on (left), and of the 96 most recent tokens against the length so far.

    Args:
        preference: results of `hyperfit preference`, for the left half.
    """
    judged = preference_consensus(preference) if preference else {}

    def make(place: Workplace) -> None:
        check_judged(place, preference, plan.continuations)
        tables = {name: scores(place, plan.scores[name]) for name in SHOWN}
        series = {"original texts": tables["base"]["original"]["all"]["ttr_curve"]}
        series |= {name: table["generated"]["all"]["ttr_curve"] for name, table in tables.items()}
        half = {"width": 9.5, "ncols": 2} if judged else {}
        with drawing.figure(place.folder / "figure9.png", **half) as panels:
            if judged:
                length = max(judged, key=int)
                draw_consensus(panels[0], judged[length])
                panels[0].set_title(f"what all annotators said, {length} tokens", fontsize=9)
            axes = panels[1] if judged else panels
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
            axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
        loss = {name: curve["values"][0] - curve["values"][-1] for name, curve in series.items()}
        findings = [
            f"From the first 96 tokens to the last of 224, TTR changes by {-loss['base']:+.1f} points for the base "
            f"model and by {-loss['hyperfitted']:+.1f} for the hyperfitted one (original texts: "
            f"{-loss['original texts']:+.1f})."
        ]
        caption = "Mean and 95% interval over the texts."
        if judged:
            findings += [_agreed(length, consensus["groups"]) for length, consensus in judged.items()]
            caption = f"Left: texts, their mean and its 95% interval. Right: {caption[0].lower()}{caption[1:]}"
        else:
            findings.append("The left half needs people's judgements: `hyperfit pairs`, `annotate` and `preference`.")
        Section(
            "figure9", "Variety against preference and length" if judged else "Variety against length",
            "Appendix A.1, Figure 9" if judged else "Appendix A.1, Figure 9 right",
            findings, figures=[Figure("figure9.png", caption)],
        ).write(place.folder)  # fmt: skip

    needs = (*(plan.scores[name] for name in SHOWN), *(plan.continuations.values() if judged else ()))
    return Step("figure9", make, {"preference": judged} if judged else {}, needs)


def _agreed(length: str, groups: dict[str, Any]) -> str:
    """What the groups of `preference_consensus` say, in a sentence."""
    told = [
        f"{group['mean']:.1f}"
        + (f" [{group['low']:.1f}, {group['high']:.1f}]" if group["low"] is not None else "")
        + f" of {group['n']} texts ({name}; lowest {group['lowest']:.1f})"
        for name, group in groups.items()
        if group["n"]
    ]
    return f"Mean TTR at {length} tokens by what all annotators said: {', '.join(told) or 'no pair is complete'}."
