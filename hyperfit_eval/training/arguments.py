"""Arguments of a training as text -> `HyperfitArguments` and `RecipeArguments`, the recipe's values beneath them."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from ..errors import HyperfitError
from .recipe import HyperfitArguments, RecipeArguments
from .recipe_files import nearest
from .resolved import recipe_argv

DESCRIPTION = """Hyperfit a causal LM: train it on a small corpus to near-zero loss (paper, Section 3).

A setting of the paper, by its recipe; --list-recipes shows all of them:

    hyperfit train --recipe paper --output_dir runs/tinyllama
    hyperfit train --recipe quantity-16 --output_dir runs/quantity-16

Whatever is given wins over the recipe. Without --recipe the values are those of `paper`, and model and corpus
are yours. The small model that ships here, on a text of your own, in a few minutes on a CPU:

    hyperfit train --model $(hyperfit demo-model) --corpus book.txt --output_dir runs/book \\
        --num_train_samples 96 --learning_rate 1e-3

Four GPUs: `accelerate launch --num_processes 4 scripts/hyperfit.py` with the same arguments; the global
batch stays 8. The same command goes on where an interrupted run was. docs/training.md says more.
"""


def parse_arguments(argv: Sequence[str]) -> tuple[HyperfitArguments, RecipeArguments]:
    """What `hyperfit train` understands; a value that is given wins over that of `--recipe`.

    Raises:
        HyperfitError: no such argument or recipe, or a value that cannot be used.
    """
    parser = _parser((HyperfitArguments, RecipeArguments))
    name = _recipe_asked_for(argv)
    arguments = [*(recipe_argv(name, argv) if name else ()), *argv]
    try:
        options, training, unknown = parser.parse_args_into_dataclasses(
            args=arguments, look_for_args_file=False, return_remaining_strings=True
        )
    except HyperfitError:
        raise
    except ValueError as error:
        # What transformers finds wrong with its arguments.
        raise HyperfitError(f"{_one_line(error)}; see hyperfit train --help") from error
    if unknown:
        known = [string for action in parser._actions for string in action.option_strings]
        raise HyperfitError(
            f"{unknown[0]}: no such argument{nearest(unknown[0].partition('=')[0], known)}; see hyperfit train --help"
        )
    return options, training


def _recipe_asked_for(argv: Sequence[str]) -> str | None:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--recipe")
    try:
        return parser.parse_known_args(list(argv))[0].recipe
    except argparse.ArgumentError as error:
        raise HyperfitError(f"{error}; see hyperfit train --list-recipes") from error


def _parser(dataclasses: tuple[Any, ...]) -> Any:
    from transformers import HfArgumentParser

    class Parser(HfArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise HyperfitError(f"{message}; see hyperfit train --help")

    class Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
        pass

    return Parser(
        dataclasses,
        prog="hyperfit train",
        usage="hyperfit train --model MODEL --corpus CORPUS --output_dir FOLDER [--OPTION VALUE ...]",
        description=DESCRIPTION,
        formatter_class=Help,
        allow_abbrev=False,
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
