"""Figure 3: how long the runs are that are copied from the training set (paper, Section 4.2)."""

import numpy as np

from ... import metrics
from ...checkpoint_files import BLOCKS_FILE
from ...generation import Decoding
from ...records import LONG, SHORT
from ...scores.training_set import read_training_set
from .. import drawing
from ..cells import share_score, write_values
from ..models import continuation_step, read_continuations
from ..paper import paper_tables
from ..plan import GREEDY, LABELS, Plan
from ..section import Figure, Row, Section, Table
from ..steps import Step, StepContext

LONG_OVERLAP = 10
"""Tokens; the paper gives the share of texts with a longer overlap."""


def figure3(plan: Plan) -> Step:
    """Distribution of the longest overlap over further texts; over the evaluation texts where there are no others."""
    further = plan.setting.further or plan.setting.texts
    continuations = {name: plan.continuations[name] for name in GREEDY}
    if plan.setting.further:
        continuations = {
            "base": continuation_step(plan.base, "further-base", Decoding(), texts=further),
            "hyperfitted": continuation_step(plan.hyperfitted, "further-hyperfitted", Decoding(), texts=further),
            "blocked": continuation_step(plan.hyperfitted, "further-blocked", Decoding(), blocked=True, texts=further),
        }

    def make(context: StepContext) -> None:
        training = read_training_set(plan.hyperfitted.checkpoint(context) / BLOCKS_FILE)
        generated = {
            name: [record.generated_ids for record in read_continuations(context, step)[1]]
            for name, step in continuations.items()
        }
        longest = {
            length: {
                name: metrics.longest_overlap([row[:length] for row in rows], training.rows)
                for name, rows in generated.items()
            }
            for length in (LONG, SHORT)
        }
        _draw_overlaps(context, longest[LONG])
        write_values(context.folder / "overlaps.json", {name: found.tolist() for name, found in longest[LONG].items()})
        recipe = {
            "texts": further.fingerprint, "N": len(further.passages), "more_than": LONG_OVERLAP,
            "data": training.fingerprint,
        }  # fmt: skip
        columns = {"share_above_10_tokens": LONG, "share_above_10_tokens_at_128": SHORT}
        rows = [
            Row(
                LABELS[name],
                {
                    column: share_score(longest[length][name] > LONG_OVERLAP, "overlap_rate", len=length, **recipe)
                    for column, length in columns.items()
                },
                name,
            )
            for name in continuations
        ]
        texts = f"{len(further.passages)} {'further' if plan.setting.further else 'evaluation'} texts"
        Section(
            "figure3", "How long the copied runs are", "Section 4.2, Figure 3", [_shares(rows, texts)],
            [Table({c: f"above 10 tokens within {n}, %" for c, n in columns.items()}, rows, paper="figure3")],
            [Figure("figure3.png", "Longest run of tokens shared with the training set, 224 tokens of each text.")],
        ).write(context.folder)  # fmt: skip

    needs = (*continuations.values(), *plan.hyperfitted.needs)
    return Step("figure3", make, {"texts": further.fingerprint}, needs)


def _shares(rows: list[Row], texts: str) -> str:
    share = {row.group: row.cells["share_above_10_tokens"].value for row in rows}
    bound = paper_tables()["figure3"].rows[0].values["share_above_10_tokens"]
    return (
        f"Of the continuations of {texts}, {share['hyperfitted']:.0f}% copy more than {LONG_OVERLAP} tokens in a row "
        f"after hyperfitting (paper: {bound}% of 1000), {share['blocked']:.0f}% with citation blocking, "
        f"{share['base']:.0f}% before."
    )


def _draw_overlaps(context: StepContext, longest: dict[str, np.ndarray]) -> None:
    top = max(int(values.max()) for values in longest.values())
    with drawing.figure(context.folder / "figure3.png") as axes:
        for name, values in longest.items():
            share = [100 * (values >= length).mean() for length in range(1, top + 2)]
            axes.plot(range(1, top + 2), share, **drawing.style(name) | {"marker": ""}, label=LABELS[name])
        axes.axvline(LONG_OVERLAP, color="0.6", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xticks(ticks := [1, 2, 5, 10, 20, 50, 100, 200], [str(tick) for tick in ticks])
        axes.minorticks_off()
        limits = {"bottom": 0, "top": 102}
        drawing.label_axes(axes, "tokens copied in a row, at least", "share of texts, %", limits, **drawing.ABOVE)
