"""What a study is run on: a model, corpora, texts, and how much of each."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..demo.location import demo_model_dir
from ..errors import HyperfitError
from ..files import fingerprint
from ..texts.contexts import TextSet, demo_corpus_path, demo_texts, select_texts

SAMPLED_BYTES = 1 << 20


@dataclass(frozen=True)
class Setting:
    """Inputs and sizes of a study; what the paper fixes is in the recipes and not here."""

    model: str
    """Folder or Hub id of the base model."""
    corpus: str
    """What it is hyperfitted on: a file or a Hub dataset id."""
    texts: TextSet
    """The evaluation texts."""
    recipe: str = "paper"
    training: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `hyperfit train` that differ from the recipe."""
    corpora: Mapping[str, str] = field(default_factory=dict)
    """By name, what Table 4 hyperfits on besides `corpus`."""
    quantities: tuple[int, ...] = ()
    """Numbers of training samples of Figure 5, right."""
    seeds: tuple[int, ...] = (0,)
    """Of hyperfitting; the first one's model is that of all tables."""
    limit: int | None = None
    """Questions of each task of MMLU and GLUE; None for all."""
    batch_size: int = 32
    title: str = ""
    """What the report calls the model; by default its folder or id."""

    @cached_property
    def model_fingerprint(self) -> str:
        """Changes with the weights of a local folder; of a Hub id, the id."""
        return fingerprint([self.model]) if not Path(self.model).is_dir() else weights_fingerprint(Path(self.model))


def demo_setting(quick: bool = False) -> Setting:
    """The shipped model, corpus and texts, in sizes for two CPU cores."""
    texts = demo_texts()
    if quick:
        texts = TextSet(texts.passages[:30], texts.dropped, texts.origins)
    return Setting(
        model=str(demo_model_dir()),
        corpus=str(demo_corpus_path()),
        texts=texts,
        recipe="demo",
        training={"num_train_samples": 48} if quick else {},
        quantities=(8, 48) if quick else (8, 16, 32, 96),
        seeds=(0,) if quick else (0, 1, 2),
        limit=5 if quick else 20,
        batch_size=60,
        title="the demo model (5.9M parameters)",
    )


def setting_of(model: str, corpus: str, **changes: Any) -> Setting:
    """The paper's setting for a model: 300 texts, its recipe, its quantities of data.

    Raises:
        HyperfitError: the evaluation texts cannot be loaded, or a quantity is no number of samples.
    """
    setting = Setting(
        model=model,
        corpus=corpus,
        texts=select_texts(),
        corpora={"wiki": "recipe:wiki", "news": "recipe:news"},
        quantities=(8, 16, 32, 64, 128, 256, 512, 1024, 2000),
        **changes,
    )
    if wrong := [number for number in setting.quantities if number < 1]:
        raise HyperfitError(f"{wrong[0]} training samples: expected 1 or more")
    return setting


def weights_fingerprint(folder: Path) -> str:
    """Of the size of each weights file and its bytes at 16 places: reading all of 70B would take minutes.

    Raises:
        HyperfitError: no safetensors in the folder.
    """
    paths = sorted(folder.glob("*.safetensors"))
    paths = [path for path in paths if path.name != "citation_index.safetensors"]
    if not paths:
        raise HyperfitError(f"{folder}: no .safetensors weights; give a folder that save_pretrained wrote")
    digest = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as weights:
            for place in range(16):
                weights.seek(place * size // 16)
                digest.update(weights.read(SAMPLED_BYTES))
    return digest.hexdigest()[:16]
