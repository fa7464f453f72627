"""Figure 2: the training curves (paper, Section 3)."""

import shutil

from ...training.folder import HISTORY, PLOT
from ...training.monitor import read_history
from ..plan import Plan
from ..section import Figure, Section
from ..steps import Step, StepContext


def figure2(plan: Plan) -> Step:
    """Training loss, validation loss and TTR along the hyperfitting run."""

    def make(context: StepContext) -> None:
        run = plan.hyperfitted.checkpoint(context)
        rows, _ = read_history(run / HISTORY)
        shutil.copy(run / PLOT, context.folder / "figure2.png")
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
        ).write(context.folder)  # fmt: skip

    return Step("figure2", make, {}, plan.hyperfitted.needs)
