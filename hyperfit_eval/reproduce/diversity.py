"""Table 2, Figure 3 and Table 5: likeness among the continuations, and with the training set (paper, 4.2, B.2)."""

from typing import Any

import numpy as np

from .. import metrics
from ..generation import Decoding
from ..records import LONG, SHORT
from ..scores.training_set import read_training_set
from ..training.folder import BLOCKS
from . import drawing
from .models import CHECKPOINT, writing, written
from .paper import paper_tables, printed
from .plan import GREEDY, LABELS, Plan
from .scores import highest, scores, share_entry, write_values
from .section import Figure, Row, Section, Table
from .steps import Step, Workplace

LONG_OVERLAP = 10
"""Tokens; the paper gives the share of texts with a longer overlap."""


def table2(plan: Plan) -> Step:
    """Self-BLEU, Dataset BLEU and Dataset Overlap: mean and maximum of each text's highest value."""
    metric_names = {
        "self_bleu": "Self-BLEU",
        "dataset_bleu": "Dataset BLEU",
        "dataset_overlap": "overlap, tokens",
        "self_bleu_token": "Self-BLEU of tokens",
        "dataset_bleu_token": "Dataset BLEU of tokens",
    }

    def make(place: Workplace) -> None:
        tables = {name: scores(place, step) for name, step in plan.scores.items()}
        sides = [("original texts", "original texts", tables["base"]["original"]["all"])]
        sides += [(LABELS[name], name, table["generated"]["all"]) for name, table in tables.items()]
        rows = [Row(label, _average_and_highest(values, metric_names), group) for label, group, values in sides]
        columns = {f"{name}_{what}": f"{title} {what}" for name, title in metric_names.items() for what in _WHAT}
        Section(
            "table2",
            "Diversity, and overlap with the training set",
            "Section 4.2, Table 2",
            _findings({row.group: row.cells for row in rows}),
            [
                Table(
                    columns, rows, paper="table2", digits={f"{name}_max": 0 for name in ("dataset_overlap",)},
                    caption="BLEU of the first 96 tokens, split at white space and without smoothing, or of token ids "
                    "with exponential smoothing; the paper does not say which it used.",
                )
            ],
        ).write(place.folder)  # fmt: skip

    return Step("table2", make, {}, tuple(plan.scores.values()))


_WHAT = ("avg", "max")


