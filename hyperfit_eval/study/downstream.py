"""Tables 7 and 8: MMLU and GLUE before and after, through lm-eval (paper, Appendix B.4)."""

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from ..files import write_text
from ..generation import score_ids
from ..metrics import signature
from ..metrics.measure import NORMAL_95
from ..tokenizers import bos_ids, plain_ids
from .models import Model
from .plan import Plan
from .scores import perplexity
from .section import Row, Section, Table
from .steps import Skipped, Step, Workplace

SHOTS = (0, 1, 3, 5)
GLUE = ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2")
"""The tasks of Table 8."""
MOST_SHOTS = 4
FILE = "results.json"
EVALUATION_SECONDS = 30.0
QUESTION_TOKENS = 256
"""Of a question scored for its perplexity; longer ones are cut."""


def table7(plan: Plan) -> Step:
    """MMLU at 0, 1, 3 and 5 shots, and the perplexity of the zero-shot questions."""
    steps = {(model.name, shots): _mmlu(model, shots) for model in (plan.base, plan.hyperfitted) for shots in SHOTS}

    def make(place: Workplace) -> None:
        rows = []
        for model in ("base", "hyperfitted"):
            results = {shots: _read(place, steps[model, shots]) for shots in SHOTS}
            losses = np.array(results[0]["question_losses"])
            recipe = {"task": "mmlu", "limit": plan.setting.limit}
            cells = {"question_perplexity": perplexity(losses, "question_perplexity", N=len(losses), **recipe)}
            for shots in SHOTS:
                sign = signature("acc", shots=shots, n=results[shots]["questions"], **recipe)
                cells[f"mmlu_{shots}_shot"] = _normal(results[shots]["acc"], results[shots]["stderr"], sign)
            rows.append(Row(model, cells, model))
        Section(
            "table7", "MMLU", "Appendix B.4.1, Table 7",
            [*_change(rows, "mmlu_5_shot", "5 shots"), _small(rows[0].cells["mmlu_0_shot"])],
            [
                Table(
                    {"question_perplexity": "question perplexity", **{f"mmlu_{k}_shot": f"{k} shots" for k in SHOTS}},
                    rows, _of(plan), "table7",
                )
            ],
        ).write(place.folder)  # fmt: skip

    return Step("table7", make, {}, tuple(steps.values()))


def table8(plan: Plan) -> Step:
    """GLUE without examples and with as many as fit, up to four."""
    steps = {(model.name, few): _glue(model, few) for model in (plan.base, plan.hyperfitted) for few in (False, True)}

    def make(place: Workplace) -> None:
        rows, columns, shots = [], {}, {}
        for (model, few), step in steps.items():
            cells = {}
            for task, result in _read(place, step).items():
                for metric, (value, stderr) in result["metrics"].items():
                    name = f"{task}_{metric}"
                    columns[name] = f"{task} {metric}"
                    sign = signature(metric, task=task, n=result["n"], limit=plan.setting.limit)
                    cells[name] = _normal(value, stderr, sign, scale=1)
                if few:
                    shots[task] = result["shots"]
            group = f"{model} {'FS' if few else '0S'}"
            rows.append(Row(f"{model}, {'few-shot' if few else 'zero-shot'}", cells, group))
        Section(
            "table8", "GLUE", "Appendix B.4.2, Table 8",
            ["Examples of the few-shot prompts: " + ", ".join(f"{task} {k}" for task, k in shots.items()) + "."],
            [Table(columns, rows, _of(plan), "table8", dict.fromkeys(columns, 3))],
        ).write(place.folder)  # fmt: skip

    return Step("table8", make, {}, tuple(steps.values()))


def _mmlu(model: Model, shots: int) -> Step:
    limit = model.setting.limit

    def make(place: Workplace) -> None:
        results = _evaluate(place, model, ["mmlu"], shots)
        whole = results["groups"]["mmlu"]
        samples = [sample for rows in results["samples"].values() for sample in rows]
        body = {"acc": whole["acc,none"], "stderr": whole["acc_stderr,none"], "questions": len(samples)}
        if shots == 0:
            questions = [sample["arguments"][0][0] for sample in samples]
            body["question_losses"] = _question_losses(place, model, questions)
        write_text(place.folder / FILE, json.dumps(body) + "\n")

    inputs = {"model": model.setting.model_fingerprint, "limit": limit, "shots": shots}
    return Step(f"lm-eval/mmlu-{shots}-{model.name}", make, inputs, model.needs, EVALUATION_SECONDS * (1 + shots))


def _glue(model: Model, few: bool) -> Step:
    limit = model.setting.limit

    def make(place: Workplace) -> None:
        body = {}
        for task in GLUE:
            shots = _most_shots(place, model, task) if few else 0
            results = _evaluate(place, model, [task], shots)
            values = results["results"][task]
            metrics = {key.removesuffix(",none") for key in values if key.endswith(",none")}
            body[task] = {
                "shots": shots,
                "n": len(results["samples"][task]),
                "metrics": {m: (values[f"{m},none"], values[f"{m}_stderr,none"]) for m in metrics if "stderr" not in m},
            }
        write_text(place.folder / FILE, json.dumps(body) + "\n")

    inputs = {"model": model.setting.model_fingerprint, "limit": limit, "few": few}
    name = f"lm-eval/glue-{'few' if few else '0'}-{model.name}"
    return Step(name, make, inputs, model.needs, EVALUATION_SECONDS * (2 if few else 1))


