"""Where the task files are; importable without lm-eval."""

from pathlib import Path

import hyperfit_eval


def tasks_dir() -> Path:
    """Folder with the task YAML files: inside the package once installed, beside it in a checkout."""
    package = Path(hyperfit_eval.__file__).resolve().parent
    inside = package / "tasks"
    return inside if inside.is_dir() else package.parent / "tasks"
