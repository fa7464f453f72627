"""lm-eval's results: the open-ended tasks, and each other task or group, as evaluations."""

import os.path
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from ..documents import Value, brief
from ..errors import HyperfitError
from ..metrics.statistics import wilson_interval
from ..scores.measure import NORMAL_95
from ..scores.score import Score
from ..scores.signature import harness_signature
from .results import METRICS, Evaluation, TaskSettings, evaluation_of, settings_of

SHARES = ("acc", "acc_norm", "acc_bytes", "acc_norm_bytes", "acc_mutual_info", "exact_match", "em")
"""Metrics that are the share of questions answered right, unless their value says that they are none."""
MAX_QUESTIONS = 10**8


def of_harness(document: Value) -> Iterator[Evaluation]:
    """The evaluations in lm-eval's results: the open-ended tasks, and each other task or group that is in no group."""
    subtasks = document.get("group_subtasks")
    members = {task.text() for _, group in (subtasks.items() if subtasks else ()) for task in group.elements()}
    groups = document.get("groups")
    results = dict(document["results"].items()) | (dict(groups.items()) if groups else {})
    for task, values in results.items():
        config = document["configs"].get(task)
        metadata = config and config.get("metadata")
        signatures = metadata and metadata.get("signatures")
        if signatures:
            yield _open_ended(values, signatures)
        elif task not in members:
            evaluation = _other_task(document, task, values)
            if evaluation.numbers or evaluation.left_out:
                yield evaluation


def harness_model(document: Value) -> str:
    """The model in lm-eval's results: a folder or a Hub id, with the adapter or the revision that was used.

    Raises:
        HyperfitError: it names none.
    """
    config = document.get("config")
    given = config and config.get("model_args")
    if given and isinstance(given.content, str):  # as older versions wrote it
        parts = [part.partition("=") for part in given.text().split(",") if "=" in part]
        given = Value({name: text for name, _, text in parts}, given.file, given.field)
    arguments = {name: value for name, value in given.items() if isinstance(value.content, str)} if given else {}
    model = arguments.get("pretrained") or arguments.get("model") or document.get("model_name")
    if model is None:
        raise HyperfitError(f"{document.file}: lm-eval's results without the name of a model")
    adapter = arguments.get("peft") or arguments.get("delta")
    revision = arguments["revision"].text() if "revision" in arguments else "main"
    name = model_identity(model.text())
    return name + (f" + {adapter.text()}" if adapter else "") + (f"@{revision}" if revision != "main" else "")


def model_identity(name: str) -> str:
    """Identity of a model: the path of a folder that is here, however it was typed; else the name, `./` left out.

    Example:
        model_identity("./my-run") == model_identity("/home/ada/my-run") == "/home/ada/my-run", in /home/ada
    """
    return folder_path(name) or (os.path.normpath(name) if name else name)


def folder_path(name: str) -> str | None:
    """The resolved path of a folder; None where no folder of this name is here."""
    try:
        path = Path(name).expanduser()
        return str(path.resolve()) if path.is_dir() else None
    except (OSError, ValueError, RuntimeError):  # too long for a path, a NUL in it, a loop of links, no such user
        return None


def _open_ended(values: Value, signatures: Value) -> Evaluation:
    settings = settings_of(signatures["ttr_at_128"].text())
    sides: dict[str, dict[str, Value]] = {"": {}, "original_": {}}
    left_out = []
    for prefix, entries in sides.items():
        for name in METRICS:
            value = values.get(f"{prefix}{name},none")
            if value is None or not value.is_number():
                continue
            if not value.is_finite():
                left_out.append(f"{prefix}{name} is {brief(value.content)}")
                continue
            short = name.removesuffix("_avg").removesuffix("_max")
            sign = signatures.get(prefix + name) or signatures.get(prefix + short)
            number = Score(name, value.number(), signature=sign.text() if sign else "")
            count = int(settings["N"]) if re.fullmatch("[0-9]{1,9}", settings.get("N", "")) else 0
            number = _with_interval(number, values.get(f"{prefix}{name}_stderr,none"), count)
            entries[name] = Value(number.to_json(), values.file, f"{values.field}.{prefix}{name}")
    return evaluation_of(settings, sides[""], sides["original_"], tuple(left_out))


def _other_task(document: Value, task: str, values: Value) -> Evaluation:
    config, sizes = document.get("config"), document.get("n-samples")
    size = sizes and sizes.get(task)
    questions = (size and size.get("effective")) or values.get("sample_len")
    dtype = config and config.optional("model_dtype", Value.text)
    settings = TaskSettings(
        task,
        num_fewshot=_shots(document, task),
        limit=config.optional("limit", Value.number) if config else None,
        N=questions.integer(high=MAX_QUESTIONS) if questions else None,
        dtype=(dtype or "").removeprefix("torch."),
        lm_eval=document.optional("lm_eval_version", Value.text),
    )
    numbers, left_out = [], []
    for key, value in values.items():
        metric, _, filtered = key.partition(",")
        if not filtered or metric.endswith("_stderr") or not value.is_number():
            continue
        # A task such as gsm8k reads its answers by several filters: each is a number of its own.
        name = metric if filtered == "none" else key
        if not value.is_finite():
            left_out.append(f"{name} of {task} is {brief(value.content)}")
            continue
        number = Score(metric, value.number(), "", harness_signature(metric, filter=filtered, **asdict(settings)))
        number = _with_interval(number, values.get(f"{metric}_stderr,{filtered}"), settings.N or 0)
        numbers.append(replace(number, metric=name))
    return Evaluation(task, {}, numbers, left_out=tuple(left_out), task=settings)


def _shots(document: Value, task: str) -> int | None:
    """Examples in the prompts of a task, or of all tasks of a group where they have the same number."""
    shots, groups = document.get("n-shot"), document.get("group_subtasks")
    found: set[int | None] = set()
    todo, seen = [task], {task}
    while todo:
        name = todo.pop()
        own, members = shots and shots.get(name), groups and groups.get(name)
        if own or not members:
            found.add(own.integer() if own else None)
            continue
        inside = {member.text() for member in members.elements()} - seen
        todo += inside
        seen |= inside
    return found.pop() if len(found) == 1 else None


def _with_interval(score: Score, stderr: Value | None, n: int) -> Score:
    """Wilson's interval for a share of `n` questions, else the normal one where it has a width."""
    percent = 100 if score.metric == "overlap_rate" else 1
    hits = score.value / percent * n
    if n and (score.metric in SHARES or percent == 100) and 0 <= hits <= n and abs(hits - round(hits)) < 1e-6 * n:
        share = wilson_interval(round(hits), n)
        low, high = (end * percent / 100 for end in (share.low, share.high))
        return replace(score, low=low, high=high, method=share.method)
    if stderr is None or not stderr.is_finite() or stderr.number() <= 0:
        return score
    half = NORMAL_95 * stderr.number()
    return replace(score, low=score.value - half, high=score.value + half, method="normal|conf:0.95")
