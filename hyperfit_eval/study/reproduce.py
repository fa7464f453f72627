"""The experiments by name, run in one go or a few of them, and the report of what is there."""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path

from ..errors import HyperfitError
from ..harness.suite import versions
from . import (
    calibration,
    corpora,
    curves,
    data,
    decoding,
    diversity,
    downstream,
    examples,
    memorization,
    pictures,
    quality,
    ranks,
    seeds,
    sharpening,
    sharpness,
)
from .plan import GREEDY, Plan
from .report import write_report
from .section import read_section
from .setting import Setting
from .steps import Say, Step, done, run_steps

Experiment = Callable[[Plan], Step]

EXPERIMENTS: dict[str, Experiment] = {
    "table1": quality.table1,
    "table2": diversity.table2,
    "figure3": lambda plan: diversity.figure3(
        plan, plan.setting.texts, {name: plan.continuations[name] for name in GREEDY}
    ),
    "figure2": curves.figure2,
    "table3": sharpness.table3,
    "figure4": sharpness.figure4,
    "figure5_left": data.figure5_left,
    "figure5_right": data.figure5_right,
    "table4": corpora.table4,
    "table5": diversity.table5,
    "table7": downstream.table7,
    "table8": downstream.table8,
    "figure9": curves.figure9,
    "pictures": pictures.pictures,
    "sharpening": sharpening.sharpening,
    "ranks": ranks.ranks,
    "dimensions": ranks.dimensions,
    "calibration": calibration.calibration,
    "decoding": decoding.decoding,
    "memorization": memorization.memorization,
    "seeds": seeds.seeds,
    "figure1": examples.figure1,
}
"""In the order of the report."""


def reproduce(
    setting: Setting, root: Path, only: Sequence[str] = (), preference: Path | None = None, say: Say = print
) -> Path:
    """Run experiments of the paper on a model and write report.md and report.html.

    Args:
        root: the study's folder; an interrupted study goes on in it.
        only: names of experiments; all of them if empty. The report holds what was done before, too.
        preference: results of `hyperfit preference`.
    Returns:
        Path of report.md.
    Raises:
        HyperfitError: an unknown experiment, or whatever a step refuses.
    """
    for name in only:
        if name not in EXPERIMENTS:
            near = get_close_matches(name, EXPERIMENTS, 1)
            raise HyperfitError(
                f"--only {name}: no such experiment{f', did you mean {near[0]}' if near else ''}; "
                f"expected some of {', '.join(EXPERIMENTS)}"
            )
    plan = Plan(setting)
    steps = {name: make(plan) for name, make in EXPERIMENTS.items()}
    if preference:
        steps |= {"table1": quality.table1(plan, preference), "table4": corpora.table4(plan, preference)}
    folder = root / "steps"
    skipped = run_steps([steps[name] for name in only or steps], folder, say)
    sections = [(read_section(folder / step.name), folder / step.name) for step in steps.values() if done(step, folder)]
    write_report(root, sections, {name: skipped[name] for name in steps if name in skipped}, _facts(setting))
    return root / "report.md"


def _facts(setting: Setting) -> dict[str, str]:
    return {
        "model": setting.title or (Path(setting.model).name if Path(setting.model).is_dir() else setting.model),
        "weights": setting.model_fingerprint,
        "corpus": Path(setting.corpus).name if Path(setting.corpus).is_file() else setting.corpus,
        "recipe": ", ".join([setting.recipe, *(f"{name} {value}" for name, value in setting.training.items())]),
        "texts": f"{len(setting.texts.passages)}, fingerprint {setting.texts.fingerprint}",
        "seeds": ", ".join(map(str, setting.seeds)),
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }
