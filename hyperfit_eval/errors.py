"""The one exception that a user is meant to read."""

import os
import sys
from types import TracebackType

from .plain import for_terminal


class HyperfitError(ValueError):
    """A value, file or setting that cannot be used, explained in one line.

    The text says what is wrong with which value, what was expected and what to type. At the command
    line it is printed without a traceback and the exit status is 2; set HYPERFIT_TRACEBACK=1 to see
    where it came from.
    """


def exit_with_one_line(error_type: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """A `sys.excepthook`: one line and exit status 2 for HyperfitError, the usual for the rest."""
    if issubclass(error_type, HyperfitError) and not os.environ.get("HYPERFIT_TRACEBACK"):
        print(for_terminal(f"error: {error}"), file=sys.stderr)
        # CPython honors a SystemExit raised by the hook: the only way to a status other than 1.
        raise SystemExit(2)
    sys.__excepthook__(error_type, error, traceback)
