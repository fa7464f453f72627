"""The recipe of a number on one line: scores with different signatures cannot be compared."""

from dataclasses import dataclass
from functools import cache
from importlib import metadata

from .. import __version__
from ..errors import HyperfitError
from .bleu import SMOOTHING_DEFAULTS, Smoothing


@dataclass(frozen=True)
class Preset:
    """A reading of the paper's BLEU: what a token is, and what an order without matches counts.

    Attributes:
        unit: "words", split at white space, or "ids", of the model's tokenizer.
    """

    name: str
    unit: str
    smoothing: Smoothing

    @property
    def suffix(self) -> str:
        """What the names of its metrics end in: nothing for `paper`, `_token` for `token`."""
        return "" if self.name == "paper" else f"_{self.name}"


PRESETS = {
    "paper": Preset("paper", "words", Smoothing("none")),
    "token": Preset("token", "ids", Smoothing("exp")),
}


def signature(metric: str, **fields: object) -> str:
    """`metric|key:value|...` in the order given, then the version of this package; None is left out.

    Raises:
        HyperfitError: a '|' in a field.
    Example:
        signature("ttr", win=96, scn=256) == "ttr|win:96|scn:256|v:0.1.0"
    """
    parts = [metric, *(f"{key}:{value}" for key, value in fields.items() if value is not None), f"v:{__version__}"]
    for part in parts:
        if "|" in part:
            raise HyperfitError(f"signature field {part!r}: '|' separates the fields; leave it out")
    return "|".join(parts)


def bleu_signature(metric: str, smoothing: Smoothing, **fields: object) -> str:
    """The signature of a BLEU score: the fields of sacrebleu's own, then ours.

    `nrefs:1` because each pair is scored alone, `tok:none` because sequences come as tokens.

    Example:
        self_bleu|nrefs:1|case:mixed|eff:no|tok:none|smooth:none|version:2.6.0|unit:words|agg:max-pair|...
    """
    smooth = smoothing.method
    if SMOOTHING_DEFAULTS[smooth] is not None:
        smooth += f"[{smoothing.amount:.2f}]"
    effective = "yes" if smoothing.effective_order else "no"
    own = {"nrefs": 1, "case": "mixed", "eff": effective, "tok": "none", "smooth": smooth}
    return signature(metric, **own, version=_sacrebleu_version(), **fields)


@cache
def _sacrebleu_version() -> str:
    """Version of the sacrebleu installed, whose formula ours is tested to equal."""
    try:
        return metadata.version("sacrebleu")
    except metadata.PackageNotFoundError as error:
        raise HyperfitError("a BLEU signature names sacrebleu's version: pip install sacrebleu") from error
