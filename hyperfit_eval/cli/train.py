"""`hyperfit train`, and scripts/hyperfit.py: arguments in, one run out."""

from collections.abc import Sequence


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
    options = parse_arguments(["--help" if each in ("--help-all", "--help_all") else each for each in argv])
    from ..training.run import hyperfit

    hyperfit(*options)


def recipe_list() -> str:
    """The shipped recipes with what each is for, and where their files are."""
    from ..training.recipe_files import FOLDER, read_recipe, recipe_names

    names = recipe_names()
    width = max(map(len, names))
    rows = [f"{name:<{width}}  {read_recipe(name).title}" for name in names]
    return "\n".join([*rows, f"Files, with the paper's words beside each value: {FOLDER}"])
