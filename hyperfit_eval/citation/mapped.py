"""One safetensors file as read-only memory-mapped numpy arrays.

`safetensors.numpy.load_file` reads everything into memory; an index of a billion tokens must open at once.
"""

import json
import math
import stat
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import HyperfitError

_DTYPES = {"I64": np.int64, "I32": np.int32, "BOOL": np.bool_, "U8": np.uint8}
_LONGEST_HEADER = 1 << 20


def open_mapped(path: str | Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Map a safetensors file.

    Returns:
        Its metadata and its tensors; the arrays are views of one mapping and live as long as any of them.
    Raises:
        HyperfitError: the file is missing, foreign or cut off.
    """
    path = Path(path)
    try:
        status = path.stat()
        is_file, size, header = stat.S_ISREG(status.st_mode), status.st_size, None
        if is_file:  # opening a pipe would wait for whoever writes to it
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length)) if 0 < length <= min(size, _LONGEST_HEADER) else None
    except OSError as error:
        raise HyperfitError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        what = "safetensors file" if is_file else "file"
        raise HyperfitError(f"{path}: not a {what}, a citation index was expected")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise HyperfitError(f"{path}: its header is damaged; build the index again")
    start = 8 + length
    try:
        spans = {name: _span(entry) for name, entry in header.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise HyperfitError(f"{path}: its tensors are not those of a citation index") from error
    end = start + max((stop for _, _, _, stop in spans.values()), default=0)
    if size != end:
        raise HyperfitError(
            f"{path}: {size} bytes, its header asks for {end}; the file is cut off or damaged, build again"
        )
    mapping = np.memmap(path, dtype=np.uint8, mode="r")
    arrays = {
        # A plain ndarray: indexing a memmap costs twice as much.
        name: mapping[start + first : start + stop].view(dtype).view(np.ndarray).reshape(shape)
        for name, (dtype, shape, first, stop) in spans.items()
    }
    if not all(array.flags.aligned for array in arrays.values()):
        raise HyperfitError(f"{path}: unaligned tensors, a citation index was expected; build it again")
    return metadata, arrays


def _span(entry: Any) -> tuple[type, tuple[int, ...], int, int]:
    """dtype, shape, first and last byte of one header entry, checked against each other."""
    dtype, shape, (first, stop) = _DTYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, first, stop)):
        raise ValueError(entry)
    if math.prod(shape) * np.dtype(dtype).itemsize != stop - first:
        raise ValueError(entry)
    return dtype, shape, first, stop
