"""Arguments of lm-eval and `hyperfit eval`: checked before any work, refused in one line."""

import math
import sys
from pathlib import Path
from typing import Any

from ..checkpoints import DTYPES
from ..errors import HyperfitError, exit_with_one_line


def one_line_errors() -> None:
    """Print a HyperfitError as one line, with exit status 2, where lm-eval's own command line is running."""
    if Path(sys.argv[0]).name in ("lm_eval", "lm-eval") or sys.argv[0].endswith("lm_eval/__main__.py"):
        sys.excepthook = exit_with_one_line


def whole_number(name: str, value: Any, least: int = 0) -> int:
    """The value as an int.

    Raises:
        HyperfitError: no whole number, or one below `least`.
    """
    number = _number(value)
    if not number.is_integer() or number < least:
        raise HyperfitError(f"{name}={value}: expected a whole number of {least} or more")
    return int(number)


def positive(name: str, value: Any) -> float:
    """The value as a float above 0.

    Raises:
        HyperfitError: no number, or 0, below it or infinite.
    """
    number = _number(value)
    if not number > 0:
        advice = "; leave do_sample out for greedy decoding" if name == "temperature" else ""
        raise HyperfitError(f"{name}={value}: expected a number above 0{advice}")
    return number


def fraction(name: str, value: Any) -> float:
    """The value as a float above 0 and up to 1.

    Raises:
        HyperfitError: anything else.
    """
    number = _number(value)
    if not 0 < number <= 1:
        raise HyperfitError(f"{name}={value}: expected a number above 0, up to 1")
    return number


def require_limit(limit: float | None) -> None:
    """Raise unless `limit` is None, a share between 0 and 1 or a whole number of texts."""
    if limit is not None and not (0 < limit < 1 or (math.isfinite(limit) and limit >= 1 and limit == int(limit))):
        raise HyperfitError(f"--limit {limit:g}: expected a whole number of texts, or a share between 0 and 1")


def require_dtype(dtype: str) -> None:
    """Raise unless `dtype` is one that weights are loaded in."""
    if dtype not in DTYPES:
        raise HyperfitError(f"--dtype {dtype}: expected one of {', '.join(DTYPES)}")


def require_device(device: str) -> None:
    """Raise unless this machine has the device, such as "cpu" or "cuda:1"."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        # torch says no in many ways and many lines: no such kind, built without it, no driver, too few of them.
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise HyperfitError(f"--device {device}: not on this machine ({reason}); leave it out, or type cpu") from error


def _number(value: Any) -> float:
    """The value as a finite float; NaN, which fails every comparison, for anything else."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan
    return number if math.isfinite(number) else math.nan
