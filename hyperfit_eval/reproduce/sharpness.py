"""Table 3 and Figure 4: what the models predict along the original texts (paper, Section 5)."""

from typing import Any

import numpy as np

from ..errors import HyperfitError
from ..generation import cut_passages
from ..tokenizers import bos_ids
from .plan import Plan
from .scores import distribution_entries
from .section import Row, Section, Table
from .steps import Step, Workplace

COLUMNS = {
    "perplexity": "perplexity",
    "entropy_bits": "entropy, bits",
    "top_1_mass": "top-1 mass, %",
    "top_3_mass": "top-3 mass, %",
    "top_5_mass": "top-5 mass, %",
}
SHOWN_TOKENS, PASSAGE_TOKENS = 6, 256


def table3(plan: Plan) -> Step:
    """Perplexity, entropy and the mass of the most probable tokens."""

    def make(place: Workplace) -> None:
        rows = [
            Row(name, distribution_entries(plan.setting, place, step), name) for name, step in plan.predictions.items()
        ]
        before, after = (row.cells for row in rows)
        Section(
            "table3",
            "Sharpened predictions",
            "Section 5, Table 3",
            [
                f"Entropy {before['entropy_bits']['mean']:.2f} -> {after['entropy_bits']['mean']:.2f} bits, top-1 mass "
                f"{before['top_1_mass']['mean']:.1f} -> {after['top_1_mass']['mean']:.1f}%, while the perplexity of "
                f"the same texts goes from {before['perplexity']['mean']:.0f} to {after['perplexity']['mean']:.0f}."
            ],
            [Table(COLUMNS, rows, paper="table3", digits={"entropy_bits": 2})],
        ).write(place.folder)

    return Step("table3", make, {}, tuple(plan.predictions.values()))


def figure4(plan: Plan) -> Step:
    """The three most probable tokens of both models along some tokens of one text.

    Raises:
        HyperfitError: there is no such text, or it ends before.
    """
    passage, start = plan.setting.passage
    last = PASSAGE_TOKENS - SHOWN_TOKENS
    if passage >= len(plan.setting.texts.passages) or start > last:
        raise HyperfitError(
            f"--passage {passage}:{start}: expected a text from 0 to {len(plan.setting.texts.passages) - 1} and "
            f"a token from 1 to {last}"
        )

    def make(place: Workplace) -> None:
        examples = []
        for model in (plan.base, plan.hyperfitted):
            loaded, tokenizer = model.load(place)
            context, original = cut_passages(tokenizer, [plan.setting.texts.passages[passage]])[0]
            ids = context + original
            top = _top_tokens(loaded, bos_ids(tokenizer) + ids[: start + SHOWN_TOKENS])
            shown = range(len(top) - SHOWN_TOKENS, len(top))
            examples.append(
                {
                    "kind": "top-3",
                    "label": model.name,
                    "tokens": [tokenizer.decode([ids[start + i]]) for i in range(SHOWN_TOKENS)],
                    "predictions": [
                        [{"token": tokenizer.decode([token]), "percent": round(mass, 1)} for token, mass in top[place_]]
                        for place_ in shown
                    ],
                }
            )
        Section(
            "figure4",
            "The three most probable tokens along a text",
            "Section 5, Figure 4",
            [f"Text '{plan.setting.texts.passages[passage].id}', from its token {start} on: above what is written, "
             "below what each model expected there."],
            examples=examples,
        ).write(place.folder)  # fmt: skip

    inputs = {
        "model": plan.setting.model_fingerprint, "texts": plan.setting.texts.fingerprint,
        "passage": passage, "start": start,
    }  # fmt: skip
    return Step("figure4", make, inputs, (*plan.hyperfitted.needs,), 2.0)


def _top_tokens(model: Any, ids: list[int]) -> list[list[tuple[int, float]]]:
    """For each place of `ids` after the first the three most probable tokens with their percent."""
    import torch

    with torch.inference_mode():
        logits = model(torch.tensor([ids], device=model.device)).logits[0, :-1].float()
    top = torch.softmax(logits, dim=-1).topk(3, dim=-1)
    return [
        list(zip(row.tolist(), (100 * mass.double().numpy()).tolist(), strict=True))
        for row, mass in zip(top.indices.cpu(), top.values.cpu(), strict=True)
    ]


def agreement(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Share of places with the same most probable token, for each text, percent, shape (texts,)."""
    return 100 * (first == second).mean(axis=1)
