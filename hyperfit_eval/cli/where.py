"""Commands that print where something is."""

from ..demo.location import demo_model_dir
from ..harness.location import tasks_dir


def tasks() -> None:
    """Print the folder of the lm-eval task files.

    Example: `lm_eval --include_path "$(hyperfit tasks-dir)" --tasks hyperfit_openended --model hf ...`
    """
    print(tasks_dir())


def demo_model() -> None:
    """Print the folder of the small pretrained model that ships with the package.

    Example: `lm_eval --model hf --model_args pretrained=$(hyperfit demo-model) --tasks hyperfit_openended_demo`
    """
    print(demo_model_dir())
