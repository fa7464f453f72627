"""What a model card says of a run, read from its run.json with types."""

from dataclasses import dataclass
from typing import Any

from ..documents import Value, brief


@dataclass(frozen=True)
class RecipeEntry:
    """One value of the recipe and where it comes from."""

    value: str
    origin: str
    """"paper", "choice" or "changed"."""
    why: str
    default: str | None
    """The recipe's own value, where it was changed."""


@dataclass(frozen=True)
class RunFacts:
    """The facts of a finished run; losses in nats a token."""

    corpus: str
    corpus_fingerprint: str
    blocks: int
    block_tokens: int
    blocks_fingerprint: str
    blocks_order_hash: str
    texts_checked: bool
    """Whether evaluation texts were kept out of the blocks."""
    shared_words: int
    blocks_left_out: int
    unchecked_reason: str
    train_loss: float
    validation_loss: float | None
    step: int
    epoch: float
    training_seconds: float
    device: str
    processes: int
    version: str
    recipe: dict[str, RecipeEntry]

    @classmethod
    def from_json(cls, run: Value) -> "RunFacts":
        """Read run.json.

        Raises:
            HyperfitError: with the field that is missing or of another type.
        """
        data, results, texts, machine = (run[name] for name in ("data", "results", "evaluation_texts", "machine"))
        checked = texts["checked"].flag()
        names = ("corpus", "corpus_fingerprint", "blocks_fingerprint", "blocks_order_hash")
        return cls(
            **{name: data[name].text() for name in names},
            blocks=data["blocks"].integer(),
            block_tokens=data["block_tokens"].integer(),
            texts_checked=checked,
            shared_words=texts["shared_words"].integer() if checked else 0,
            blocks_left_out=texts["blocks_left_out"].integer() if checked else 0,
            unchecked_reason="" if checked else texts["reason"].text(),
            train_loss=results["train_loss"].number(),
            validation_loss=results.optional("validation_loss", Value.number),
            step=results["step"].integer(),
            epoch=results["epoch"].number(),
            training_seconds=run["cost"]["training_seconds"].number(),
            device=machine["device"].text(),
            processes=machine["processes"].integer(),
            version=run["versions"]["hyperfit-eval"].text(),
            recipe={name: _entry(entry) for name, entry in run["recipe"].items()},
        )


def _entry(entry: Value) -> RecipeEntry:
    origin = entry["origin"].text()
    if origin not in ("paper", "choice", "changed"):
        raise entry["origin"].error("paper, choice or changed")
    default = entry.get("default")
    why = entry.optional("why", Value.text) or "Section 3"
    return RecipeEntry(_plain(entry.content.get("value")), origin, why, _plain(default.content) if default else None)


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    # Lists and such are short there; a huge integer would be refused by str().
    return brief(value) if isinstance(value, int) and not isinstance(value, bool) else f"{value!s:.500}"
