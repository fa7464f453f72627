"""The annotations of a preference study as a dataset on the Hub."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from ..errors import HyperfitError
from ..preference.export import write_dataset
from .model import write_folder
from .staging import CARD, describe
from .upload import Destination, require_access, upload


def push_dataset(
    study: Path,
    destination: Destination,
    license: str,
    dry_run: Path | None = None,
    say: Callable[[str], None] = print,
) -> str | None:
    """Publish the annotations of a study with a card; returns the dataset's address.

    Annotators are numbers there. Their names and links, and the study's salt, stay in the study's folder.

    Args:
        study: folder of the study.
        destination: where it goes; of repo_type "dataset".
        license: of the texts, an id of the Hub.
        dry_run: write the repository to this folder, which must be empty or not there, and upload nothing.
    Raises:
        HyperfitError: no study, nothing annotated, or as `upload`; nothing is uploaded before all of it is ready.
    """
    if dry_run is not None:
        write_folder(dry_run, lambda folder: _stage(study, folder, license))
        say("\n".join([*describe(dry_run), f"Written to {dry_run}; nothing was uploaded."]))
        return None
    require_access(destination)
    with tempfile.TemporaryDirectory(prefix="hyperfit-push-") as name:
        folder = Path(name)
        _stage(study, folder, license)
        for line in describe(folder):
            say(line)
        address = upload(folder, destination, say)
    say(f"Published: {address}")
    return address


def _stage(study: Path, folder: Path, license: str) -> None:
    from huggingface_hub import DatasetCard

    write_dataset(study, folder, license)
    try:
        DatasetCard.load(folder / CARD)
    except ValueError as error:
        raise HyperfitError(f"{CARD}: not a valid card ({str(error).splitlines()[0]})") from error
