"""The entry point of SGLang's plugin group: it puts the citation blocker in place, or ends the process.

SGLang logs a plugin that cannot be imported or that raises, and serves without it. So this file is installed on its
own as `_hyperfit_eval_sglang.py`, and what it imports before anything is caught is the standard library alone.
"""

import os
import sys
import traceback
from typing import NoReturn


def register() -> None:
    """Does nothing unless HYPERFIT_CITATION_INDEX names an index."""
    if not os.environ.get("HYPERFIT_CITATION_INDEX"):
        return
    try:
        from hyperfit_server.hooks.sglang import register_hooks

        register_hooks()
    except BaseException as error:
        end_process(error)


def end_process(error: BaseException) -> NoReturn:
    """One line and exit status 2; the traceback too where HYPERFIT_TRACEBACK is set."""
    if os.environ.get("HYPERFIT_TRACEBACK"):
        traceback.print_exception(error)
    # The class by name: that of our errors may be what cannot be imported.
    kind = "" if type(error).__name__ == "HyperfitError" else f"{type(error).__name__}: "
    print(f"error: SGLang ends, since citations would not be blocked: {kind}{error}", file=sys.stderr, flush=True)
    raise SystemExit(2)
