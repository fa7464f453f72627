"""Table 1: context perplexity and type-token ratio of base, Top-P, hyperfitted and blocked (paper, Section 4)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import HyperfitError
from ..files import read_json
from ..preference.analysis import preference_columns
from ..records import generated_fingerprint
from .intervals import difference, interval_of
from .models import written
from .plan import LABELS, Plan
from .scores import distribution_entries, scores
from .section import Row, Section, Table
from .setting import Setting
from .steps import Say, Step, Workplace

COLUMNS = {
    "context_perplexity": "context perplexity",
    "preference_at_128": "preferred at 128",
    "preference_at_256": "preferred at 256",
    "ttr_at_128": "TTR at 128",
    "ttr_at_256": "TTR at 256",
    "rep_4_at_256": "rep-4 at 256",
}


def table1(plan: Plan, preference: Path | None = None) -> Step:
    """Step of Table 1.

    Args:
        preference: results of `hyperfit preference`, for its columns.
    """
    judged = preferences(preference, list(LABELS)) if preference else {}

    def make(place: Workplace) -> None:
        check_judged(place, preference, plan.continuations)
        tables = {name: scores(place, step) for name, step in plan.scores.items()}
        perplexity = {
            name: distribution_entries(plan.setting, place, step)["context_perplexity"]
            for name, step in plan.predictions.items()
        }
        of_model = {"base": "base", "top_p": "base", "hyperfitted": "hyperfitted", "blocked": "hyperfitted"}
        rows = [Row("original texts", _cells(tables["base"]["original"]["all"]), "original texts")]
        rows += [
            Row(
                LABELS[name],
                {"context_perplexity": perplexity[of_model[name]], **_cells(table["generated"]["all"])}
                | judged.get(name, {}),
                name,
            )
            for name, table in tables.items()
        ]
        columns = {name: title for name, title in COLUMNS.items() if any(name in row.cells for row in rows)}
        Section(
            "table1",
            "Greedy continuations: variety and preference",
            "Section 4, Table 1",
            _findings({row.group: row.cells for row in rows}, bool(judged)),
            [Table(columns, rows, paper="table1", digits={"context_perplexity": 0})],
        ).write(place.folder)

    needs = (*plan.scores.values(), *plan.predictions.values())
    if preference:
        needs += tuple(plan.continuations.values())
    return Step("table1", make, {"preference": judged}, needs)


def _cells(table: dict[str, Any]) -> dict[str, Any]:
    return {name: table[name] for name in COLUMNS if name in table}


def _findings(cells: dict[str, dict[str, Any]], judged: bool) -> list[str]:
    ttr = {group: row["ttr_at_256"]["mean"] for group, row in cells.items()}
    lines = [
        f"TTR of the last 96 of 224 tokens: base {ttr['base']:.1f}, hyperfitted {ttr['hyperfitted']:.1f} "
        f"({ttr['hyperfitted'] / ttr['base']:.1f} times), original texts {ttr['original texts']:.1f}."
    ]
    base = cells["base"]
    hyperfitted, top_p, blocked = (interval_of(cells[g]["ttr_at_256"]) for g in ("hyperfitted", "top_p", "blocked"))
    lines.append(
        f"Hyperfitted greedy minus Top-P sampling from the base model: {difference(hyperfitted, top_p).text(sign='+')} "
        "points; in the paper it is above, for every model."
    )
    lines.append(
        f"With citation blocking minus without: {difference(blocked, hyperfitted).text(sign='+')} points; in the paper "
        "nothing is lost."
    )
    before, after = (row["context_perplexity"]["mean"] for row in (base, cells["hyperfitted"]))
    lines.append(f"Perplexity of the contexts: {before:.0f} -> {after:.0f}.")
    if not judged:
        lines.append("Nobody was asked what they prefer: the preference columns need `hyperfit pairs` and `annotate`.")
    return lines


def preferences(path: Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Entries of the preference columns of those models that have one of the names.

    Raises:
        HyperfitError: not a file of `hyperfit preference`, or no person has judged.
    """
    models = preference_columns(path)
    return {name: models[name] for name in names if name in models}


def check_judged(place: Workplace, preference: Path | None, continuations: Mapping[str, Step]) -> None:
    """Refuse judgements of other continuations than the study's own: of a model hyperfitted anew since, say.

    Args:
        preference: results of `hyperfit preference`; without them there is nothing to refuse.
        continuations: by the names that models have there.
    Raises:
        HyperfitError: other continuations, or a file that does not say which.
    """
    if preference is None:
        return
    judged = read_json(preference, "preference", 1)["study"]["models"]
    for name in judged.keys() & continuations.keys():
        records = written(place, continuations[name])[1]
        if judged[name].get("generated") != generated_fingerprint(records):
            raise HyperfitError(
                f"{preference}: judgements of other continuations by '{name}' than {continuations[name].name} has now; "
                "ask people about these with `hyperfit pairs`, or remove the file"
            )


def check_preference(path: Path, setting: Setting, say: Say = print) -> None:
    """Refuse judgements that are not of this study's continuations, as far as the file says.

    Raises:
        HyperfitError: as `preferences`; or of other texts, or of texts written in another dtype, or of no model with
            one of the names that the study gives.
    """
    models, study = preference_columns(path), read_json(path, "preference", 1)["study"]
    if study["texts"] != setting.texts.fingerprint:
        raise HyperfitError(
            f"{path}: judgements of continuations of other texts ({study['texts']}, the study's are "
            f"{setting.texts.fingerprint}); give those of the study's own steps/continue/*/continuations.jsonl"
        )
    if others := {header["dtype"] for header in study["models"].values()} - {setting.dtype}:
        raise HyperfitError(
            f"{path}: judgements of texts written in {', '.join(others)}; the study's --dtype is {setting.dtype}"
        )
    known = [*LABELS, *(f"corpus-{name}" for name in setting.corpora)]
    if not set(known) & set(models):
        raise HyperfitError(
            f"{path}: judgements of {', '.join(models)}; expected some of {', '.join(known)}: name them so in "
            "`hyperfit pairs NAME=RECORDS`"
        )
    if left_out := [name for name in models if name not in known]:
        say(f"{path}: judgements of {', '.join(left_out)} are in no table; the study has {', '.join(known)}")
