"""A recipe file and the command line, resolved: the values that were used, and where each is from."""

from collections.abc import Mapping
from typing import Any

from .recipe import HyperfitArguments, RecipeArguments
from .recipe_files import PAPER, Recipe, Setting, read_recipe

NO_DROPOUT = Setting(0.0, "choice", "near-zero training loss is the aim")
"""Part of the recipe, but no argument."""

LOCATION_ARGUMENTS = {
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
MONITORING_PREFIXES = ("eval_", "evaluation_", "logging_", "log_", "save_", "hub_", "trackio_")
"""Beginnings of arguments that say what is looked at and kept on the way."""
PARTITION_PREFIXES = ("dataloader_", "per_device_", "gradient_accumulation_steps")
"""Beginnings of arguments that divide the same work differently."""


def resolved_recipe(options: HyperfitArguments, training: RecipeArguments) -> dict[str, Setting]:
    """Each value of the recipe as it was used, with its origin.

    Returns:
        Settings by name, whose origin is "paper" (as the paper states it; `why` quotes it), "choice" (the paper leaves
        it open; `why` says ours) or "changed" (given by the user; `default` is what it replaced).
    """
    settings = recipe_settings(options.recipe)
    if training.max_steps > 0:
        settings.pop("num_train_epochs", None)
    elif "max_steps" in settings:
        del settings["max_steps"]
    recipe: dict[str, Setting] = {}
    for name, setting in settings.items():
        if name == "dropout":
            continue
        value = _value(name, options, training)
        recipe[name] = setting if value == setting.value else _changed(value, setting.value)
    recipe["dropout"] = NO_DROPOUT
    for name, value in (options.given | training.given).items():
        if name not in recipe and name not in LOCATION_ARGUMENTS and not name.startswith(("hub_", "trackio_")):
            recipe[name] = _changed(value, None)
    return recipe


def identity(
    options: HyperfitArguments, training: RecipeArguments, recipe: Mapping[str, Setting], blocks: Any
) -> dict[str, Any]:
    """Identity of a run, the same where it may go on from a checkpoint: everything that the final weights depend on.

    Args:
        recipe: as resolved.
        blocks: a `texts.blocks.TrainingBlocks`.
    """
    watched = MONITORING_PREFIXES + PARTITION_PREFIXES
    values = {name: setting.value for name, setting in recipe.items() if not name.startswith(watched)}
    return values | {
        "model": options.model,
        "tokenizer": blocks.tokenizer,
        "corpus": f"{blocks.corpus} ({blocks.corpus_fingerprint})",
        "blocks": blocks.order_hash,
        "bf16": training.bf16,
        "fp16": training.fp16,
    }


def title_of(options: HyperfitArguments) -> str:
    """Title of a saved recipe."""
    recipe: Recipe = read_recipe(options.recipe)
    return f"{recipe.name}: {recipe.title}" if recipe.title != recipe.name else recipe.name


def recipe_settings(name_or_path: str) -> dict[str, Setting]:
    """Settings of a recipe over those of the paper, by name.

    Raises:
        HyperfitError: no such recipe.
    """
    settings = dict(read_recipe(PAPER).settings)
    for name, setting in read_recipe(name_or_path).settings.items():
        # A plain value in a user's file says nothing of its origin; one that is the paper's keeps that.
        if setting.origin != "changed" or name not in settings or settings[name].value != setting.value:
            settings[name] = setting
    return settings


def _changed(value: Any, default: Any) -> Setting:
    why = f"given; the recipe says {default}" if default is not None else "given"
    return Setting(value, "changed", why, default)


def _value(name: str, options: HyperfitArguments, training: RecipeArguments) -> Any:
    value = getattr(options if hasattr(options, name) else training, name)
    return getattr(value, "value", value)
