"""`hyperfit train`, and scripts/hyperfit.py: arguments in, one run out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..training.recipe import HyperfitArguments, RecipeArguments


def main(argv: Sequence[str]) -> None:
    """Parse the arguments and train.

    Raises:
        HyperfitError: arguments that cannot be used, or whatever the run refuses.
    """
    if {"--list-recipes", "--list_recipes"} & set(argv):
        print(recipe_list())
        return
    # Heavier imports wait: torch and transformers take seconds.
    from ..training.arguments import parse_arguments, short_help

    if {"-h", "--help"} & set(argv):
        print(short_help(), end="")
        return
    parsed = parse_arguments(["--help" if each in ("--help-all", "--help_all") else each for each in argv])
    from ..training.run import hyperfit

    if parsed[1].push_to_hub:
        _train_and_push(*parsed)
    else:
        hyperfit(*parsed)


def _train_and_push(options: "HyperfitArguments", training: "RecipeArguments") -> None:
    """What cannot be published is refused before training, which may take hours."""
    from ..publish.model import push_trained, require_pushable
    from ..training.run import hyperfit, withhold_token

    withhold_token(training)
    repo, private, revision = training.hub_model_id, bool(training.hub_private_repo), training.hub_revision
    require_pushable(options.model, repo, private, revision)
    training.push_to_hub = False
    run = hyperfit(options, training)
    if training.process_index == 0:
        push_trained(run.folder, str(repo), private, revision)


def recipe_list() -> str:
    """The shipped recipes with what each is for, and where their files are."""
    from ..training.recipe_files import FOLDER, read_recipe, recipe_names

    names = recipe_names()
    width = max(map(len, names))
    rows = [f"{name:<{width}}  {read_recipe(name).title}" for name in names]
    return "\n".join([*rows, f"Files, with the paper's words beside each value: {FOLDER}"])
