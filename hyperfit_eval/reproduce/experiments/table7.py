"""Table 7: MMLU by the number of examples in the prompt (paper, Appendix B.4.1)."""

import json
from typing import Any

import numpy as np

from ...files import write_text
from ...generation import score_ids
from ...scores.score import Score
from ...scores.signature import harness_signature
from ...tokenizers import bos_ids, plain_ids
from ..cells import perplexity
from ..lm_evaluation import EVALUATION_SECONDS, FILE, cut_prompts, evaluate, questions_of, read, recipe_of, score_of
from ..models import Model
from ..plan import Plan
from ..section import Row, Section, Table
from ..steps import Step, StepContext

SHOTS = (0, 1, 3, 5)
QUESTION_TOKENS = 256
"""Tokens of a question scored for its perplexity; longer ones are cut."""
PERPLEXITY = f"Perplexity is that of the first {QUESTION_TOKENS} tokens; questions, not tokens, have equal weight."


def table7(plan: Plan) -> Step:
    """MMLU at 0, 1, 3 and 5 shots, and the perplexity of the zero-shot questions."""
    models = {model.name: model for model in (plan.base, plan.hyperfitted, *plan.instruct)}
    steps = {(name, shots): mmlu_step(model, shots) for name, model in models.items() for shots in SHOTS}

    def make(context: StepContext) -> None:
        rows = []
        for model in models:
            results = {shots: read(context, steps[model, shots]) for shots in SHOTS}
            losses = np.array(results[0]["question_losses"])
            recipe = {"task": "mmlu", "limit": plan.setting.limit, **results[0]["recipe"]}
            cells = {
                "question_perplexity": perplexity(
                    losses, "question_perplexity", avg="questions", first=QUESTION_TOKENS, N=len(losses), **recipe
                )
            }
            for shots in SHOTS:
                sign = harness_signature("acc", num_fewshot=shots, N=results[shots]["questions"], **recipe)
                cells[f"mmlu_{shots}_shot"] = score_of("acc", results[shots]["acc"], results[shots]["stderr"], sign)
            rows.append(Row(model, cells, model))
        Section(
            "table7", "MMLU", "Appendix B.4.1, Table 7",
            [
                *_change(rows, "mmlu_5_shot", "5 shots"), *_small(rows[0].cells["mmlu_0_shot"]),
                *_cut({shots: read(context, steps["base", shots]) for shots in SHOTS}),
            ],
            [
                Table(
                    {"question_perplexity": "question perplexity", **{f"mmlu_{k}_shot": _counted(k) for k in SHOTS}},
                    rows, f"{questions_of(plan)} {PERPLEXITY}", "table7",
                )
            ],
        ).write(context.folder)  # fmt: skip

    return Step("table7", make, {}, tuple(steps.values()))


def mmlu_step(model: Model, shots: int) -> Step:
    """The step that answers MMLU's questions."""
    limit = model.setting.limit

    def make(context: StepContext) -> None:
        results = evaluate(context, model, "mmlu", shots)
        whole = results["groups"]["mmlu"]
        samples = [sample for rows in results["samples"].values() for sample in rows]
        prompts = [sample["arguments"][0][0] for sample in samples]
        body = {"acc": whole["acc,none"], "stderr": whole["acc_stderr,none"], "questions": len(samples)}
        body["recipe"] = recipe_of(model, context)
        body["cut"] = cut_prompts(model, context, samples)
        if shots == 0:
            body["question_losses"] = _question_losses(context, model, prompts)
        write_text(context.folder / FILE, json.dumps(body) + "\n")

    inputs = {"model": model.setting.model_fingerprint, "limit": limit, "shots": shots}
    return Step(f"lm-eval/mmlu-{shots}-{model.name}", make, inputs, model.needs, EVALUATION_SECONDS * (1 + shots))


def _question_losses(context: StepContext, model: Model, questions: list[str]) -> list[float]:
    """Mean loss of each question's tokens, nats; each question once."""
    loaded, tokenizer = model.load(context)
    by_length: dict[int, list[list[int]]] = {}
    for question in dict.fromkeys(questions):
        ids = plain_ids(tokenizer, question)[:QUESTION_TOKENS]
        by_length.setdefault(len(ids), []).append(ids)
    prefix = bos_ids(tokenizer)
    losses = []
    for rows in by_length.values():
        scored = score_ids(loaded, rows, prefix=prefix, batch_size=model.setting.batch_size)
        losses += [float(score.nll.mean()) for score in scored]
    return losses


def _change(rows: list[Row], column: str, label: str) -> list[str]:
    if not all(row.cells[column].has_interval for row in rows):
        return ["One question of each subject: lm-eval gives no standard error."]
    before, after = (row.cells[column].value for row in rows[:2])
    return [f"Accuracy with {label}: {before:.1f} -> {after:.1f}%."]


def _small(accuracy: Score) -> list[str]:
    if not accuracy.has_interval:
        return []
    low, high = accuracy.ends
    if low <= 25 <= high:
        return ["The base model cannot be told from guessing (25%): a drop could not be seen."]
    return [f"Guessing gives 25%; the base model has {accuracy.value:.1f}%."]


def _counted(shots: int) -> str:
    return f"{shots} shot{'' if shots == 1 else 's'}"


def _cut(results: dict[int, dict[str, Any]]) -> list[str]:
    cut = {shots: 100 * result["cut"] / result["questions"] for shots, result in results.items() if result["cut"]}
    if not cut:
        return []
    shares = ", ".join(f"{share:.0f}% at {_counted(shots)}" for shots, share in cut.items())
    return [f"Prompts too long for the model, which lose their beginning: {shares}."]
