"""Speed that changes nothing of what is trained: bf16 autocast, compiled layers, memory that is kept.

Measured with a Llama of 6 million parameters and updates of 8 x 256 tokens on two CPU cores. Where bf16 is
in hardware (AMX), autocast and compiling together train at 9,000 to 13,000 tokens/s, either alone or
neither at 1,000 to 5,000. Where it is not (AVX-512 without bf16), autocast is three times slower than
float32; compiling and keeping memory save a quarter of the time, after a start of 20 to 40 seconds, and
matrix products are most of the rest (docs/scaling.md).
"""

import ctypes
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

MIN_COMPILED_STEPS = {True: 100, False: 400}
"""With and without bf16 autocast: fewer updates do not earn back the time that compiling takes."""


def has_bf16(use_cpu: bool) -> bool:
    """Whether the device that will train multiplies bf16 in hardware."""
    if use_cpu:
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def keep_freed_memory() -> bool:
    """Have the C library keep freed memory for the next tensors; returns whether it does (glibc only).

    By default glibc hands large pieces back to the system and asks for them again, and each page that comes
    back is cleared first: 18,000 pages an update of the shipped model, a tenth of the time. The process then
    stays as large as it once was.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    # From malloc.h: M_MMAP_THRESHOLD is -3, M_TRIM_THRESHOLD is -1; mallopt returns 1 for success.
    return bool(mallopt(-3, 1 << 30) and mallopt(-1, (1 << 31) - 1))


def compiling_pays(bf16: bool, steps: int) -> bool:
    """Whether the decoder layers are compiled by default, in a run of so many updates."""
    return steps >= MIN_COMPILED_STEPS[bf16]


def missing_compiler(use_cpu: bool) -> str | None:
    """Missing parts of torch.compile on this machine, with what to install; None if nothing."""
    if use_cpu:
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler

        try:
            get_cpp_compiler()
        except InvalidCxxCompiler:
            return "no C++ compiler was found (apt-get install g++)"
        return None
    # Triton compiles a launcher for each kernel.
    return None if shutil.which("gcc") or shutil.which("clang") else "no C compiler was found (apt-get install gcc)"


def compile_layers(model: Any, backend: str | Callable[..., Any] = "inductor") -> int:
    """Compile each decoder layer and the loss in place, for fixed shapes; returns the number of layers.

    Layers of one class share their code, so the cost is that of one layer, whatever the depth. Parameter
    names stay as they are. `plain` calls the model as if nothing were compiled.
    """
    layers = decoder_layers(model)
    for layer in layers:
        layer.compile(dynamic=False, backend=backend)
    if hasattr(model, "loss_function"):
        model.loss_function = torch.compile(model.loss_function, dynamic=False, backend=backend)
    return len(layers)


def decoder_layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The longest list of modules of one class: the decoder layers of any transformer."""
    lists = [list(module) for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    uniform = [layers for layers in lists if len({type(layer) for layer in layers}) == 1]
    return max(uniform, key=len, default=[])


@contextmanager
def plain(model: Any) -> Iterator[None]:
    """Call the model in the precision of its weights and uncompiled, in eval mode and without gradients.

    Evaluation then measures what a checkpoint loaded in float32 gives, and the changing shapes of
    generation compile nothing.
    """
    # accelerate puts autocast into an attribute of the instance that hides the method of the class.
    wrapped = model.__dict__.pop("forward", None)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        model.train(was_training)
        if wrapped is not None:
            model.forward = wrapped
