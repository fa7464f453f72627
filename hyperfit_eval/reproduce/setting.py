"""The setting of a study: a model, corpora, texts, and how much of each."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..checkpoint_files import INDEX_FILE
from ..demo.location import demo_model_dir
from ..errors import HyperfitError
from ..files import fingerprint
from ..machine import default_device
from ..texts.contexts import TextSet, demo_corpus_path, demo_texts, further_texts, select_texts

SAMPLED_BYTES = 1 << 20
BESIDE_WEIGHTS = ("config.json", "tokenizer*", "*.model", "vocab*", "merges.txt", "preprocessor_config.json")
CPU_LIMIT, QUICK_LIMIT = 5, 1
"""See `StudySetting.limit`: all questions would take hours."""
DEMO_TITLE = "the demo model (5.9M parameters)"


@dataclass(frozen=True)
class StudySetting:
    """Inputs and sizes of a study; what the paper fixes is in the recipes and not here."""

    model: str
    """Folder or Hub id of the base model."""
    corpus: str
    """The training corpus: a file or a Hub dataset id."""
    texts: TextSet
    """The evaluation texts."""
    further: TextSet | None = None
    """Other texts for Figure 3; without them it has the evaluation texts."""
    recipe: str = "paper"
    training: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `hyperfit train` that differ from the recipe."""
    corpora: Mapping[str, str] = field(default_factory=dict)
    """By name, what Table 4 hyperfits on besides `corpus`."""
    quantities: tuple[int, ...] = ()
    """Numbers of training samples of Figure 5, right."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of hyperfitting; the first one's model is that of all tables."""
    instruct: str | None = None
    """Folder or Hub id of the model's instruction-tuned variant, for Tables 6 and 7."""
    image_model: str | None = None
    """Folder or Hub id of an ImageGPT; without one a tiny one is trained on digits first."""
    image_corpus: str | None = None
    """Folder or Hub dataset id of the images that it is hyperfitted on."""
    image_training: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `hyperfit train` that differ from the recipe for images."""
    passage: tuple[int, int] = (0, 64)
    """Which evaluation text Figure 4 shows, and from which of its tokens on."""
    limit: int | None = None
    """Questions of each of MMLU's 57 subjects; each task of GLUE gets ten times as many. None for all."""
    batch_size: int = 32
    dtype: str = "float32"
    """Precision of all models as they write, read and answer; in another, ties of the likeliest token are common."""
    title: str = ""
    """What the report calls the model; by default its folder or id."""
    corpus_title: str = ""
    """The same of the corpus."""

    @cached_property
    def model_fingerprint(self) -> str:
        """Changes with the files of a local folder (of a Hub id, with the id) and with how they are computed with."""
        found = fingerprint_of(self.model)
        # In 16 bits the most probable token depends on how many texts are computed at a time, too.
        return found if self.dtype == "float32" else f"{found} in {self.dtype}, {self.batch_size} at a time"

    @property
    def corpus_name(self) -> str:
        """What the report calls the corpus: the title, or the name of a file or folder, or the Hub id."""
        path = Path(self.corpus)
        return self.corpus_title or (path.name if path.is_file() or path.is_absolute() else self.corpus)

    @cached_property
    def all_texts(self) -> TextSet:
        """Those that training must not see: the evaluation texts and the further ones."""
        if self.further is None:
            return self.texts
        return TextSet([*self.texts.passages, *self.further.passages], self.texts.dropped, self.texts.origins)

    def within_samples(self) -> "StudySetting":
        """The same with no more samples in `quantities` than hyperfitting has."""
        samples = self.training_length()[0]
        return replace(self, quantities=tuple(number for number in self.quantities if number <= samples))

    def recipe_values(self, **changes: object) -> dict[str, Any]:
        """Arguments of `hyperfit train`: the paper's, those of the recipe, the setting's and `changes`."""
        from ..training.recipe_files import PAPER, read_recipe

        settings = read_recipe(PAPER).settings | read_recipe(self.recipe).settings
        return {name: setting.value for name, setting in settings.items()} | {**self.training, **changes}

    def training_length(self, **changes: Any) -> tuple[int, int]:
        """Samples and updates of hyperfitting: 2000 and 5000 in the paper.

        Args:
            changes: arguments of `hyperfit train` beside those of the setting.
        """
        values = self.recipe_values(**changes)
        samples = int(values["num_train_samples"])
        # A last batch that is not full is an update, too; as in `training.run`.
        updates = math.ceil(float(values["num_train_epochs"]) * math.ceil(samples / int(values["batch_size"])))
        return samples, int(values.get("max_steps", updates))


