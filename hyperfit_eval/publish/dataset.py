"""The annotations of a preference study as a dataset on the Hub."""

from collections.abc import Callable
from pathlib import Path

from ..files import write_text
from ..preference.analysis import read_answers
from ..preference.export import dataset_files
from ..preference.study import Study, read_study
from . import card, privacy
from .publishing import publish
from .staging import CARD
from .upload import Destination


def push_dataset(
    study: Path,
    destination: Destination,
    license: str,
    dry_run: Path | None = None,
    say: Callable[[str], None] = print,
) -> str | None:
    """Publish the annotations of a study with a card; returns the dataset's address.

    Annotators are numbers there. Their names and links, and the study's salt, stay in the study's folder. A model
    that is a folder is called by the folder's name.

    Args:
        study: folder of the study.
        destination: where it goes; of repo_type "dataset".
        license: of the texts, an id of the Hub.
        dry_run: write the repository to this folder, which must be empty or not there, and upload nothing.
    Raises:
        HyperfitError: no license id, no study, nothing annotated, a path of this machine in it, or as `upload`;
            nothing is uploaded before all of it is ready.
    """
    card.require_license_id(license)
    return publish(lambda folder: _stage(study, folder, license), destination, dry_run, say)


def _stage(folder: Path, out: Path, license: str) -> None:
    study = read_study(folder)
    contents = dataset_files(study, read_answers(folder, study), license, _published_names(study))
    for name, text in contents.items():
        write_text(out / name, text)
    card.check(out / CARD, "dataset")
    remedy = "name the models in the study, with `hyperfit pairs NAME=FILE ...`"
    privacy.refuse_local_paths(out, str(folder.resolve()), remedy=remedy)


def _published_names(study: Study) -> dict[str, str]:
    """By model, its name with no more of a folder's path than tells it from the others: `my-run, greedy`.

    A name like USER/NAME of which there is no folder here is taken for a model of the Hub, and stays.
    """
    tails: dict[str, list[str]] = {}
    for name, made in study.models.items():
        model = str(made.get("model", ""))
        is_folder = name.startswith(model) and not privacy.is_hub_id(model)
        parts, rest = (Path(model).parts, name[len(model) :]) if is_folder else ((name,), "")
        tails[name] = ["/".join(parts[start:]) + rest for start in reversed(range(len(parts)))]
    names = {}
    for name, own in tails.items():
        others = [f"/{other[-1]}" for key, other in tails.items() if key != name and other]
        names[name] = next((tail for tail in own if not any(other.endswith(f"/{tail}") for other in others)), name)
    return names
