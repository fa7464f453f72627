"""Stands in for torchvision, which SGLang imports for images: those of the package index need a GPU's torch."""

import sys
from types import ModuleType

__version__ = "0.0"
INTERPOLATIONS = ("NEAREST", "NEAREST_EXACT", "BILINEAR", "BICUBIC", "BOX", "HAMMING", "LANCZOS")


class _Anything(ModuleType):
    """A module that has whatever is asked of it."""

    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {member: member for member in INTERPOLATIONS})


for _name in ("io", "ops", "transforms", "transforms.functional", "transforms.v2", "transforms.v2.functional"):
    _module = sys.modules[f"torchvision.{_name}"] = _Anything(f"torchvision.{_name}")
    _parent, _, _child = f"torchvision.{_name}".rpartition(".")
    setattr(sys.modules[_parent], _child, _module)