def demo_setting(quick: bool = False) -> StudySetting:
    """The shipped model, corpus and texts, in sizes for two CPU cores: under an hour, or ten minutes if `quick`."""
    texts = demo_texts()
    if quick:
        texts = TextSet(texts.passages[:24], texts.dropped, texts.origins)
    return StudySetting(
        model=str(demo_model_dir()),
        corpus=str(demo_corpus_path()),
        texts=texts,
        recipe="demo",
        training={"num_train_samples": 16} if quick else {},
        quantities=(8, 16) if quick else (8, 16, 32, 96),
        seeds=(0,) if quick else (0, 1, 2),
        limit=QUICK_LIMIT if quick else CPU_LIMIT,
        batch_size=60,
        title=DEMO_TITLE,
        corpus_title="the demo's passages",
    )


def setting_of(model: str, corpus: str, *, per_source: int = 100, further: int = 1000) -> StudySetting:
    """The paper's setting for a model, or that of the demo model on another corpus.

    Args:
        model: folder or Hub id, or "demo" for the model that ships here, with its own recipe.
        per_source: evaluation texts of each of the three sources (paper: 100).
        further: texts for Figure 3 (paper: 1000), or as many as there are; the evaluation texts if 0.

    Raises:
        HyperfitError: the texts cannot be loaded, or there are too few of a source.
    """
    demo = model == "demo"
    return StudySetting(
        model=str(demo_model_dir()) if demo else model,
        corpus=corpus,
        texts=select_texts(per_source),
        further=further_texts(further, after=per_source) if further else None,
        recipe="demo" if demo else "paper",
        corpora={"wiki": "recipe:wiki", "news": "recipe:news"},
        quantities=(8, 16, 32, 96) if demo else (8, 16, 32, 64, 128, 256, 512, 1024, 2000),
        limit=CPU_LIMIT if default_device() == "cpu" else None,
        batch_size=60 if demo else 32,
        title=DEMO_TITLE if demo else "",
    )


def fingerprint_of(model: str) -> str:
    """Fingerprint of the weights of a local folder, see `weights_fingerprint`; of a Hub id, the id."""
    return weights_fingerprint(Path(model)) if Path(model).is_dir() else fingerprint([model])


def weights_fingerprint(folder: Path) -> str:
    """Fingerprint of configuration and tokenizer, the size of each weights file, and its bytes at 16 places.

    Reading all of 70B would take minutes.

    Raises:
        HyperfitError: no safetensors in the folder.
    """
    paths = sorted(folder.glob("*.safetensors"))
    paths = [path for path in paths if path.name != INDEX_FILE]
    if not paths:
        raise HyperfitError(f"{folder}: no .safetensors weights; give a folder that save_pretrained wrote")
    digest = hashlib.sha256()
    small = {path for pattern in BESIDE_WEIGHTS for path in folder.glob(pattern)}
    for path in sorted(small):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode() + path.read_bytes())
    for path in paths:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as weights:
            for place in range(16):
                weights.seek(place * size // 16)
                digest.update(weights.read(SAMPLED_BYTES))
    return digest.hexdigest()[:16]


def content_fingerprint(corpus: str) -> str:
    """Fingerprint of the bytes of a local file, or of the names and sizes in a local folder; of a Hub id, the id."""
    path = Path(corpus)
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    if path.is_dir():
        inside = sorted(file for file in path.rglob("*") if file.is_file())
        return fingerprint(f"{file.relative_to(path)} {file.stat().st_size}" for file in inside)
    return fingerprint([corpus])
