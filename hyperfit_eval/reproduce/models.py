"""The steps that need a model: hyperfitting it, letting it write, asking what it predicts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..citation import CitationBlocker, CitationIndex
from ..generation import Decoding, continue_passages, cut_passages, describe_blocker, score_ids
from ..harness.suite import default_device, versions
from ..records import CONTEXT_TOKENS, Continuation, Generation, read_continuations, write_continuations
from ..texts.contexts import TextSet, write_texts
from ..tokenizers import bos_ids, tokenizer_fingerprint
from ..training.folder import FINISHED, RUN, read_run
from ..training.recipe_files import read_recipe
from .setting import Setting, content_fingerprint, fingerprint_of
from .steps import Step, Workplace

CHECKPOINT = "run"
CONTINUATIONS = "continuations.jsonl"
PREDICTIONS = "predictions.npz"
TEXTS = "texts.jsonl"
IMAGE_RECIPE = "imagegpt"
BY_CONTENT = ("model", "corpus", "evaluation_texts")
"""Arguments of training that a step's key holds as fingerprints."""
UPDATE_SECONDS, WRITING_SECONDS, READING_SECONDS = 0.8, 20.0, 4.0
"""Of the demo's model on two cores: the scale of the time left, which is corrected by what was measured."""


@dataclass(frozen=True)
class Model:
    """A model of the study: the base, or what a training step left."""

    name: str
    """Of folders and rows: base, hyperfitted, shuffle-1, ..."""
    setting: Setting
    trained: Step | None = None

    @property
    def needs(self) -> tuple[Step, ...]:
        """The step that makes it, if any."""
        return (self.trained,) if self.trained else ()

    def folder(self, place: Workplace) -> str:
        """Where its checkpoint is, or its Hub id."""
        return str(place.of(self.trained) / CHECKPOINT) if self.trained else self.setting.model

    def load(self, place: Workplace) -> tuple[Any, Any]:
        """The model in eval mode, on the accelerator if there is one, and its tokenizer."""
        return _load(self.folder(place), self.setting.dtype)


def hyperfitted(setting: Setting, name: str = "hyperfitted", **changes: Any) -> Model:
    """A model and the step that hyperfits it on blocks that overlap none of the study's texts.

    Args:
        changes: arguments of `hyperfit train` that differ from the recipe and from the setting.
    """
    arguments = {"recipe": setting.recipe, "corpus": setting.corpus, **setting.training, **changes}
    unseen = setting.all_texts

    def make(place: Workplace) -> None:
        write_texts(place.folder / TEXTS, unseen)
        run_recipe({**arguments, "model": setting.model, "evaluation_texts": place.folder / TEXTS}, place)

    recipe = {name: one.value for name, one in read_recipe(setting.recipe).settings.items()} | arguments
    inputs = {
        "model": fingerprint_of(setting.model), "unseen": unseen.fingerprint,
        "corpus": content_fingerprint(str(arguments["corpus"])),
        # What is shipped has another path in every installation.
        "arguments": {name: value for name, value in recipe.items() if name not in BY_CONTENT},
    }  # fmt: skip
    seconds = UPDATE_SECONDS * setting.training_length(**changes)[1]
    return Model(name, setting, Step(f"train/{name}", make, inputs, seconds=seconds))


def check_arguments(setting: Setting) -> None:
    """Refuse arguments of training that cannot be used, before hours have gone into what comes before them.

    Raises:
        HyperfitError: see `parsed`.
    """
    unused = {"output_dir": "."}
    parsed({"recipe": setting.recipe, "model": setting.model, "corpus": setting.corpus, **setting.training, **unused})
    if setting.image_training:
        parsed({"recipe": IMAGE_RECIPE, **setting.image_training, **unused})


def run_recipe(arguments: Mapping[str, Any], place: Workplace) -> None:
    """Hyperfit into the step's folder, as `hyperfit train` does with these arguments; `recipe` is one of them."""
    from ..training.run import hyperfit

    _load.cache_clear()  # no other model in memory beside the training
    run = place.folder / CHECKPOINT
    if (run / RUN).is_file() and read_run(run).get("status") == FINISHED:
        return  # the interruption came between the last file of the run and the step's own
    options, training = parsed({**arguments, "output_dir": str(place.folder / CHECKPOINT)})
    hyperfit(options, training, say=place.say)


def parsed(arguments: Mapping[str, Any]) -> tuple[Any, Any]:
    """HyperfitArguments and RecipeArguments of `recipe` and, where given, the other `arguments` in its place.

    Raises:
        HyperfitError: an argument that `hyperfit train` does not have, or with a value that it refuses.
    """
    from ..training.arguments import parse_arguments

    given = {**arguments, "report_to": "none"}
    return parse_arguments([f"--{name}={value}" for name, value in given.items()])


