"""Terminal output beside results: one bar, and nothing of the libraries unless asked for.

Without heavy imports: the command line calls `quiet_libraries` before anything else is imported.
"""

import os
import sys
import warnings
from typing import Any

from tqdm import tqdm

VERBOSE = "HYPERFIT_VERBOSE"
SECONDS_BETWEEN_LINES = 60.0
QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "DATASETS_VERBOSITY": "error",
    "HF_HUB_VERBOSITY": "error",
    "LMEVAL_LOG_LEVEL": "ERROR",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}
"""Settings that the libraries read when they are imported; one that is set already stays."""


def verbose() -> bool:
    """Whether the libraries' own messages are wanted: `--verbose`, or HYPERFIT_VERBOSE=1."""
    return os.environ.get(VERBOSE, "0") not in ("", "0")


def quiet_libraries() -> None:
    """Silence what libraries print around a run, unless it is wanted; errors stay."""
    if verbose():
        return
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def hide_weight_bars() -> None:
    """Hide transformers' bars of loading and saving weights, unless verbose; downloads keep theirs."""
    if not verbose():
        from transformers.utils import logging

        logging.disable_progress_bar()


class _Lines(tqdm):
    """For a file or a pipe: a line a minute in place of a bar."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        options = {"mininterval": SECONDS_BETWEEN_LINES, "delay": SECONDS_BETWEEN_LINES, "leave": False, "ncols": 100}
        super().__init__(*args, **kwargs | options)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Print the state on a line of its own."""
        if msg != "":  # tqdm's way to clear the bar
            print(msg or str(self), file=self.fp, flush=True)
        return True

    def clear(self, nolock: bool = False) -> None:
        """Nothing to clear: lines stay."""

    def close(self) -> None:
        """End without a last line: what the run prints next says that it is done."""
        self.disable = True


def bar(total: int | None, what: str, unit: str = "text", **options: Any) -> tqdm:
    """A progress bar on standard error, which leaves nothing behind; a line a minute where that is no terminal.

    Args:
        total: units to be done, None where it is not known yet.
        what: is being done, shown before the bar.
        options: of tqdm.
    """
    kind = tqdm if sys.stderr.isatty() else _Lines
    return kind(total=total, desc=what, unit=f" {unit}", **{"leave": False, "delay": 1.0} | options)
