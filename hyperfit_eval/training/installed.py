"""Packages that an argument of training needs, looked for before the model is loaded."""

from collections.abc import Iterable
from importlib.util import find_spec

from transformers.integrations import get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from ..errors import HyperfitError
from .recipe_files import nearest

TRACKER_PACKAGES = {"azure_ml": "azureml-mlflow", "comet_ml": "comet-ml", "flyte": "flytekit"}
"""Packages of trackers that have other names."""
OPTIMIZER_PACKAGES = {
    "anyprecision": ("torchdistx", "torchdistx"),
    "galore": ("galore_torch", "galore-torch"),
    "lomo": ("lomo_optim", "lomo-optim"),
    "grokadamw": ("grokadamw", "grokadamw"),
    "schedule_free": ("schedulefree", "schedulefree"),
    "torch_4bit": ("torchao", "torchao"),
    "torch_8bit": ("torchao", "torchao"),
    "8bit": ("bitsandbytes", "bitsandbytes"),
    "bnb": ("bitsandbytes", "bitsandbytes"),
    "lion": ("bitsandbytes", "bitsandbytes"),
    "ademamix": ("bitsandbytes", "bitsandbytes"),
    "paged": ("bitsandbytes", "bitsandbytes"),
    "apollo": ("apollo_torch", "apollo-torch"),
    "stable_adamw": ("optimi", "torch-optimi"),
}
"""By a part of the optimizer's name, the first that fits: module and package."""


def require_trackers(names: Iterable[str]) -> None:
    """Refuse trackers that are unknown or not installed.

    Args:
        names: of --report_to, without "none".
    Raises:
        HyperfitError: with the nearest name, or the pip command.
    """
    available = get_available_reporting_integrations()
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            known = sorted(INTEGRATION_TO_CALLBACK)
            near = nearest(name, known)
            raise HyperfitError(f"--report_to {name}: no such tracker{near}; expected none or of {', '.join(known)}")
        if name not in available:
            raise HyperfitError(f"--report_to {name} needs its package: pip install {TRACKER_PACKAGES.get(name, name)}")


def require_package(package: str, argument: str, module: str | None = None) -> None:
    """Refuse an argument whose package is not installed.

    Args:
        module: as it is imported, where that is not the package's name.
    Raises:
        HyperfitError: with the pip command.
    """
    if find_spec(module or package) is None:
        raise HyperfitError(f"{argument} needs a package: pip install {package}")


def require_optimizer(name: str) -> None:
    """Refuse an optimizer whose package is not installed; errors as in `require_package`."""
    for part, (module, package) in OPTIMIZER_PACKAGES.items():
        if part in name:
            return require_package(package, f"--optim {name}", module)