def _evaluate(place: Workplace, model: Model, names: list[str], shots: int) -> dict[str, Any]:
    """lm-eval's results, with our standard errors of F1 and MCC."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    from ..harness.suite import replace_stderr

    loaded, tokenizer = model.load(place)
    results = simple_evaluate(
        model=HFLM(pretrained=loaded, tokenizer=tokenizer, batch_size=model.setting.batch_size),
        tasks=_tasks(names),
        num_fewshot=shots,
        limit=model.setting.limit,
        bootstrap_iters=2,
        log_samples=True,
    )
    replace_stderr(results)
    return results


def _tasks(names: list[str]) -> list[Any]:
    """Tasks of lm-eval; GLUE's draw their examples in the proportions of the labels.

    Raises:
        Skipped: the data cannot be loaded.
    """
    from lm_eval.tasks import TaskManager

    try:
        loaded = TaskManager().load(names)
    except Exception as error:  # whatever `datasets` meets on the way to the Hub
        reason = str(error).strip().partition("\n")[0]
        raise Skipped(f"{', '.join(names)} cannot be loaded here ({type(error).__name__}: {reason})") from error
    for name, task in loaded["tasks"].items():
        if name in GLUE:
            task.sampler = _sampler(list(task.fewshot_docs()))
    return list(loaded["groups"].values()) or list(loaded["tasks"].values())


def _sampler(docs: list[dict[str, Any]]) -> Any:
    from lm_eval.api.samplers import ContextSampler

    class Stratified(ContextSampler):
        def sample(self, n: int, eval_doc: Any = None, df: Any = None, **kwargs: Any) -> Sequence[dict[str, Any]]:
            return stratified(self.df, n, self.rnd, eval_doc)

    return Stratified(docs)


def stratified(docs: Sequence[dict[str, Any]], n: int, random: Random, but: Any = None) -> list[dict[str, Any]]:
    """Draw examples whose labels are distributed as in all of them, as nearly as n allows (paper, B.4.2).

    Each label gets the whole part of its share; the places left are drawn with the remainders as weights, so
    that over many prompts the proportions are those of the data.

    Args:
        docs: with the key `label`.
        but: the question itself, which is never drawn.
    """
    by_label: dict[Any, list[dict[str, Any]]] = {}
    for doc in docs:
        by_label.setdefault(doc["label"], []).append(doc)
    shares = {label: n * len(rows) / len(docs) for label, rows in by_label.items()}
    counts = {label: int(share) for label, share in shares.items()}
    remainders = {label: share - counts[label] for label, share in shares.items()}
    while sum(counts.values()) < n:
        label = random.choices(list(remainders), [weight + 1e-12 for weight in remainders.values()])[0]
        counts[label] += 1
        remainders[label] = 0.0
    drawn = []
    for label, count in counts.items():
        rows = [doc for doc in random.sample(by_label[label], min(count + 1, len(by_label[label]))) if doc != but]
        drawn += rows[:count]
    random.shuffle(drawn)
    return drawn


def _most_shots(place: Workplace, model: Model, task_name: str) -> int:
    """How many examples fit before every question, 1 to 4: four of the longest that could be drawn count."""
    loaded, tokenizer = model.load(place)
    room = getattr(loaded.config.get_text_config(), "max_position_embeddings", 2048)
    task = _tasks([task_name])[0]
    questions = [task.doc_to_text(doc) for doc in task.eval_docs]
    longest = max(len(plain_ids(tokenizer, text)) for text in sorted(questions, key=len)[-20:])
    examples = sorted((task.doc_to_text(doc) for doc in task.fewshot_docs()), key=len)
    typical = len(plain_ids(tokenizer, examples[int(0.99 * (len(examples) - 1))])) + 4
    return int(np.clip((room - longest - 4) // typical, 1, MOST_SHOTS))


def _question_losses(place: Workplace, model: Model, questions: list[str]) -> list[float]:
    """Mean loss of each question's tokens, nats; each question once."""
    loaded, tokenizer = model.load(place)
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


def _read(place: Workplace, step: Step) -> dict[str, Any]:
    return json.loads((Path(place.of(step)) / FILE).read_text())


def _normal(value: float, stderr: Any, sign: str, scale: int = 100) -> dict[str, Any]:
    if not isinstance(stderr, int | float):
        return {"value": scale * value, "signature": sign}
    half = NORMAL_95 * stderr
    ends = {"mean": value, "low": value - half, "high": value + half}
    return {name: scale * number for name, number in ends.items()} | {"method": "normal|conf:0.95", "signature": sign}


def _change(rows: list[Row], column: str, label: str) -> list[str]:
    before, after = (row.cells[column]["mean"] for row in rows)
    return [f"Accuracy with {label}: {before:.1f} -> {after:.1f}%."]


def _small(entry: dict[str, Any]) -> str:
    if entry["low"] <= 25 <= entry["high"]:
        return "The base model cannot be told from guessing (25%): a drop could not be seen."
    return f"Guessing gives 25%; the base model has {entry['mean']:.1f}%."


def _of(plan: Plan) -> str:
    return "All questions." if plan.setting.limit is None else f"The first {plan.setting.limit} questions of each task."
