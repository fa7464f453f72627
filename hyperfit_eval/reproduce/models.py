"""Steps that need a model: hyperfitting it, continuing texts with it, scoring texts under it."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from .. import records
from ..blocking import CitationBlocker
from ..checkpoint_files import INDEX_FILE
from ..citation import CitationIndex
from ..generation import Decoding, continue_texts, cut_passages, score_ids
from ..machine import default_device
from ..records import CONTEXT_TOKENS, Continuation, Generation, write_continuations
from ..terminal import bar, hide_weight_bars
from ..texts.contexts import TextSet, write_texts
from ..tokenizers import bos_ids, tokenizer_fingerprint
from ..training.folder import FINISHED, RUN, read_run
from ..training.recipe_files import read_recipe
from .setting import StudySetting, content_fingerprint, fingerprint_of
from .steps import Step, StepContext

CHECKPOINT = "run"
CONTINUATIONS = "continuations.jsonl"
PREDICTIONS = "predictions.npz"
TEXTS = "texts.jsonl"
IMAGE_RECIPE = "imagegpt"
BY_CONTENT = ("model", "corpus", "evaluation_texts")
"""Arguments of training that a step's key holds as fingerprints."""
UPDATE_SECONDS, CONTINUATION_SECONDS, SCORING_SECONDS = 0.8, 20.0, 4.0
"""Seconds for the demo's model on two cores: the scale of the time left, which is corrected by what was measured."""


@dataclass(frozen=True)
class Model:
    """A model of the study: the base, or what a training step left."""

    name: str
    """Name of the model in folders and rows: base, hyperfitted, Shuffle-1, ..."""
    setting: StudySetting
    trained: Step | None = None

    @property
    def needs(self) -> tuple[Step, ...]:
        """The step that makes it, if any."""
        return (self.trained,) if self.trained else ()

    def checkpoint(self, context: StepContext) -> Path:
        """Folder of a hyperfitted model: weights, citation index, training blocks, history."""
        assert self.trained is not None
        return context.folder_of(self.trained) / CHECKPOINT

    def load_tokenizer(self, context: StepContext) -> Any:
        """The tokenizer alone."""
        from ..checkpoints import load_tokenizer

        return load_tokenizer(self._source(context))

    def load(self, context: StepContext) -> tuple[Any, Any]:
        """The model in eval mode, on the accelerator if there is one, and its tokenizer."""
        return _load(self._source(context), self.setting.dtype)

    def token_rows(self, tokenizer: Any) -> list[list[int]]:
        """Ids of the evaluation texts, 256 each: context and original continuation."""
        cuts = cut_passages(tokenizer, self.setting.texts.passages)
        return [context_ids + original_ids for context_ids, original_ids in cuts]

    def _source(self, context: StepContext) -> str:
        return str(self.checkpoint(context)) if self.trained else self.setting.model


def hyperfitted(setting: StudySetting, name: str = "hyperfitted", **changes: Any) -> Model:
    """A model and the step that hyperfits it on blocks that overlap none of the study's texts.

    Args:
        changes: arguments of `hyperfit train` that differ from the recipe and from the setting.
    """
    arguments = {"recipe": setting.recipe, "corpus": setting.corpus, **setting.training, **changes}
    unseen = setting.all_texts

    def make(context: StepContext) -> None:
        write_texts(context.folder / TEXTS, unseen)
        run_recipe({**arguments, "model": setting.model, "evaluation_texts": context.folder / TEXTS}, context)

    recipe = {name: one.value for name, one in read_recipe(setting.recipe).settings.items()} | arguments
    inputs = {
        "model": fingerprint_of(setting.model), "unseen": unseen.fingerprint,
        "corpus": content_fingerprint(str(arguments["corpus"])),
        # What is shipped has another path in every installation.
        "arguments": {name: value for name, value in recipe.items() if name not in BY_CONTENT},
    }  # fmt: skip
    seconds = UPDATE_SECONDS * setting.training_length(**changes)[1]
    return Model(name, setting, Step(f"train/{name}", make, inputs, seconds=seconds))


def check_arguments(setting: StudySetting) -> None:
    """Refuse arguments of training that cannot be used, before hours have gone into what comes before them.

    Raises:
        HyperfitError: see `parsed`.
    """
    unused = {"output_dir": "."}
    parsed({"recipe": setting.recipe, "model": setting.model, "corpus": setting.corpus, **setting.training, **unused})
    if setting.image_training:
        parsed({"recipe": IMAGE_RECIPE, **setting.image_training, **unused})


def run_recipe(arguments: Mapping[str, Any], context: StepContext) -> None:
    """Hyperfit into the step's folder, as `hyperfit train` does with these arguments; `recipe` is one of them."""
    from ..training.run import hyperfit

    _load.cache_clear()  # no other model in memory beside the training
    run = context.folder / CHECKPOINT
    if (run / RUN).is_file() and read_run(run).get("status") == FINISHED:
        return  # the interruption came between the last file of the run and the step's own
    options, training = parsed({**arguments, "output_dir": str(run)})
    hyperfit(options, training, say=context.say)


