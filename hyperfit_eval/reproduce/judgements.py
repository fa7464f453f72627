"""People's judgements of a study's continuations: the file of `hyperfit preference`, checked against the study."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import HyperfitError
from ..files import read_json
from ..preference.analysis import preference_columns
from ..preference.results import Estimate
from ..records import generated_fingerprint
from .models import read_continuations
from .plan import LABELS
from .setting import StudySetting
from .steps import Say, Step, StepContext


def judged_columns(path: Path, names: Sequence[str]) -> dict[str, dict[str, Estimate]]:
    """Estimates of the preference columns of those models that have one of the names.

    Raises:
        HyperfitError: not a file of `hyperfit preference`, or no person has judged.
    """
    models = preference_columns(path)
    return {name: models[name] for name in names if name in models}


def as_inputs(judged: Mapping[str, Mapping[str, Estimate]]) -> dict[str, dict[str, object]]:
    """What `judged_columns` returned, as JSON values: inputs of a step."""
    return {name: {column: estimate.to_json() for column, estimate in row.items()} for name, row in judged.items()}


def check_continuations(context: StepContext, preference: Path | None, continuations: Mapping[str, Step]) -> None:
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
        records = read_continuations(context, continuations[name])[1]
        if judged[name].get("generated") != generated_fingerprint(records):
            raise HyperfitError(
                f"{preference}: judgements of other continuations by '{name}' than {continuations[name].name} has now; "
                "ask people about these with `hyperfit pairs`, or remove the file"
            )


def check_preference(path: Path, setting: StudySetting, say: Say = print) -> None:
    """Refuse judgements that are not of this study's continuations, as far as the file says.

    Raises:
        HyperfitError: as `judged_columns`; or of other texts, or of texts written in another dtype, or of no model with
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
