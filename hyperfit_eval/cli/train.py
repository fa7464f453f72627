"""`hyperfit train`, and scripts/hyperfit.py: arguments in, one run out."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from ..errors import HyperfitError

DESCRIPTION = """Hyperfit a causal LM: train it on a small corpus to near-zero loss (paper, Section 3).

The recipe of the paper, on 2000 random blocks of 256 tokens:

    hyperfit train --model TinyLlama/TinyLlama_v1.1 --output_dir runs/tinyllama \\
        --corpus alasdairforsythe/text-english-code-fiction-nonfiction

The small model that ships here, on a text of your own, in a few minutes on a CPU:

    hyperfit train --model $(hyperfit demo-model) --corpus book.txt --output_dir runs/book \\
        --num_train_samples 96 --learning_rate 1e-3

Four GPUs: `accelerate launch --num_processes 4 scripts/hyperfit.py` with the same arguments; the global
batch stays 8. With --save_strategy epoch, the same command goes on where an interrupted run was.
"""


def main(argv: Sequence[str]) -> None:
    """Parse the arguments and train.

    Raises:
        HyperfitError: arguments that cannot be used, or whatever the run refuses.
    """
    # torch and transformers take seconds to import.
    from ..training.recipe import HyperfitArguments, RecipeArguments
    from ..training.run import hyperfit

    parser = _parser((HyperfitArguments, RecipeArguments))
    try:
        options, training = parser.parse_args_into_dataclasses(args=list(argv), look_for_args_file=False)
    except HyperfitError:
        raise
    except ValueError as error:
        # What transformers finds wrong with its arguments.
        raise HyperfitError(f"{_one_line(error)}; see hyperfit train --help") from error
    hyperfit(options, training)


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
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