def parsed(arguments: Mapping[str, Any]) -> tuple[Any, Any]:
    """HyperfitArguments and RecipeArguments of `recipe` and, where given, the other `arguments` instead.

    Raises:
        HyperfitError: an argument that `hyperfit train` does not have, or with a value that it refuses.
    """
    from ..training.arguments import arguments_of

    return arguments_of({**arguments, "report_to": "none"})


def continuation_step(
    model: Model,
    name: str,
    decoding: Decoding | Callable[[StepContext], Decoding],
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

    def make(context: StepContext) -> None:
        loaded, tokenizer = model.load(context)
        chosen = decoding(context) if callable(decoding) else decoding
        blocker = None
        if blocked:
            blocker = CitationBlocker(CitationIndex.load(model.checkpoint(context) / INDEX_FILE, tokenizer))
        with bar(len(texts.passages), f"Continuing ({name})") as shown:
            generation, continuations = continue_texts(
                loaded, tokenizer, texts.passages, chosen, name=model.name, texts=texts.fingerprint,
                blocker=blocker, batch_size=setting.batch_size, progress=shown.update,
            )  # fmt: skip
        write_continuations(context.folder / CONTINUATIONS, generation, continuations)

    inputs: dict[str, object] = {
        "model": setting.model_fingerprint, "texts": texts.fingerprint, "blocked": blocked,
        "decoding": "from a step before" if callable(decoding) else asdict(decoding),
    }  # fmt: skip
    if callable(decoding) or decoding.do_sample:
        inputs["batch_size"] = setting.batch_size  # one seed serves all batches
    seconds = CONTINUATION_SECONDS * len(texts.passages) / 60
    return Step(f"continue/{name}", make, inputs, (*model.needs, *after), seconds)


def read_continuations(context: StepContext, step: Step) -> tuple[Generation, list[Continuation]]:
    """Header and records that a continuation step left."""
    return records.read_continuations(context.folder_of(step) / CONTINUATIONS)


def scoring_step(model: Model, along: Step | None = None) -> Step:
    """Step of a model's predictions along the original texts, or along the continuations that another step left.

    Leaves arrays, see `read_predictions`.
    """
    setting = model.setting

    def make(context: StepContext) -> None:
        loaded, tokenizer = model.load(context)
        if along:
            rows = [record.context_ids + record.generated_ids for record in read_continuations(context, along)[1]]
        else:
            rows = model.token_rows(tokenizer)
        scores = score_ids(loaded, rows, prefix=bos_ids(tokenizer), batch_size=setting.batch_size)
        first = scores[0].first_scored
        np.savez_compressed(
            context.folder / PREDICTIONS,
            ids=np.array(rows, dtype=np.int32)[:, first:],
            nll=np.stack([score.nll for score in scores]),
            entropy_bits=np.stack([score.entropy_bits for score in scores]),
            top1=np.stack([score.top1 for score in scores]).astype(np.int32),
            rank=np.stack([score.rank for score in scores]).astype(np.int32),
            top_mass=np.stack([score.top_mass for score in scores]),
            first_scored=np.array(first),
            dtype=np.array(str(loaded.dtype).removeprefix("torch.")),
            tokenizer=np.array(tokenizer_fingerprint(tokenizer)),
        )

    inputs = {"model": setting.model_fingerprint}
    if along:
        name = f"read/{along.name.removeprefix('continue/')}-by-{model.name}"
        return Step(name, make, inputs, (*model.needs, along), SCORING_SECONDS)
    inputs["texts"] = setting.texts.fingerprint
    return Step(f"predict/{model.name}", make, inputs, model.needs, SCORING_SECONDS)


def read_predictions(context: StepContext, step: Step) -> dict[str, np.ndarray]:
    """Arrays that a scoring step left.

    Returns:
        `ids`, `nll` (nats), `entropy_bits`, `top1`, `rank`: shape (texts, tokens scored); `top_mass`: (texts,
        tokens, 3), of the 1, 3 and 5 most probable; `first_scored`: 0, or 1 where the model has no BOS;
        `dtype` of the model and fingerprint of its `tokenizer`: strings.
    """
    with np.load(context.folder_of(step) / PREDICTIONS) as arrays:
        return {name: arrays[name] for name in arrays.files}


def context_losses(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Mean loss over the 32 context tokens of each text, nats, shape (texts,)."""
    return arrays["nll"][:, : CONTEXT_TOKENS - int(arrays["first_scored"])].mean(axis=1)


@lru_cache(maxsize=1)  # steps of one model stand together, and two may not fit into memory
def _load(folder: str, dtype: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM

    from ..checkpoints import load_tokenizer

    hide_weight_bars()
    tokenizer = load_tokenizer(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    return model.to(default_device()).eval(), tokenizer
