"""Arguments of a training as text -> `HyperfitArguments` and `RecipeArguments`, the recipe's values beneath them.

torch and transformers, which take seconds to import, wait until there is something to parse.
"""

import argparse
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from enum import Enum
from functools import cache
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
        for argument in fields(arguments):
            required = argument.default is MISSING
            group.add_argument(
                f"--{argument.name}",
                required=required,
                default=argparse.SUPPRESS if required or argument.default is None else argument.default,
                metavar=METAVARS.get((*get_args(argument.type), argument.type)[0]),
                choices=[choice for choice in get_args(argument.type) if isinstance(choice, str)] or None,
                help=argument.metadata["help"],
            )
    return parser.format_help()


def parse_arguments(argv: Sequence[str]) -> "tuple[HyperfitArguments, RecipeArguments]":
    """Read the arguments of `hyperfit train`; a value that is typed wins over that of `--recipe`.

    Raises:
        HyperfitError: no such argument or recipe, or a value that cannot be used.
    """
    parser = _parser()
    if {"-h", "--help"} & set(argv):
        parser.parse_args(["--help"])
    # Without defaults the namespace holds what was typed, and nothing else.
    for action in parser._actions:
        action.default, action.required = argparse.SUPPRESS, False
    typed, unknown = parser.parse_known_args(list(argv))
    if unknown:
        raise _unknown(unknown[0])
    return _over_recipe(vars(typed))


def arguments_of(typed: Mapping[str, Any]) -> "tuple[HyperfitArguments, RecipeArguments]":
    """Arguments by their names, over those of the recipe that is one of them.

    Args:
        typed: values, or texts as on the command line.
    Raises:
        HyperfitError: as `parse_arguments`.
    """
    return _over_recipe(dict(zip(typed, _converted(typed, ""), strict=True)))


def _over_recipe(typed: dict[str, Any]) -> "tuple[HyperfitArguments, RecipeArguments]":
    from .recipe import RecipeArguments

    recipe = recipe_values(str(typed["recipe"]), typed) if "recipe" in typed else {}
    source = f"--recipe {typed.get('recipe')}: "
    values = dict(zip(recipe, _converted(recipe, source), strict=True)) | typed
    missing = [
        f"--{argument.name}"
        for kind in (HyperfitArguments, RecipeDefaults)
        for argument in fields(kind)
        if argument.default is MISSING and argument.name not in values
    ]
    if missing:
        raise HyperfitError(f"the following arguments are required: {', '.join(missing)}; see hyperfit train --help")
    try:
        options = HyperfitArguments(**_of(HyperfitArguments, values))
        training = RecipeArguments(**_of(RecipeArguments, values))
    except HyperfitError:
        raise
    except (ValueError, ImportError, OSError) as error:
        # What transformers finds wrong with its arguments, or does not find installed.
        raise HyperfitError(f"{' '.join(str(error).split())}; see hyperfit train --help") from error
    shown = {name: getattr(value, "value", value) for name, value in typed.items() if not name.endswith("_token")}
    options.given, training.given = _of(HyperfitArguments, shown), _of(RecipeArguments, shown)
    return options, training


def _of(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that a dataclass has fields for, in their order."""
    return {argument.name: values[argument.name] for argument in fields(kind) if argument.name in values}


def recipe_values(name_or_path: str, typed: Container[str] = ()) -> dict[str, Any]:
    """Values of a recipe for the arguments, by name.

    Args:
        typed: names of the arguments that the user gave. If they say how long to train, what the recipe says of that
            is left out.
    Raises:
        HyperfitError: no such recipe, or one with a setting that does not exist, with the nearest name.
    """
    from .recipe import RecipeArguments
    from .resolved import recipe_settings

    known = {argument.name for kind in (HyperfitArguments, RecipeArguments) for argument in fields(kind)}
    values = {}
    for name, setting in recipe_settings(name_or_path).items():
        if name == "dropout":
            continue
        if name not in known:
            raise HyperfitError(f"--recipe {name_or_path}: no setting '{name}'{nearest(name, sorted(known))}")
        # Trainer would let a number of updates win over one of epochs.
        if setting.value is not None and not (name == "max_steps" and "num_train_epochs" in typed):
            values[name] = setting.value
    return values


def _converted(values: Mapping[str, Any], source: str) -> Iterator[Any]:
    """Values as the parser would have them from text."""
    for name, value in values.items():
        action = _actions().get(name)
        if action is None:
            raise _unknown(f"--{name}={value}")
        if value is None or isinstance(value, bool | dict | list | Enum) or not callable(action.type):
            converted = value
        else:
            try:
                converted = action.type(str(value))
            except (ValueError, argparse.ArgumentTypeError) as error:
                kind = getattr(action.type, "__name__", "")
                raise HyperfitError(
                    f"{source}argument --{name}: invalid {kind} value: {str(value)!r}; see hyperfit train --help"
                ) from error
        if action.choices is not None and converted not in action.choices:
            choices = ", ".join(map(repr, action.choices))
            raise HyperfitError(
                f"{source}argument --{name}: invalid choice: {converted!r} (choose from {choices}); "
                "see hyperfit train --help"
            )
        yield [converted] if action.nargs in ("+", "*") and not isinstance(converted, list) else converted


def _unknown(argument: str) -> HyperfitError:
    known = [option for action in _parser()._actions for option in action.option_strings]
    near = nearest(argument.partition("=")[0], known)
    return HyperfitError(f"{argument}: no such argument{near}; see hyperfit train --help")


@cache
def _actions() -> dict[str, argparse.Action]:
    """The parser's own knowledge of each argument; of `--NAME` rather than of `--no_NAME`."""
    return {action.dest: action for action in reversed(_parser()._actions)}


def _parser() -> Any:
    from transformers import HfArgumentParser

    from .recipe import RecipeArguments

    class Parser(HfArgumentParser):
        def error(self, message: str) -> NoReturn:
            help_option = "--list-recipes" if message.startswith("argument --recipe:") else "--help"
            raise HyperfitError(f"{message}; see hyperfit train {help_option}")

    dataclasses: tuple[Any, ...] = (HyperfitArguments, RecipeArguments)
    return Parser(
        dataclasses,
        prog="hyperfit train",
        usage=USAGE,
        description=DESCRIPTION,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
