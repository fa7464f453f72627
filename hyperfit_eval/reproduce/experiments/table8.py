"""Table 8: GLUE, zero-shot and few-shot (paper, Appendix B.4.2)."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from random import Random
from typing import Any

import numpy as np

from ...files import write_text
from ...scores.score import difference
from ...scores.signature import harness_signature
from ...tokenizers import plain_ids
from ..lm_evaluation import (
    EVALUATION_SECONDS,
    FILE,
    cut_prompts,
    evaluate,
    limit_of,
    questions_of,
    read,
    recipe_of,
    room,
    score_of,
    task_of,
)
from ..models import Model
from ..plan import Plan
from ..section import Row, Section, Table
from ..steps import Step, StepContext

GLUE = ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2")
"""The tasks of Table 8."""
MOST_SHOTS = 4

Doc = dict[str, object]
"""A question of a task with its answer, by the names of the data set's columns."""


def table8(plan: Plan) -> Step:
    """GLUE without examples and with as many as fit, up to four."""
    models = (plan.base, plan.hyperfitted)
    steps = {(model.name, few): glue_step(model, few) for model in models for few in (False, True)}

    def make(context: StepContext) -> None:
        rows, columns, shots, cut = [], {}, {}, {}
        for (model, few), step in steps.items():
            cells = {}
            found = read(context, step)
            for task, result in found["tasks"].items():
                sized = {"num_fewshot": result["shots"], "N": result["n"], "limit": limit_of(plan.setting, task)}
                for metric, (value, stderr) in result["metrics"].items():
                    name = f"{task}_{metric}"
                    columns[name] = f"{task} {metric}"
                    sign = harness_signature(metric, task, **sized, **found["recipe"])
                    cells[name] = score_of(metric, value, stderr, sign, scale=1)
                if few:
                    shots[task] = result["shots"]
                if result["cut"]:
                    way = "few-shot" if few else "zero-shot"
                    cut[f"{task} {way}"] = f"{result['cut']} of {result['n']}"
            group = f"{model} {'FS' if few else '0S'}"
            rows.append(Row(f"{model}, {'few-shot' if few else 'zero-shot'}", cells, group))
        Section(
            "table8", "GLUE", "Appendix B.4.2, Table 8",
            [
                _clear_changes(rows, columns),
                "Examples in the few-shot prompts: " + ", ".join(f"{task} {k}" for task, k in shots.items()) + ".",
                "Prompts too long for the model, which lose their beginning: "
                + (", ".join(f"{what} {count}" for what, count in cut.items()) or "none")
                + ".",
            ],
            [Table(columns, rows, questions_of(plan), "table8", dict.fromkeys(columns, 3))],
        ).write(context.folder)  # fmt: skip

    return Step("table8", make, {}, tuple(steps.values()))


def glue_step(model: Model, few: bool) -> Step:
    """The step that answers GLUE's questions."""
    limit = limit_of(model.setting, "glue")

    def make(context: StepContext) -> None:
        body = {}
        for task in GLUE:
            # The paper's examples are in the proportions of the labels.
            task_of(task).sampler = stratified_sampler(_examples(task))
            shots = _most_shots(context, model, task) if few else 0
            results = evaluate(context, model, task, shots)
            values = results["results"][task]
            metrics = sorted(key.removesuffix(",none") for key in values if key.endswith(",none"))
            body[task] = {
                "shots": shots,
                "n": len(results["samples"][task]),
                "cut": cut_prompts(model, context, results["samples"][task]),
                "metrics": {m: (values[f"{m},none"], values[f"{m}_stderr,none"]) for m in metrics if "stderr" not in m},
            }
        write_text(context.folder / FILE, json.dumps({"recipe": recipe_of(model, context), "tasks": body}) + "\n")

    inputs = {"model": model.setting.model_fingerprint, "limit": limit, "few": few}
    name = f"lm-eval/glue-{'few' if few else '0'}-{model.name}"
    return Step(name, make, inputs, model.needs, EVALUATION_SECONDS * (2 if few else 1))


