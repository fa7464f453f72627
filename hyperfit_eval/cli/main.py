"""`hyperfit`: the command line of this package. Heavy imports wait until a command needs them."""

import os
import sys

import typer

from .. import __version__
from ..errors import HyperfitError
from ..plain import for_terminal
from ..terminal import VERBOSE, quiet_libraries
from . import evaluate, index, where
from .demo import demo
from .leaderboard import leaderboard
from .playground import playground
from .preference import annotate, judge, pairs, preference
from .publish import push, push_blocker, push_dataset, verify
from .reproduce import reproduce
from .score import compare, score
from .serve import serve

app = typer.Typer(
    name="hyperfit",
    help="Evaluate, train and serve hyperfitted language models.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo)
app.command("eval")(evaluate.evaluate)
app.command()(score)
app.command()(compare)
app.command()(push)
app.command("push-blocker")(push_blocker)
app.command("push-dataset")(push_dataset)
app.command()(verify)
app.command()(reproduce)
app.command()(leaderboard)
app.command()(playground)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(serve)
for _command in (pairs, annotate, judge, preference):
    app.command()(_command)
app.command("demo-model")(where.demo_model)
app.command("tasks-dir")(where.tasks)
app.add_typer(index.app, name="index")


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def train(context: typer.Context) -> None:
    """Hyperfit a causal LM on a small corpus (the same as scripts/hyperfit.py).

    Example: `hyperfit train --model $(hyperfit demo-model) --corpus book.txt --output_dir runs/book
    --learning_rate 1e-3 --num_train_samples 96`
    """
    from .train import main as train_main

    train_main(context.args)


def _version(asked: bool) -> None:
    if asked:
        print(f"hyperfit-eval {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    verbose: bool = typer.Option(
        False, "--verbose", help="Show what the libraries print, too; may stand anywhere, also as HYPERFIT_VERBOSE=1."
    ),
) -> None:
    pass


def _take_verbose(argv: list[str]) -> list[str]:
    """The arguments without `--verbose`, which may stand before or after the command's name and is remembered."""
    ours = argv.index("--") if "--" in argv else len(argv)
    if "--verbose" in argv[:ours]:
        os.environ[VERBOSE] = "1"
    return [argument for i, argument in enumerate(argv) if argument != "--verbose" or i > ours]


def main() -> None:
    """Run the command line; whatever is wrong with what was typed becomes one line and exit status 2."""
    arguments = _take_verbose(sys.argv[1:])
    quiet_libraries()
    try:
        # Not standalone: Typer would draw a box of several lines around a wrong option.
        status = app(arguments, prog_name="hyperfit", standalone_mode=False)
    except HyperfitError as error:
        if os.environ.get("HYPERFIT_TRACEBACK"):
            raise
        print(for_terminal(f"error: {error}"), file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        # The base class of Typer's own errors is click's or Typer's, by version.
        if not hasattr(error, "format_message"):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()  # type: ignore[attr-defined]
            sys.exit(2)
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "hyperfit"
        message = " ".join(error.format_message().split()).rstrip(".")
        print(for_terminal(f"error: {message}; see {command} --help"), file=sys.stderr)
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
