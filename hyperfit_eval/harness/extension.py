"""Additions to `lm_eval.tasks` at its import: our tasks by name, our model arguments."""

import functools
from types import ModuleType
from typing import Any

from . import blocking
from .arguments import one_line_errors
from .location import tasks_dir


def extend(tasks_module: ModuleType) -> None:
    """Wrap TaskManager.__init__: it also reads our folder of tasks, and tells `blocking` its metadata."""
    one_line_errors()
    blocking.install()
    manager: Any = tasks_module.TaskManager
    original = manager.__init__

    @functools.wraps(original)
    def __init__(
        self: Any,
        verbosity: str | None = None,
        include_path: Any = None,
        include_defaults: bool = True,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        blocking.block_evaluations(metadata)
        ours = str(tasks_dir())
        if include_path is None:
            paths = []
        elif isinstance(include_path, (list, tuple)):
            paths = [str(path) for path in include_path]
        else:
            paths = [str(include_path)]
        # A folder given by the user comes last and may replace a task of ours.
        paths = [ours, *(path for path in paths if path != ours)]
        original(self, verbosity, paths, include_defaults, metadata, **kwargs)

    manager.__init__ = __init__