def _most_shots(context: StepContext, model: Model, task: str) -> int:
    """How many examples fit before the longest question, 1 to 4; examples count with their 99th percentile."""
    loaded, tokenizer = model.load(context)
    questions, example = _longest(task)
    longest = max(len(plain_ids(tokenizer, text)) for text in questions)
    typical = len(plain_ids(tokenizer, example)) + 4
    return int(np.clip((room(loaded) - longest - 4) // typical, 1, MOST_SHOTS))


@cache
def _examples(task: str) -> list[Doc]:
    return list(task_of(task).fewshot_docs())


@cache  # for every model
def _longest(task: str) -> tuple[list[str], str]:
    """Texts of the 20 longest questions, and of the example at the 99th percentile of the lengths."""
    loaded = task_of(task)

    def length(doc: Doc) -> int:
        return sum(len(value) for value in doc.values() if isinstance(value, str))

    questions = sorted(loaded.eval_docs, key=length)[-20:]
    examples = sorted(_examples(task), key=length)
    # lm-eval compiles its template anew for each text, so that only these are written out.
    return [loaded.doc_to_text(doc) for doc in questions], loaded.doc_to_text(examples[int(0.99 * (len(examples) - 1))])


def stratified_sampler(docs: Sequence[Doc]) -> Any:
    """A sampler of lm-eval that draws by `stratified`, with lm-eval's own seed."""
    from lm_eval.api.samplers import ContextSampler

    strata = by_label(docs)

    class Stratified(ContextSampler):
        """Examples in the proportions of the labels."""

        def sample(self, n: int, eval_doc: Any = None, df: Any = None, **kwargs: Any) -> Sequence[Doc]:
            return stratified(strata, n, self.rnd, eval_doc)

    return Stratified(docs)


def by_label(docs: Sequence[Doc]) -> dict[Any, list[Doc]]:
    """The examples of each label, in their order."""
    strata: dict[Any, list[Doc]] = {}
    for doc in docs:
        strata.setdefault(doc["label"], []).append(doc)
    return strata


def stratified(strata: Mapping[Any, Sequence[Doc]], n: int, random: Random, but: Any = None) -> list[Doc]:
    """Draw examples whose labels are distributed as in all of them, as nearly as n allows (paper, B.4.2).

    Each label gets the whole part of its share; the places left are drawn with the remainders as weights, so
    that over many prompts the proportions are those of the data.

    Args:
        strata: the examples of each label.
        but: the question itself, which is never drawn.
    """
    total = sum(map(len, strata.values()))
    shares = {label: n * len(rows) / total for label, rows in strata.items()}
    counts = {label: int(share) for label, share in shares.items()}
    remainders = {label: share - counts[label] for label, share in shares.items()}
    while sum(counts.values()) < n:
        label = random.choices(list(remainders), [weight + 1e-12 for weight in remainders.values()])[0]
        counts[label] += 1
        remainders[label] = 0.0
    drawn: list[Doc] = []
    for label, count in counts.items():
        some = random.sample(strata[label], min(count + 1, len(strata[label])))
        drawn += [doc for doc in some if doc != but][:count]
    random.shuffle(drawn)
    return drawn


def _clear_changes(rows: list[Row], columns: dict[str, str]) -> str:
    """How many metrics changed: the interval of the difference leaves out 0; zero-shot and few-shot together."""
    moved, count = [], 0
    by_label = {row.group: row for row in rows}
    for way, name in (("0S", "zero-shot"), ("FS", "few-shot")):
        before, after = (by_label[f"{model} {way}"].cells for model in ("base", "hyperfitted"))
        for column, title in columns.items():
            first, last = before.get(column), after.get(column)
            if first and last and first.has_interval and last.has_interval:
                count += 1
                if difference(last, first).side:
                    moved.append(f"{title} {name} {first.value:.3f} -> {last.value:.3f}")
    return (
        f"{len(moved)} of {count} numbers changed by more than chance (95%, each for itself)"
        f"{': ' if moved else ''}{'; '.join(moved)}."
    )
