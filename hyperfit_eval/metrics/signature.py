"""The recipe of a number, on one line: two scores can be compared when their signatures are equal."""

from dataclasses import dataclass
from functools import cache
from importlib import metadata

from .. import __version__
from ..errors import HyperfitError
from .bleu import SMOOTHING_DEFAULTS, Smoothing


@dataclass(frozen=True)
class Preset:
    """A reading of the paper's BLEU: what a token is, and what an order without matches counts."""

    name: str
    unit: str
    """"words" (split at white space) or "ids"."""
    smoothing: Smoothing


PRESETS = {
    "paper": Preset("paper", "words", Smoothing("none")),
    "token": Preset("token", "ids", Smoothing("exp")),
}


def signature(metric: str, **fields: object) -> str:
    """`metric|key:value|...`, in the order given, ended by this package's version; None is left out.

    Example:
        signature("ttr", win=96, scn=256) == "ttr|win:96|scn:256|v:0.1.0"
    """
    parts = [f"{key}:{value}" for key, value in fields.items() if value is not None]
    for part in [metric, *parts]:
        if "|" in part:
            raise HyperfitError(f"signature: {part!r} holds a '|', which separates its fields")
    return "|".join([metric, *parts, f"v:{__version__}"])


def bleu_signature(metric: str, smoothing: Smoothing, **fields: object) -> str:
    """Signature of a BLEU score: sacrebleu's own fields (one reference, tokens as given), then ours.

    Example:
        self_bleu|nrefs:1|case:mixed|eff:no|tok:none|smooth:exp|version:2.6.0|unit:ids|agg:max-pair|N:300|v:0.1.0
    """
    smooth = smoothing.method
    if SMOOTHING_DEFAULTS[smooth] is not None:
        smooth += f"[{smoothing.value:.2f}]"
    effective = "yes" if smoothing.effective_order else "no"
    own = {"nrefs": 1, "case": "mixed", "eff": effective, "tok": "none", "smooth": smooth}
    return signature(metric, **own, version=_sacrebleu_version(), **fields)


@cache
def _sacrebleu_version() -> str:
    """Version of the sacrebleu whose formula the scores are checked against."""
    try:
        return metadata.version("sacrebleu")
    except metadata.PackageNotFoundError as error:
        raise HyperfitError("signatures name the sacrebleu version: pip install sacrebleu") from error
