"""The experiments by name, run in one go or a few of them, and the report of what is there."""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from ..errors import HyperfitError
from ..harness.suite import default_device, versions
from . import (
    calibration,
    corpora,
    curves,
    data,
    decoding,
    diversity,
    examples,
    glue,
    instruct,
    memorization,
    mmlu,
    pictures,
    quality,
    ranks,
    seeds,
    sharpening,
    sharpness,
)
from .plan import Plan
from .report import write_report
from .section import read_section
from .setting import Setting
from .steps import Say, Step, done, finished, run_steps

Experiment = Callable[[Plan], Step]

EXPERIMENTS: dict[str, Experiment] = {
    "table1": quality.table1,
    "table2": diversity.table2,
    "figure3": diversity.figure3,
    "figure2": curves.figure2,
    "table3": sharpness.table3,
    "figure4": sharpness.figure4,
    "figure5_left": data.figure5_left,
    "figure5_right": data.figure5_right,
    "table4": corpora.table4,
    "table5": diversity.table5,
    "table6": instruct.table6,
    "table7": mmlu.table7,
    "table8": glue.table8,
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

ALIASES = {
    "figure5": ["figure5_left", "figure5_right"],
    "figure6": ["pictures"],
    "figure10": ["pictures"],
    "figure11": ["pictures"],
}


def chosen(only: str) -> list[str]:
    """Names of experiments from a list with commas; all of them if it is empty.

    Raises:
        HyperfitError: an unknown one, with the nearest name.
    """
    names: list[str] = []
    for name in (part.strip() for part in only.split(",")):
        if name in EXPERIMENTS or name in ALIASES:
            names += ALIASES.get(name, [name])
        elif name:
            near = get_close_matches(name, [*EXPERIMENTS, *ALIASES], 1)
            raise HyperfitError(
                f"--only {name}: no such experiment{f', did you mean {near[0]}' if near else ''}; "
                f"expected some of {', '.join(EXPERIMENTS)}"
            )
    return list(dict.fromkeys(names)) or list(EXPERIMENTS)


def reproduce(
    setting: Setting, root: Path, names: Sequence[str], preference: Path | None = None, say: Say = print
) -> Path:
    """Run experiments of the paper on a model and write report.md and report.html.

    Args:
        root: the study's folder; an interrupted study goes on in it.
        names: of experiments, see `chosen`. The report holds what was done before, too.
        preference: results of `hyperfit preference`.
    Returns:
        Path of report.md.
    Raises:
        HyperfitError: whatever a step refuses.
    """
    plan = Plan(setting)
    steps = {name: make(plan) for name, make in EXPERIMENTS.items()}
    if preference:
        with_preference = {"table1": quality.table1, "table4": corpora.table4, "figure9": curves.figure9}
        steps |= {name: make(plan, preference) for name, make in with_preference.items()}
    folder = root / "steps"
    skipped: dict[str, str] = {}
    try:
        skipped = run_steps([steps[name] for name in names], folder, say)
    finally:  # a step that refuses takes nothing from the report of the others
        _write(root, setting, steps, {name: skipped[name] for name in steps if name in skipped})
    return root / "report.md"


def _write(root: Path, setting: Setting, steps: Mapping[str, Step], skipped: dict[str, str]) -> None:
    folder = root / "steps"
    found = {name: done(step, folder) for name, step in steps.items()}
    for name, body in found.items():
        if body is None and finished(name, folder):
            skipped.setdefault(name, "made with other settings, or before a step that it needs; name it in --only")
    sections = [(read_section(folder / name), folder / name) for name, body in found.items() if body]
    if sections or skipped:
        known = (body["versions"] for body in found.values() if body)
        write_report(root, sections, skipped, _facts(setting, list(known)))


def _facts(setting: Setting, known: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """What the study was run on, and the versions that its steps were made with."""
    used: dict[str, list[str]] = {}
    for each in known or [versions()]:
        for name, version in each.items():
            used[name] = sorted({*used.get(name, []), version})
    questions = "all" if setting.limit is None else f"{setting.limit} of each subject of MMLU"
    return {
        "model": setting.title or (Path(setting.model).name if Path(setting.model).is_dir() else setting.model),
        "weights": setting.model_fingerprint,
        "corpus": Path(setting.corpus).name if Path(setting.corpus).is_file() else setting.corpus,
        "recipe": ", ".join([setting.recipe, *(f"{name} {value}" for name, value in setting.training.items())]),
        "texts": f"{len(setting.texts.passages)}, fingerprint {setting.texts.fingerprint}"
        + (f"; {len(setting.further.passages)} further ones for Figure 3" if setting.further else ""),
        "writing and answering": f"{setting.dtype} on {default_device()}, {setting.batch_size} texts at a time",
        "questions": questions,
        "seeds": ", ".join(map(str, setting.seeds)),
        "versions": ", ".join(f"{name} {' and '.join(version)}" for name, version in used.items()),
    }
