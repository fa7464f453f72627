"""Make lm-eval find this package's tasks by name, with no --include_path.

lm-eval discovers tasks in its own folder and in --include_path alone. A `.pth` file imports this
module when Python starts; it only places a finder that waits for `lm_eval.tasks` to be imported,
then steps aside and adds our folder to what a TaskManager reads. lm-eval itself is not imported and
nothing of it is changed on disk. Set HYPERFIT_EVAL_NO_AUTOLOAD=1 to switch it off; then pass
`--include_path "$(hyperfit tasks-dir)"`.
"""

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

_WATCHED = "lm_eval.tasks"


class _Finder:
    """A meta path finder that acts once, on the import of `lm_eval.tasks`."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != _WATCHED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                from hyperfit_eval.harness.extension import extend

                extend(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if not os.environ.get("HYPERFIT_EVAL_NO_AUTOLOAD"):
    sys.meta_path.insert(0, _Finder())
