"""MMLU and GLUE through lm-eval: what Tables 7 and 8 share (paper, Appendix B.4)."""

import json
import logging
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from ..machine import default_device, versions
from ..scores.measure import NORMAL_95
from ..scores.score import Score
from ..tokenizers import plain_ids
from .models import Model
from .plan import Plan
from .setting import StudySetting
from .steps import Skipped, Step, StepContext

GLUE_SHARE = 10
"""Times the questions of one of MMLU's 57 subjects, for a task of GLUE."""
FILE = "results.json"
EVALUATION_SECONDS = 15.0
CPU_BATCH = 8


def evaluate(context: StepContext, model: Model, name: str, shots: int) -> dict[str, Any]:
    """lm-eval's results, with our standard errors of F1 and MCC."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    from ..harness.suite import replace_stderr

    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it says at each call how it was called
    loaded, tokenizer = model.load(context)
    # Prompts differ much in length, and a CPU gains nothing by computing with the padding.
    batch_size = min(model.setting.batch_size, CPU_BATCH) if default_device() == "cpu" else model.setting.batch_size
    task = task_of(name)
    for subtask in task.get_all_tasks() if name == "mmlu" else [task]:
        # As num_fewshot of simple_evaluate would, which refuses to change a 0 of an earlier call.
        subtask.set_config(key="num_fewshot", value=shots)
    results = simple_evaluate(
        model=HFLM(pretrained=loaded, tokenizer=tokenizer, batch_size=batch_size),
        tasks=[task],
        task_manager=_manager(),
        limit=limit_of(model.setting, name),
        bootstrap_iters=2,
        log_samples=True,
    )
    replace_stderr(results)
    return results


@cache  # one process evaluates several models with several numbers of examples
def task_of(name: str) -> Any:
    """A task or group of lm-eval with its data.

    Raises:
        Skipped: the data cannot be loaded.
    """
    try:
        loaded = _manager().load([name])
    except Exception as error:  # whatever `datasets` meets on the way to the Hub
        reason = str(error).strip().partition("\n")[0]
        raise Skipped(f"{name} cannot be loaded here ({type(error).__name__}: {reason})") from error
    return {**loaded["tasks"], **loaded["groups"]}[name]


@cache
def _manager() -> Any:
    from lm_eval import tasks

    # Of its thousands of task files, which take many seconds, those that are needed.
    folders = [Path(tasks.__file__).parent / folder for folder in ("glue", "mmlu/default")]
    return tasks.TaskManager(include_defaults=False, include_path=folders)


def limit_of(setting: StudySetting, name: str) -> int | None:
    """Number of a task's first questions that are asked; None for all."""
    return setting.limit if setting.limit is None or name == "mmlu" else GLUE_SHARE * setting.limit


def questions_of(plan: Plan) -> str:
    """The sentence that says how many."""
    limit = plan.setting.limit
    if limit is None:
        return "All questions."
    return f"The first {limit} questions of each of MMLU's subjects, and {GLUE_SHARE * limit} of each task of GLUE."


def room(model: Any) -> int:
    """Tokens that a model can read."""
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", 2048))


def cut_prompts(model: Model, context: StepContext, samples: Iterable[dict[str, Any]]) -> int:
    """How many of lm-eval's samples were too long for the model, which then does not see where they begin."""
    loaded, tokenizer = model.load(context)
    return sum(len(plain_ids(tokenizer, sample["arguments"][0][0])) >= room(loaded) for sample in samples)


def recipe_of(model: Model, context: StepContext) -> dict[str, str]:
    """Fields of a signature beside the task: dtype of the model, version of lm-eval."""
    loaded, _ = model.load(context)
    return {"dtype": str(loaded.dtype).removeprefix("torch."), "lm_eval": versions()["lm-eval"]}


def read(context: StepContext, step: Step) -> dict[str, Any]:
    """The results that a step of `evaluate` left."""
    return json.loads((Path(context.folder_of(step)) / FILE).read_text())


def score_of(metric: str, value: float, stderr: Any, sign: str, scale: int = 100) -> Score:
    """lm-eval's value and standard error with a normal interval; only the value without one."""
    if not isinstance(stderr, int | float):
        return Score(metric, scale * value, signature=sign)
    half = NORMAL_95 * stderr
    low, high = scale * (value - half), scale * (value + half)
    return Score(metric, scale * value, "", sign, low, high, "normal|conf:0.95")
