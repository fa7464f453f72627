"""Figure 9: type-token ratio against length, and by what annotators agree on (paper, Appendix A.1)."""

from dataclasses import asdict
from pathlib import Path

from ...preference.analysis import preference_consensus
from ...preference.consensus import Consensus, draw_consensus
from .. import drawing
from ..cells import read_metrics
from ..judgements import check_continuations
from ..plan import LABELS, Plan
from ..section import Figure, Section
from ..steps import Step, StepContext

SHOWN = ("base", "top_p", "hyperfitted", "blocked")


def figure9(plan: Plan, preference: Path | None = None) -> Step:
    """TTR of texts by what annotators agree on (left), and of the 96 most recent tokens against the length so far.

    Args:
        preference: results of `hyperfit preference`, for the left half.
    """
    judged = preference_consensus(preference) if preference else {}

    def make(context: StepContext) -> None:
        check_continuations(context, preference, plan.continuations)
        tables = {name: read_metrics(context, plan.metrics[name]) for name in SHOWN}
        series = {"original texts": tables["base"].curves["original"]["ttr_curve"]}
        series |= {name: table.curves["generated"]["ttr_curve"] for name, table in tables.items()}
        half = {"width": 9.5, "ncols": 2} if judged else {}
        with drawing.figure(context.folder / "figure9.png", **half) as panels:
            if judged:
                length = max(judged, key=int)
                draw_consensus(panels[0], judged[length])
                panels[0].set_title(f"what all annotators said, {length} tokens", fontsize=9)
            axes = panels[1] if judged else panels
            for name, curve in series.items():
                lengths = [curve.first + i for i in range(len(curve.values))]
                look = drawing.style(name) | {"marker": ""}
                axes.plot(lengths, curve.values, **look, label=LABELS.get(name, name))
                if curve.low is not None:
                    axes.fill_between(lengths, curve.low, curve.high, color=look["color"], alpha=0.15, lw=0)
            title = "TTR of the last 96 tokens, %"
            drawing.label_axes(axes, "tokens generated", title, drawing.PERCENT, **drawing.ABOVE)
        loss = {name: curve.values[0] - curve.values[-1] for name, curve in series.items()}
        findings = [
            f"From the first 96 tokens to the last of 224, TTR changes by {-loss['base']:+.1f} points for the base "
            f"model and by {-loss['hyperfitted']:+.1f} for the hyperfitted one (original texts: "
            f"{-loss['original texts']:+.1f})."
        ]
        caption = "Mean and 95% interval over the texts."
        if judged:
            findings += [_agreed(length, consensus) for length, consensus in judged.items()]
            caption = f"Left: texts, their mean and its 95% interval. Right: {caption[0].lower()}{caption[1:]}"
        else:
            findings.append("The left half needs people's judgements: `hyperfit pairs`, `annotate` and `preference`.")
        Section(
            "figure9", "Variety against preference and length" if judged else "Variety against length",
            "Appendix A.1, Figure 9" if judged else "Appendix A.1, Figure 9 right",
            findings, figures=[Figure("figure9.png", caption)],
        ).write(context.folder)  # fmt: skip

    needs = (*(plan.metrics[name] for name in SHOWN), *(plan.continuations.values() if judged else ()))
    inputs = {"preference": {length: asdict(consensus) for length, consensus in judged.items()}} if judged else {}
    return Step("figure9", make, inputs, needs)


def _agreed(length: str, consensus: Consensus) -> str:
    """A sentence on the groups of texts."""
    groups = [
        f"{group.score.text()} of {group.n} texts ({name}; lowest {group.lowest:.1f})"
        for name, group in consensus.groups.items()
        if group.lowest is not None
    ]
    return f"Mean TTR at {length} tokens by what all annotators said: {', '.join(groups) or 'no pair is complete'}."
