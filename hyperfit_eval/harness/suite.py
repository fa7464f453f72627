"""The whole suite for one model: open-ended continuation, MMLU and GLUE, through lm-eval."""

import json
import logging
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import HyperfitError
from ..files import write_text
from ..machine import default_device, versions
from ..records import write_continuations
from ..terminal import verbose
from .arguments import require_device, require_dtype, require_limit, whole_number
from .stderr import f1_stderr, mcc_stderr

DEFAULT_TASKS = ("hyperfit_openended", "mmlu", "glue")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Suite:
    """Tasks and settings to be run; the fields are those of `hyperfit eval`."""

    model: str
    tasks: Sequence[str] = DEFAULT_TASKS
    output: Path = Path("runs/eval")
    model_args: dict[str, Any] = field(default_factory=dict)
    batch_size: str = "auto"
    num_fewshot: int | None = None
    limit: float | None = None
    device: str | None = None
    training_set: Path | None = None
    citation_index: Path | None = None


def run_suite(suite: Suite) -> dict[str, Any]:
    """Run the tasks and write lm-eval's results file and the continuation records.

    Standard errors of F1 and MCC come from `stderr`, by the same bootstrap distribution that lm-eval
    would spend hours on; everything else is lm-eval's own.

    Returns:
        lm-eval's results, with "samples" taken out.
    Raises:
        HyperfitError: no such model, an unknown task, or whatever a task refuses.
    """
    # The finder of `_hyperfit_eval_autoload` may be switched off, so the folder is given here as well.
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from ..checkpoints import load_config, load_tokenizer
    from .location import tasks_dir

    suite = replace(suite, model=model_name(suite.model))
    _require(suite, load_tokenizer(suite.model), load_config(suite.model))
    model_args = {"pretrained": suite.model, **suite.model_args}
    given = {"training_set": suite.training_set, "citation_index": suite.citation_index}
    metadata = model_args | {name: str(path) for name, path in given.items() if path is not None}
    manager = TaskManager(include_path=[str(tasks_dir())], metadata=metadata)
    unknown = [task for task in suite.tasks if not manager.match_tasks([task])]
    if unknown:
        raise HyperfitError(f"no task named {', '.join(unknown)}; `lm_eval ls tasks` lists them")
    with _quiet_lm_eval():
        results = simple_evaluate(
            model="hf",
            model_args=model_args,
            tasks=list(suite.tasks),
            num_fewshot=suite.num_fewshot,
            batch_size=suite.batch_size,
            device=suite.device or default_device(),
            limit=suite.limit,
            task_manager=manager,
            # Two resamples: F1 and MCC get theirs below; 0 would also drop the closed-form errors of means.
            bootstrap_iters=2,
            log_samples=True,
        )
    if results is None:
        # Not the first of several processes.
        return {}
    replace_stderr(results)
    samples = results.pop("samples")
    _write(suite, results, samples)
    return results


@contextmanager
def _quiet_lm_eval() -> Iterator[None]:
    """Keep lm-eval's bars of prepared texts from the terminal, and git's complaint where there is no repository."""
    from lm_eval import evaluator
    from lm_eval.api import task

    quieter = {(task, "tqdm"): partial(task.tqdm, disable=True), (evaluator, "get_git_commit_hash"): _git_commit}
    before = {(module, name): getattr(module, name) for module, name in quieter}
    try:
        for (module, name), value in quieter.items() if not verbose() else ():
            setattr(module, name, value)
        yield
    finally:
        for (module, name), value in before.items():
            setattr(module, name, value)


def _git_commit() -> str | None:
    """The commit of the working folder, as lm-eval records it; None outside of a repository."""
    if shutil.which("git") is None:
        return None
    return subprocess.run(["git", "describe", "--always"], capture_output=True, text=True).stdout.strip() or None


def model_name(model: str) -> str:
    """One name for one model: a folder typed as `M`, `./M`, `M/` or with its full path is the same row of results.

    Inside the working folder the path from there, elsewhere the full path; a Hub id as it is.
    """
    if not Path(model).is_dir():
        return model
    folder, here = Path(model).resolve(), Path.cwd().resolve()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


def _require(suite: Suite, tokenizer: Any, config: Any) -> None:
    """Refuse in one line what lm-eval would answer with a traceback, some of it after hours."""
    if not suite.tasks:
        raise HyperfitError("--tasks: no task is named; `lm_eval ls tasks` lists them")
    require_limit(suite.limit)
    require_dtype(str(suite.model_args.get("dtype", "auto")))
    if suite.num_fewshot is not None:
        whole_number("num_fewshot", suite.num_fewshot)
    if suite.device is not None:
        require_device(suite.device)
    # Special tokens need no embedding: no text has them, and some models leave them out.
    special = set(tokenizer.all_special_ids)
    largest = max(index for index in tokenizer.get_vocab().values() if index not in special)
    embedded = config.get_text_config().vocab_size
    if largest >= embedded:
        raise HyperfitError(
            f"{suite.model}: the tokenizer gives ids up to {largest}, the model embeds {embedded}; give a model with "
            "its own tokenizer"
        )


def replace_stderr(results: dict[str, Any]) -> None:
    """Put our standard errors of F1 and MCC into lm-eval's results, made with log_samples."""
    for task, values in results["results"].items():
        for metric, stderr in (("f1", f1_stderr), ("mcc", mcc_stderr)):
            key = f"{metric}_stderr,none"
            pairs = [sample[metric] for sample in results["samples"].get(task, []) if metric in sample]
            if key in values and pairs:
                values[key] = stderr(pairs)


def _write(suite: Suite, results: dict[str, Any], samples: dict[str, list[dict[str, Any]]]) -> None:
    from lm_eval.utils import handle_non_serializable

    results["config"]["stderr_of_f1_and_mcc"] = "multinomial resampling of the confusion matrix, 100,000 draws"
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S")
    text = json.dumps(results, indent=2, default=handle_non_serializable, ensure_ascii=False)
    write_text(suite.output / f"results_{stamp}.json", text + "\n")
    for task, rows in samples.items():
        if rows and "texts" in rows[0]:
            _write_records(suite, results, task, [row["texts"] for row in rows], stamp)


def _write_records(suite: Suite, results: dict[str, Any], task: str, rows: list[dict[str, Any]], stamp: str) -> None:
    from .columns import continuation_of, generation_of

    fingerprint = results["configs"][task]["metadata"]["texts_fingerprint"]
    generation = replace(generation_of(rows[0], fingerprint, suite.model), versions=versions())
    records = [continuation_of(row) for row in sorted(rows, key=lambda row: row["id"])]
    write_continuations(suite.output / f"continuations_{task}_{stamp}.jsonl", generation, records)