def _average_and_highest(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {
        f"{name}_{what}": entry if what == "avg" else highest(entry)
        for name, entry in ((name, values.get(name, {"unavailable": "no training set"})) for name in names)
        for what in _WHAT
    }


def _findings(cells: dict[str, dict[str, Any]]) -> list[str]:
    def of(group: str, name: str) -> float:
        entry = cells[group][name]
        return entry.get("mean", entry.get("value"))

    return [
        f"Self-BLEU: base {of('base', 'self_bleu_avg'):.1f}, hyperfitted {of('hyperfitted', 'self_bleu_avg'):.1f}, "
        f"original texts {of('original texts', 'self_bleu_avg'):.1f}.",
        f"Longest run copied from the training set, on average and at most: base "
        f"{of('base', 'dataset_overlap_avg'):.1f} / {of('base', 'dataset_overlap_max'):.0f} tokens, hyperfitted "
        f"{of('hyperfitted', 'dataset_overlap_avg'):.1f} / {of('hyperfitted', 'dataset_overlap_max'):.0f}, with "
        f"citation blocking {of('blocked', 'dataset_overlap_avg'):.1f} / {of('blocked', 'dataset_overlap_max'):.0f}. "
        f"The paper's largest averages are {printed('table2', 'hyperfitted', 'dataset_overlap_avg')[-1]} and "
        f"{printed('table2', 'blocked', 'dataset_overlap_avg')[-1]}.",
    ]


def figure3(plan: Plan) -> Step:
    """Distribution of the longest overlap over further texts; over the evaluation texts where there are no others."""
    further = plan.setting.further or plan.setting.texts
    continuations = {name: plan.continuations[name] for name in GREEDY}
    if plan.setting.further:
        continuations = {
            "base": writing(plan.base, "further-base", Decoding(), texts=further),
            "hyperfitted": writing(plan.hyperfitted, "further-hyperfitted", Decoding(), texts=further),
            "blocked": writing(plan.hyperfitted, "further-blocked", Decoding(), blocked=True, texts=further),
        }

    def make(place: Workplace) -> None:
        assert plan.hyperfitted.trained is not None
        training = read_training_set(place.of(plan.hyperfitted.trained) / CHECKPOINT / BLOCKS)
        generated = {
            name: [record.generated_ids for record in written(place, step)[1]] for name, step in continuations.items()
        }
        longest = {
            length: {
                name: metrics.longest_overlap([row[:length] for row in rows], training.rows)
                for name, rows in generated.items()
            }
            for length in (LONG, SHORT)
        }
        _draw_overlaps(place, longest[LONG])
        write_values(place.folder / "overlaps.json", {name: found.tolist() for name, found in longest[LONG].items()})
        recipe = {
            "texts": further.fingerprint, "N": len(further.passages), "more_than": LONG_OVERLAP,
            "data": training.fingerprint,
        }  # fmt: skip
        columns = {"share_above_10_tokens": LONG, "share_above_10_tokens_at_128": SHORT}
        rows = [
            Row(
                LABELS[name],
                {
                    column: share_entry(longest[length][name] > LONG_OVERLAP, "overlap_rate", len=length, **recipe)
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
        ).write(place.folder)  # fmt: skip

    assert plan.hyperfitted.trained is not None
    return Step("figure3", make, {"texts": further.fingerprint}, (*continuations.values(), plan.hyperfitted.trained))


def _shares(rows: list[Row], texts: str) -> str:
    share = {row.group: row.cells["share_above_10_tokens"]["mean"] for row in rows}
    bound = paper_tables()["figure3"].rows[0].values["share_above_10_tokens"]
    return (
        f"Of the continuations of {texts}, {share['hyperfitted']:.0f}% copy more than {LONG_OVERLAP} tokens in a row "
        f"after hyperfitting (paper: {bound}% of 1000), {share['blocked']:.0f}% with citation blocking, "
        f"{share['base']:.0f}% before."
    )


def _draw_overlaps(place: Workplace, longest: dict[str, np.ndarray]) -> None:
    top = max(int(values.max()) for values in longest.values())
    with drawing.figure(place.folder / "figure3.png") as axes:
        for name, values in longest.items():
            share = [100 * (values >= length).mean() for length in range(1, top + 2)]
            axes.plot(range(1, top + 2), share, **drawing.style(name) | {"marker": ""}, label=LABELS[name])
        axes.axvline(LONG_OVERLAP, color="0.6", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xticks([1, 2, 5, 10, 20, 50, 100, 200], ["1", "2", "5", "10", "20", "50", "100", "200"])
        axes.minorticks_off()
        axes.set_xlabel("tokens copied in a row, at least")
        axes.set_ylabel("share of texts, %")
        axes.set_ylim(0, 102)
        axes.grid(color="0.92")
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), fontsize=8, ncols=2)


def table5(plan: Plan) -> Step:
    """Share of the continuations that overlap the training set by more than 5 tokens, for each source."""

    def make(place: Workplace) -> None:
        tables = {name: scores(place, plan.scores[name]) for name in GREEDY}
        sources = list(tables["base"]["sources"])
        rows = [
            Row(
                LABELS[name],
                {_column(source): table["generated"][source]["overlap_rate"] for source in sources}
                | {"overlap_rate_average": table["generated"]["all"]["overlap_rate"]},
                name,
            )
            for name, table in tables.items()
        ]
        rate = {row.group: row.cells["overlap_rate_average"]["mean"] for row in rows}
        paper = {name: printed("table5", name, "overlap_rate_average") for name in ("base", "hyperfitted")}
        after, before = (f"{paper[name][0]:.0f} to {paper[name][-1]:.0f}%" for name in ("hyperfitted", "base"))
        Section(
            "table5",
            "Where overlaps happen",
            "Appendix B.2, Table 5",
            [
                f"{rate['hyperfitted']:.0f}% of the hyperfitted continuations share more than 5 tokens in a row with "
                f"the training set, {rate['base']:.0f}% of the base model's (paper: {after} and {before})."
            ],
            [
                Table(
                    {_column(source): source for source in sources} | {"overlap_rate_average": "all"},
                    rows, "Share of texts, %.", "table5",
                )
            ],
        ).write(place.folder)  # fmt: skip

    return Step("table5", make, {}, tuple(plan.scores[name] for name in GREEDY))


def _column(source: str) -> str:
    """The paper's Wikipedia stands beside the shipped texts in the style of an encyclopedia."""
    return f"overlap_rate_{'wikipedia' if source == 'encyclopedic' else source}"
