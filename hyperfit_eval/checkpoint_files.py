"""Files that stand beside a model's weights, in a folder or a Hub repository: their names, and finding them."""

import logging
from pathlib import Path
from typing import Any

from .errors import HyperfitError

INDEX_FILE = "citation_index.safetensors"
BLOCKS_FILE = "training_blocks.jsonl"

logger = logging.getLogger(__name__)


def find_checkpoint_file(model: Any, name: str, revision: str | None = None) -> Path | None:
    """`name` in a checkpoint, a local folder or a Hub repository; None where it is not there."""
    if not isinstance(model, str):
        return None
    if Path(model).is_dir():
        path = Path(model) / name
        return path if path.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    try:
        return Path(hf_hub_download(model, name, revision=revision))
    except (EntryNotFoundError, RepositoryNotFoundError, HFValidationError):
        # Offline this is also the answer for a file that was never downloaded.
        logger.info("%s has no %s that can be seen from here", model, name)
        return None
    except HfHubHTTPError as error:
        raise HyperfitError(f"{model}: whether it has {name} cannot be asked ({error}); try again later") from error