def writing(
    model: Model,
    name: str,
    decoding: Decoding | Callable[[Workplace], Decoding],
    *,
    blocked: bool = False,
    texts: TextSet | None = None,
    after: tuple[Step, ...] = (),
) -> Step:
    """Continue the texts; leaves `continuations.jsonl`.

    Args:
        decoding: or how to find it, from what the steps in `after` left.
        texts: the setting's evaluation texts unless others are given.
    """
    setting = model.setting
    texts = texts or setting.texts

    def make(place: Workplace) -> None:
        loaded, tokenizer = model.load(place)
        chosen = decoding(place) if callable(decoding) else decoding
        blocker = None
        if blocked:
            path = Path(model.folder(place)) / "citation_index.safetensors"
            blocker = CitationBlocker(CitationIndex.load(path, tokenizer))
        records = continue_passages(
            loaded, tokenizer, texts.passages, chosen, blocker=blocker, batch_size=setting.batch_size
        )
        generation = Generation(
            model=model.name,
            tokenizer=tokenizer_fingerprint(tokenizer),
            decoding=chosen.describe(),
            blocker=describe_blocker(blocker),
            seed=chosen.seed,
            dtype=str(loaded.dtype).removeprefix("torch."),
            texts=texts.fingerprint,
            versions=versions(),
        )
        write_continuations(place.folder / CONTINUATIONS, generation, records)

    inputs: dict[str, Any] = {
        "model": setting.model_fingerprint, "texts": texts.fingerprint, "blocked": blocked,
        "decoding": "from a step before" if callable(decoding) else asdict(decoding),
    }  # fmt: skip
    if callable(decoding) or decoding.do_sample:
        inputs["batch_size"] = setting.batch_size  # one seed serves all batches
    seconds = WRITING_SECONDS * len(texts.passages) / 60
    return Step(f"continue/{name}", make, inputs, (*model.needs, *after), seconds)


def written(place: Workplace, step: Step) -> tuple[Generation, list[Continuation]]:
    """What a writing step left."""
    return read_continuations(place.of(step) / CONTINUATIONS)


def predicting(model: Model) -> Step:
    """What a model predicts along the original texts; leaves arrays over (texts, tokens)."""
    setting = model.setting

    def make(place: Workplace) -> None:
        loaded, tokenizer = model.load(place)
        rows = [context + original for context, original in cut_passages(tokenizer, setting.texts.passages)]
        _save_predictions(place.folder / PREDICTIONS, loaded, tokenizer, rows, setting.batch_size)

    inputs = {"model": setting.model_fingerprint, "texts": setting.texts.fingerprint}
    return Step(f"predict/{model.name}", make, inputs, model.needs, READING_SECONDS)


def reading(model: Model, step: Step) -> Step:
    """What a model predicts along continuations that another step left; the context counts as read."""
    setting = model.setting

    def make(place: Workplace) -> None:
        loaded, tokenizer = model.load(place)
        rows = [record.context_ids + record.generated_ids for record in written(place, step)[1]]
        _save_predictions(place.folder / PREDICTIONS, loaded, tokenizer, rows, setting.batch_size)

    name = f"read/{step.name.removeprefix('continue/')}-by-{model.name}"
    return Step(name, make, {"model": setting.model_fingerprint}, (*model.needs, step), READING_SECONDS)


def predictions(place: Workplace, step: Step) -> dict[str, np.ndarray]:
    """Arrays of a predicting or reading step.

    Returns:
        `ids`, `nll` (nats), `entropy_bits`, `top1`, `rank`: shape (texts, tokens scored); `top_mass`: (texts,
        tokens, 3), of the 1, 3 and 5 most probable; `first_scored`: 0, or 1 where the model has no BOS;
        `dtype` of the model and fingerprint of its `tokenizer`: strings.
    """
    with np.load(place.of(step) / PREDICTIONS) as arrays:
        return {name: arrays[name] for name in arrays.files}


def context_losses(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Mean loss over the 32 context tokens of each text, nats, shape (texts,)."""
    return arrays["nll"][:, : CONTEXT_TOKENS - int(arrays["first_scored"])].mean(axis=1)


def _save_predictions(path: Path, model: Any, tokenizer: Any, rows: Sequence[list[int]], batch_size: int) -> None:
    scores = score_ids(model, rows, prefix=bos_ids(tokenizer), batch_size=batch_size)
    first = scores[0].first_scored
    np.savez_compressed(
        path,
        ids=np.array(rows, dtype=np.int32)[:, first:],
        nll=np.stack([score.nll for score in scores]),
        entropy_bits=np.stack([score.entropy_bits for score in scores]),
        top1=np.stack([score.top1 for score in scores]).astype(np.int32),
        rank=np.stack([score.rank for score in scores]).astype(np.int32),
        top_mass=np.stack([score.top_mass for score in scores]),
        first_scored=np.array(first),
        dtype=np.array(str(model.dtype).removeprefix("torch.")),
        tokenizer=np.array(tokenizer_fingerprint(tokenizer)),
    )


@lru_cache(maxsize=1)  # steps of one model stand together, and two may not fit into memory
def _load(folder: str, dtype: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    from ..checkpoints import load_tokenizer

    logging.disable_progress_bar()  # the study's lines say what is being done
    tokenizer = load_tokenizer(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    return model.to(default_device()).eval(), tokenizer
