"""`hyperfit train`, and what scripts/hyperfit.py shares with it: arguments in, one run out."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..training.recipe import HyperfitArguments, RecipeArguments


def main(argv: Sequence[str]) -> None:
    """Read the arguments, train, and push where that was asked for.

    Raises:
        HyperfitError: arguments that cannot be used, or whatever the run refuses.
    """
    arguments = read_arguments(argv)
    if arguments is not None:
        from ..training.run import hyperfit

        push = push_afterwards(*arguments)
        hyperfit(*arguments)
        push()


def read_arguments(argv: Sequence[str]) -> "tuple[HyperfitArguments, RecipeArguments] | None":
    """Read the arguments; None where they asked for help or the list of recipes, which was printed."""
    if {"--list-recipes", "--list_recipes"} & set(argv):
        print(recipe_list())
        return None
    # Heavier imports wait: torch and transformers take seconds.
    from ..training.arguments import parse_arguments, short_help

    if {"-h", "--help"} & set(argv):
        print(short_help(), end="")
        return None
    return parse_arguments(["--help" if argument in ("--help-all", "--help_all") else argument for argument in argv])


def push_afterwards(options: "HyperfitArguments", training: "RecipeArguments") -> Callable[[], None]:
    """The push of --push_to_hub, to be called after training; nothing without that argument.

    Raises:
        HyperfitError: what cannot be published, before training, which may take hours.
    """
    if not training.push_to_hub:
        return lambda: None
    from ..extras import require_extra

    require_extra("reports", "--push_to_hub", "jinja2")
    from ..publish.model import push_trained, require_pushable
    from ..training.run import withhold_token

    withhold_token(training)
    repo, private, revision = training.hub_model_id, bool(training.hub_private_repo), training.hub_revision
    require_pushable(options.model, repo, private, revision)
    training.push_to_hub = False

    def push() -> None:
        if training.process_index == 0:
            push_trained(Path(training.output_dir), str(repo), private, revision)

    return push


def recipe_list() -> str:
    """The shipped recipes with what each is for, and where their files are."""
    from ..training.recipe_files import FOLDER, read_recipe, recipe_names

    names = recipe_names()
    width = max(map(len, names))
    rows = [f"{name:<{width}}  {read_recipe(name).title}" for name in names]
    return "\n".join([*rows, f"Files, with the paper's words beside each value: {FOLDER}"])
