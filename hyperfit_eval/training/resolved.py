"""A recipe file and the command line, resolved: the values that were used, and where each is from."""

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from ..errors import HyperfitError
from .recipe import HyperfitArguments, RecipeArguments
from .recipe_files import PAPER, Recipe, Setting, nearest, read_recipe

NO_DROPOUT = {"value": 0.0, "origin": "choice", "why": "near-zero training loss is the aim"}
"""Of the recipe, but no argument."""

OF_THE_PLACE = {
    "recipe",
    "output_dir",
    "overwrite_output_dir",
    "resume_from_checkpoint",
    "push_to_hub",
    "run_name",
    "disable_tqdm",
    "report_to",
    "project",
    "use_cpu",
    "debug",
    "include_num_input_tokens_seen",
}
"""Arguments that say where a run is made and shown, not what it is."""
OF_THE_WATCHING = ("eval_", "evaluation_", "logging_", "log_", "save_", "hub_", "trackio_")
"""Beginnings of arguments that say what is looked at and kept on the way."""
OF_THE_MACHINE = ("dataloader_", "per_device_", "gradient_accumulation_steps")
"""Beginnings of arguments that divide the same work differently."""


def recipe_argv(name_or_path: str, given: Sequence[str] = ()) -> list[str]:
    """A recipe as command-line arguments, to be followed by those of the user, which win.

    Args:
        given: the user's own arguments. Where they say how long to train, what the recipe says of that is dropped.
    Raises:
        HyperfitError: no such recipe, or one with a setting that does not exist, with the nearest name.
    """
    known = {each.name for arguments in (HyperfitArguments, RecipeArguments) for each in fields(arguments)}
    argv = []
    epochs_given = any(each.replace("-", "_").startswith("__num_train_epochs") for each in given)
    for name, setting in _settings(name_or_path).items():
        if name == "dropout":
            continue
        if name not in known:
            raise HyperfitError(f"--recipe {name_or_path}: no setting '{name}'{nearest(name, sorted(known))}")
        if setting.value is None or (name == "max_steps" and epochs_given):
            continue
        value = setting.value
        argv += [f"--{name}", json.dumps(value) if isinstance(value, (bool, dict)) else str(value)]
    return argv


def resolved_recipe(options: HyperfitArguments, training: RecipeArguments) -> dict[str, dict[str, Any]]:
    """Each value of the recipe as it was used, with its origin.

    Returns:
        Name to {"value", "origin", "why"}, where origin is "paper" (as the paper states it; "why" quotes it),
        "choice" (the paper leaves it open; "why" says ours) or "changed" (given by the user; "default" is
        what it replaced).
    """
    settings = _settings(options.recipe)
    if training.max_steps > 0:
        settings.pop("num_train_epochs", None)
    elif "max_steps" in settings:
        del settings["max_steps"]
    recipe: dict[str, dict[str, Any]] = {}
    for name, setting in settings.items():
        if name == "dropout":
            continue
        value = _value(name, options, training)
        recipe[name] = setting.describe() if value == setting.value else _changed(value, setting.value)
    recipe["dropout"] = NO_DROPOUT
    for name, value in (options.given | training.given).items():
        if name not in recipe and name not in OF_THE_PLACE and not name.startswith(("hub_", "trackio_")):
            recipe[name] = _changed(value, None)
    return recipe


def identity(
    options: HyperfitArguments, training: RecipeArguments, recipe: dict[str, dict[str, Any]], blocks: Any
) -> dict[str, Any]:
    """What must be the same for a run to go on from a checkpoint: everything that the final weights depend on.

    Args:
        recipe: as resolved.
        blocks: a `texts.blocks.TrainingBlocks`.
    """
    watched = OF_THE_WATCHING + OF_THE_MACHINE
    values = {name: entry["value"] for name, entry in recipe.items() if not name.startswith(watched)}
    return values | {
        "model": options.model,
        "tokenizer": blocks.tokenizer,
        "corpus": f"{blocks.corpus} ({blocks.corpus_fingerprint})",
        "blocks": blocks.order_hash,
        "bf16": training.bf16,
        "fp16": training.fp16,
    }


def title_of(options: HyperfitArguments) -> str:
    """What a saved recipe is called."""
    recipe: Recipe = read_recipe(options.recipe)
    return f"{recipe.name}: {recipe.title}" if recipe.title != recipe.name else recipe.name


def _settings(name_or_path: str) -> dict[str, Setting]:
    """The paper's, overlaid by those of a recipe."""
    settings = dict(read_recipe(PAPER).settings)
    for name, setting in read_recipe(name_or_path).settings.items():
        # A plain value in a user's file says nothing of its origin; one that is the paper's keeps that.
        if setting.origin != "changed" or name not in settings or settings[name].value != setting.value:
            settings[name] = setting
    return settings


def _changed(value: Any, default: Any) -> dict[str, Any]:
    why = f"given; the recipe says {default}" if default is not None else "given"
    return {"value": value, "origin": "changed", "why": why, "default": default}


def _value(name: str, options: HyperfitArguments, training: RecipeArguments) -> Any:
    value = getattr(options if hasattr(options, name) else training, name)
    return getattr(value, "value", value)
