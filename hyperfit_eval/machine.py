"""Influences on numbers beside their settings: the device, and the versions of what made them."""

from importlib.metadata import version

PACKAGES = ("hyperfit-eval", "lm-eval", "torch", "transformers", "datasets")


def default_device() -> str:
    """The accelerator at hand, of any kind that torch knows, or the CPU."""
    import torch

    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return device.type if device is not None else "cpu"


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    return {name: version(name) for name in PACKAGES}
