"""Arguments of a training as text -> `HyperfitArguments` and `RecipeArguments`, the recipe's values beneath them.

torch and transformers, which take seconds to import, wait until there is something to parse.
"""

import argparse
from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from ..errors import HyperfitError
from .options import HyperfitArguments, RecipeDefaults
from .recipe_files import nearest

if TYPE_CHECKING:
    from .recipe import RecipeArguments

USAGE = "hyperfit train --model MODEL --corpus CORPUS --output_dir FOLDER [--OPTION VALUE ...]"
DESCRIPTION = """Hyperfit a causal LM: train it on a small corpus to near-zero loss (paper, Section 3).

A setting of the paper, by its recipe; --list-recipes shows all of them:

    hyperfit train --recipe paper --output_dir runs/tinyllama
    hyperfit train --recipe quantity-16 --output_dir runs/quantity-16

Whatever is given wins over the recipe. Without --recipe the values are those of `paper`, and model and corpus
are yours. The small model that ships here, on a text of your own, in a few minutes on a CPU:

    hyperfit train --model $(hyperfit demo-model) --corpus book.txt --output_dir runs/book \\
        --num_train_samples 96 --learning_rate 1e-3

Four GPUs: `accelerate launch --num_processes 4 scripts/hyperfit.py` with the same arguments; the global
batch stays 8. Rerun the same command to resume an interrupted run. docs/training.md says more.
"""
METAVARS = {int: "N", float: "X", bool: "BOOL", str: "TEXT"}
EPILOG = "All other arguments of transformers.TrainingArguments are accepted, too: --help_all lists them."


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Examples as they are typed, and the default of each argument."""


def short_help() -> str:
    """Our own arguments and those with a default of ours, as `--help` shows them."""
    parser = argparse.ArgumentParser(
        prog="hyperfit train", usage=USAGE, description=DESCRIPTION, epilog=EPILOG, formatter_class=_Formatter
    )
    for arguments in (HyperfitArguments, RecipeDefaults):
        group = parser.add_argument_group(arguments._argument_group_name)
        for each in fields(arguments):
            required = each.default is MISSING
            group.add_argument(
                f"--{each.name}",
                required=required,
                default=argparse.SUPPRESS if required or each.default is None else each.default,
                metavar=METAVARS.get((*get_args(each.type), each.type)[0]),
                choices=[choice for choice in get_args(each.type) if isinstance(choice, str)] or None,
                help=each.metadata["help"],
            )
    return parser.format_help()


def parse_arguments(argv: Sequence[str]) -> "tuple[HyperfitArguments, RecipeArguments]":
    """What `hyperfit train` understands; a value that is given wins over that of `--recipe`.

    Raises:
        HyperfitError: no such argument or recipe, or a value that cannot be used.
    """
    from .recipe import RecipeArguments
    from .resolved import recipe_argv

    parser = _parser((HyperfitArguments, RecipeArguments))
    name = _recipe_asked_for(argv)
    arguments = [*(recipe_argv(name, argv) if name else ()), *argv]
    try:
        options, training, unknown = parser.parse_args_into_dataclasses(
            args=arguments, look_for_args_file=False, return_remaining_strings=True
        )
    except HyperfitError:
        raise
    except (ValueError, ImportError, OSError) as error:
        # What transformers finds wrong with its arguments, or does not find installed.
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

    return Parser(
        dataclasses,
        prog="hyperfit train",
        usage=USAGE,
        description=DESCRIPTION,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
