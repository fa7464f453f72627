"""The experiments by name, run in one go or a few of them, and the report of what is there."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from ..errors import HyperfitError
from ..files import write_text
from ..preference.analysis import PREFERENCE_FILE
from .experiments import ALIASES, EXPERIMENTS
from .experiments.figure9 import figure9
from .experiments.table1 import table1
from .experiments.table4 import check_corpora, table4
from .judgements import check_preference
from .plan import Plan
from .report import write_report
from .section import read_section
from .setting import StudySetting
from .steps import Finished, Say, Step, done, finished, in_order, run_steps


def select_experiments(only: str) -> list[str]:
    """Names of experiments from a list with commas; all of them for the empty text.

    Raises:
        HyperfitError: an unknown one, with the nearest name, or none.
    """
    if not only:
        return list(EXPERIMENTS)
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
    if not names:
        raise HyperfitError(f"--only '{only}': no experiment; expected some of {', '.join(EXPERIMENTS)}")
    return list(dict.fromkeys(names))


def reproduce(
    setting: StudySetting, root: Path, names: Sequence[str], preference: Path | None = None, say: Say = print
) -> Path:
    """Run experiments of the paper on a model and write report.md and report.html.

    Args:
        root: the study's folder; an interrupted study goes on in it.
        names: of experiments, see `select_experiments`. The report holds what was done before, too.
        preference: results of `hyperfit preference`, which the study keeps a copy of: once given, they stay.
    Returns:
        Path of report.md.
    Raises:
        HyperfitError: names of corpora or judgements that cannot be used, before anything is done; or what a step
            refused, after the others.
    """
    check_corpora(setting)
    judged = _keep_preference(preference, setting, root, say)
    plan = Plan(setting)
    steps = {name: make(plan) for name, make in EXPERIMENTS.items()}
    if judged:
        with_preference = {"table1": table1, "table4": table4, "figure9": figure9}
        steps |= {name: make(plan, judged) for name, make in with_preference.items()}
    reasons: dict[str, str] = {}
    try:
        run_steps([steps[name] for name in names], root / "steps", say, reasons)
    finally:
        _write(root, setting, steps, {name: reasons[name] for name in steps if name in reasons})
    return root / "report.md"


def _keep_preference(given: Path | None, setting: StudySetting, root: Path, say: Say) -> Path | None:
    """The study's copy of the judgements, replaced by what is given; None where there never were any."""
    kept = root / PREFERENCE_FILE
    if given:
        check_preference(given, setting, say)
        write_text(kept, given.read_text(encoding="utf-8"))
    elif kept.is_file():
        check_preference(kept, setting, say)
    return kept if kept.is_file() else None


def _write(root: Path, setting: StudySetting, steps: Mapping[str, Step], reasons: dict[str, str]) -> None:
    folder = root / "steps"
    known = {name: done(step, folder) for name, step in steps.items()}
    for name, step in known.items():
        if step is None and finished(name, folder):
            reasons.setdefault(name, "made with other settings, or before a step that it needs; name it in --only")
    sections = [(read_section(folder / name), folder / name) for name, step in known.items() if step]
    if sections or reasons:
        needed = in_order(steps[name] for name, step in known.items() if step)
        made = [step for one in needed if (step := finished(one.name, folder))]
        write_report(root, sections, reasons, _facts(setting, made))


def _facts(setting: StudySetting, made: Sequence[Finished]) -> dict[str, str]:
    """Setting of the study, and what its steps were made with.

    Args:
        made: every step that is in the report or that one of these needs.
    """
    used: dict[str, set[str]] = {}
    for step in made:
        for name, version in step.versions.items():
            used.setdefault(name, set()).add(version)
    devices = sorted({step.device for step in made})
    # All other tables are of the first one.
    seeds = setting.seeds if any(step.name == "seeds" for step in made) else setting.seeds[:1]
    questions = "all" if setting.limit is None else f"{setting.limit} of each subject of MMLU"
    return {
        "model": setting.title or (Path(setting.model).name if Path(setting.model).is_dir() else setting.model),
        "weights": setting.model_fingerprint,
        "corpus": setting.corpus_name,
        "recipe": ", ".join([setting.recipe, *(f"{name} {value}" for name, value in setting.training.items())]),
        "texts": f"{len(setting.texts.passages)}, fingerprint {setting.texts.fingerprint}"
        + (f"; {len(setting.further.passages)} further ones for Figure 3" if setting.further else ""),
        "writing and answering": f"{setting.dtype} on {' and '.join(devices) or 'nothing yet'}, sampled "
        f"{setting.batch_size} texts at a time",
        "questions": questions,
        "seeds": ", ".join(map(str, seeds)),
        "versions": ", ".join(f"{name} {' and '.join(sorted(found))}" for name, found in used.items()) or "none yet",
    }
