"""`hyperfit demo`: some experiments of `hyperfit reproduce` on the model and texts that ship here, in four acts.

The steps, the report and the numbers are those of `hyperfit reproduce`; beside them stand copies of what other
commands take: the checkpoint, the continuation records and their metrics.
"""

import shutil
import time
from dataclasses import replace
from pathlib import Path

from ..errors import HyperfitError
from ..files import write_json
from ..machine import versions
from ..report.tables import plain_table
from ..texts.contexts import TextSet
from ..training.folder import RUN
from .cells import distribution_scores, metrics_json
from .models import CONTINUATIONS
from .pipeline import reproduce
from .plan import LABELS, Plan
from .report import cell_texts
from .section import Section, read_section
from .setting import StudySetting, demo_setting
from .steps import Say, StepContext, run_steps

EXPERIMENTS = ("fluency", "table1", "table2", "figure3", "figure2", "table3", "memorization", "figure1")
SUMMARIZED = ("table1", "table3", "figure2", "fluency", "figure3")
"""Sections whose sentences are printed."""
EVALUATED_EPOCHS = 2
"""Epochs between two evaluations of the training: after each one would take a minute more."""
FILES = {
    "base": "base_greedy",
    "top_p": "base_top_p",
    "hyperfitted": "hyperfitted_greedy",
    "blocked": "hyperfitted_greedy_blocked",
}


def run_demo(folder: Path, epochs: int | None = None, texts: TextSet | None = None, say: Say = print) -> str:
    """Run the demonstration; about five minutes on two CPU cores. An interrupted one goes on where it was.

    Args:
        folder: output folder: a new one, or that of a demonstration.
        epochs: of hyperfitting; those of the recipe unless given.
        texts: what is continued; the 60 that ship with the package unless given.
        say: prints a line.
    Returns:
        A summary for the terminal.
    Raises:
        HyperfitError: the folder holds something else, or cannot be written.
    """
    steps = folder / "steps"
    if folder.is_dir() and any(folder.iterdir()) and not steps.is_dir():
        raise HyperfitError(
            f"{folder}: holds files, but no demonstration that can go on; remove it, or give another folder: "
            f"hyperfit demo --output {folder}-2"
        )
    started = time.monotonic()
    setting = _setting(epochs, texts)
    plan, values = Plan(setting), setting.recipe_values()
    greedy = plan.continuations
    acts = {
        f"The base model continues {len(setting.texts.passages)} texts it has never seen": ("base", "top_p"),
        f"Hyperfitting it on {values['num_train_samples']} passages of {values['sequence_length']} tokens, "
        f"{values['num_train_epochs']} epochs": (),
        "The hyperfitted model continues the same texts, without and with citation blocking": (
            "hyperfitted", "blocked",
        ),
    }  # fmt: skip
    for number, (title, names) in enumerate(acts.items(), start=1):
        say(f"[{number}/4] {title}")
        wanted = [greedy[name] for name in names] or plan.hyperfitted.needs
        run_steps(wanted, steps, lambda line: say(f"    {line}"))
    say("[4/4] Measuring")
    report = reproduce(setting, folder, EXPERIMENTS, say=lambda line: None)
    _export(plan, StepContext(folder, steps, say))
    sections = {name: read_section(steps / name) for name in EXPERIMENTS}
    lines = [f"- {line}" for name in SUMMARIZED for line in sections[name].findings]
    ending = f"{time.monotonic() - started:.0f} s; report: {report}"
    return "\n".join([plain_table(*summary_table(sections["fluency"])), "", *lines, "", ending])


def summary_table(section: Section) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the section `fluency`, as the terminal and the README show them."""
    (table,) = section.tables
    return ["", *table.columns.values()], [[row.label, *cell_texts(table, row)] for row in table.rows]


def _setting(epochs: int | None, texts: TextSet | None) -> StudySetting:
    setting = demo_setting()
    training: dict[str, object] = {} if epochs is None else {"num_train_epochs": epochs}
    _, updates = setting.training_length(**training)
    every = EVALUATED_EPOCHS * updates // int(setting.recipe_values(**training)["num_train_epochs"])
    training |= {"eval_strategy": "steps", "eval_steps": every}
    return replace(setting, texts=texts or setting.texts, training=training, seeds=(0,))


def _export(plan: Plan, context: StepContext) -> None:
    """Copy what other commands take out of the steps' folders."""
    source, checkpoint = plan.hyperfitted.checkpoint(context), context.folder / "hyperfitted"
    # One that is of this run already stays as it is: it may have been pushed or trained further since.
    if not (checkpoint / RUN).is_file() or (checkpoint / RUN).read_bytes() != (source / RUN).read_bytes():
        partial = context.root / ".partial" / "hyperfitted"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial)
        shutil.rmtree(checkpoint, ignore_errors=True)
        partial.rename(checkpoint)
    for name, file in FILES.items():
        records = context.folder_of(plan.continuations[name]) / CONTINUATIONS
        shutil.copyfile(records, context.folder / f"continuations_{file}.jsonl")
    models = {LABELS[name]: {"metrics": metrics_json(context, step)} for name, step in plan.metrics.items()}
    distributions = {
        name: {metric: score.to_json() for metric, score in distribution_scores(plan.setting, context, step).items()}
        for name, step in plan.predictions.items()
    }
    body = {"texts": plan.setting.texts.fingerprint, "models": models, "distributions": distributions}
    write_json(context.folder / "results.json", "demo-results", 1, body | {"versions": versions()})
