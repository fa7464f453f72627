"""Figure 1: continuations side by side, with what they repeat and what they copy."""

from typing import Any

from ...checkpoint_files import INDEX_FILE
from ...citation import CitationIndex
from ...records import Continuation
from ...report.marked import AROUND_TOKENS, marked_pieces, source_text
from ..models import read_continuations
from ..plan import LABELS, Plan
from ..section import Section
from ..steps import Step, StepContext

SHOWN = 6
"""Contexts, of all sources in turn."""


def figure1(plan: Plan) -> Step:
    """The first texts as base, hyperfitted and blocked model continue them."""

    def make(context: StepContext) -> None:
        tokenizer = plan.hyperfitted.load_tokenizer(context)
        index = CitationIndex.load(plan.hyperfitted.checkpoint(context) / INDEX_FILE, tokenizer)
        by_name = {name: read_continuations(context, step)[1] for name, step in plan.continuations.items()}

        def pieces(record: Continuation, ids: list[int]) -> list[dict[str, Any]]:
            marked = marked_pieces(tokenizer, record.context_ids, ids, index)
            for piece in marked:
                piece["passage"] = ""
                if piece["source"] is not None:
                    sequence, offset = piece["source"]
                    piece["passage"] = source_text(tokenizer, index, sequence, offset, piece["copied"])
            return marked

        examples = []
        for number, record in enumerate(by_name["base"][:SHOWN]):
            sides = [("original text", record.original_ids)]
            sides += [(LABELS[name], records[number].generated_ids) for name, records in by_name.items()]
            examples.append(
                {
                    "kind": "continuations",
                    "label": f"{record.id} ({record.source})",
                    "context": record.context_text,
                    "sides": [{"label": label, "pieces": pieces(record, ids)} for label, ids in sides],
                }
            )
        Section(
            "figure1", "Continuations side by side", "Section 1, Figure 1",
            [f"Chosen by nobody: the first {len(examples)} texts of the set."],
            examples=examples,
        ).write(context.folder)  # fmt: skip

    needs = (*plan.continuations.values(), *plan.hyperfitted.needs)
    return Step("figure1", make, {"shown": SHOWN, "around_tokens": AROUND_TOKENS}, needs)
