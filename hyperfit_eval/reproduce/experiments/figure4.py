"""Figure 4: the three most probable tokens along a text (paper, Section 5)."""

from typing import Any

from ...errors import HyperfitError
from ...tokenizers import bos_ids
from ..plan import Plan
from ..section import Section
from ..steps import Step, StepContext

SHOWN_TOKENS, PASSAGE_TOKENS = 6, 256


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

    def make(context: StepContext) -> None:
        examples = []
        for model in (plan.base, plan.hyperfitted):
            loaded, tokenizer = model.load(context)
            ids = model.token_rows(tokenizer)[passage]
            top = _top_tokens(loaded, bos_ids(tokenizer) + ids[: start + SHOWN_TOKENS])[-SHOWN_TOKENS:]
            examples.append(
                {
                    "kind": "top-3",
                    "label": model.name,
                    "tokens": [tokenizer.decode([ids[start + i]]) for i in range(SHOWN_TOKENS)],
                    "predictions": [
                        [{"token": tokenizer.decode([token]), "percent": round(mass, 1)} for token, mass in candidates]
                        for candidates in top
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
        ).write(context.folder)  # fmt: skip

    inputs = {
        "model": plan.setting.model_fingerprint, "texts": plan.setting.texts.fingerprint,
        "passage": passage, "start": start,
    }  # fmt: skip
    return Step("figure4", make, inputs, plan.hyperfitted.needs, 2.0)


def _top_tokens(model: Any, ids: list[int]) -> list[list[tuple[int, float]]]:
    """The three most probable tokens after each token of `ids` but the last, with their probability in percent."""
    import torch

    with torch.inference_mode():
        logits = model(torch.tensor([ids], device=model.device)).logits[0, :-1].float()
    top = torch.softmax(logits, dim=-1).topk(3, dim=-1)
    return [
        list(zip(row.tolist(), (100 * mass.double().numpy()).tolist(), strict=True))
        for row, mass in zip(top.indices.cpu(), top.values.cpu(), strict=True)
    ]
