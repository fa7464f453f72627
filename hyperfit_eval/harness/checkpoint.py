"""The file that an option of a task names, or the checkpoint's own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..checkpoint_files import find_checkpoint_file
from ..errors import HyperfitError


def checkpoint_file(options: Mapping[str, Any], setting: str, name: str) -> Path | None:
    """The file that `options[setting]` names, or the checkpoint's own `name`, or None where it has none.

    Args:
        options: lm-eval's metadata: model arguments and what --metadata adds.
    Raises:
        HyperfitError: the file that is named is not there.
    """
    given = options.get(setting)
    if given:
        if not Path(given).is_file():
            raise HyperfitError(f"{setting} {given}: no such file")
        return Path(given)
    return find_checkpoint_file(options.get("pretrained"), name, options.get("revision"))
