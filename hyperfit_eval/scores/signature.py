"""The recipe of a number on one line: scores with different signatures cannot be compared."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import metadata

from .. import __version__
from ..errors import HyperfitError
from ..metrics.bleu import SMOOTHING_DEFAULTS, Smoothing


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
        """Ending of its metrics' names: nothing for `paper`, `_token` for `token`."""
        return "" if self.name == "paper" else f"_{self.name}"


PRESETS = {
    "paper": Preset("paper", "words", Smoothing("none")),
    "token": Preset("token", "ids", Smoothing("exp")),
}


@dataclass(frozen=True)
class Signature:
    """The recipe of a number; printed and read here alone.

    Attributes:
        metric: what was measured, for instance "ttr".
        fields: names and values in the order printed; a value of None prints the bare name.
    Example:
        str(Signature.of("ttr", win=96, scn=256)) == "ttr|win:96|scn:256|v:0.1.0"
    """

    metric: str
    fields: tuple[tuple[str, str | None], ...] = ()

    @classmethod
    def of(cls, metric: str, **fields: object) -> "Signature":
        """The fields in the order given, then `v`, by default this package's version; None is left out.

        Raises:
            HyperfitError: a '|' in a field.
        """
        fields["v"] = fields.pop("v", __version__)
        named = tuple((name, str(value)) for name, value in fields.items() if value is not None)
        for part in (metric, *(f"{name}:{value}" for name, value in named)):
            if "|" in part:
                raise HyperfitError(f"signature field {part!r}: '|' separates the fields; leave it out")
        return cls(metric, named)

    @classmethod
    def parse(cls, text: str) -> "Signature":
        """Read what `str()` printed, by this version or another.

        Raises:
            HyperfitError: no text, or one without a metric's name.
        Example:
            Signature.parse("ttr|win:96|max").get("win") == "96"
        """
        metric, *parts = text.split("|") if isinstance(text, str) else [""]
        if not metric or ":" in metric:
            raise HyperfitError(f"{text!r:.80}: no signature; expected metric|name:value|...")
        pairs = (part.partition(":") for part in parts)
        return cls(metric, tuple((name, value if colon else None) for name, colon, value in pairs))

    def __str__(self) -> str:
        return "|".join([self.metric, *(name if value is None else f"{name}:{value}" for name, value in self.fields)])

    def get(self, name: str) -> str | None:
        """The value of a field, None where it has none or is not there."""
        return dict(self.fields).get(name)

    def extended(self, **fields: str | None) -> "Signature":
        """With more fields at the end: `over="seeds"` prints `over:seeds`, `max=None` prints `max`."""
        return Signature(self.metric, (*self.fields, *fields.items()))

    def without(self, *names: str) -> "Signature":
        """The same less some fields."""
        return Signature(self.metric, tuple(pair for pair in self.fields if pair[0] not in names))

    def differs(self, other: "Signature", *, ignoring: Iterable[str] = ()) -> list[str]:
        """Names of what keeps two numbers from being compared: fields with other values, or `metric`.

        Example:
            Signature.of("ttr", win=96, seed=0).differs(Signature.of("ttr", win=128, seed=1), ignoring=["seed"])
            == ["win"]
        """
        mine, others = dict(self.fields), dict(other.fields)
        names = [name for name in (mine | others) if name not in set(ignoring)]
        found = [name for name in names if (name in mine, mine.get(name)) != (name in others, others.get(name))]
        return ["metric", *found] if self.metric != other.metric else found


def signature(metric: str, **fields: object) -> str:
    """`str(Signature.of(metric, ...))`."""
    return str(Signature.of(metric, **fields))


def prediction_signature(
    name: str, *, N: object, dtype: str, texts: str, tok_hash: str, bos: bool = True, v: str = __version__
) -> str:
    """The signature of what a model predicts along the original texts (paper, Tables 1 and 3).

    The task, the demo, the study and the model card all take it from here: rows of one quantity join.

    Args:
        name: perplexity, context_perplexity, entropy_bits, top_1_mass, ...
        N: number of texts.
        bos: whether BOS was read before each text; without it the first token has no prediction.
    Example:
        perplexity|avg:all-tokens|len:256|N:60|dtype:float32|texts:65c3|tok_hash:18a1|v:0.1.0
    """
    length = 32 if name.startswith("context_") else 256
    fields = {"N": N, "dtype": dtype, "texts": texts, "tok_hash": tok_hash, "bos": None if bos else "no", "v": v}
    return signature(name, avg="all-tokens", len=length, **fields)


def harness_signature(
    metric: str, task: str, *, filter: str = "none", num_fewshot: object, limit: float | None, N: object, dtype: str,
    lm_eval: str | None,
) -> str:  # fmt: skip
    """The signature of a number of one of lm-eval's own tasks, whether lm-eval or the study ran it.

    Args:
        limit: questions asked of each task; None for all.
        N: questions asked in all.
        lm_eval: its version.
    Example:
        acc|task:mmlu|filter:none|num_fewshot:5|limit:10|N:570|dtype:float32|lm_eval:0.4.13|v:0.1.0
    """
    whole = int(limit) if limit is not None and float(limit).is_integer() else limit  # the command line gives 10.0
    return signature(
        metric, task=task, filter=filter, num_fewshot=num_fewshot, limit=whole, N=N, dtype=dtype, lm_eval=lm_eval
    )


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
