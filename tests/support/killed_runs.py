"""Runs in processes of their own, to be killed; forked from a server that has imported torch once."""

import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path

from hyperfit_eval.cli.train import main as command_line
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.training.recipe import HyperfitArguments, RecipeArguments
from hyperfit_eval.training.run import hyperfit

# What the arguments need is imported by the first run; better here, once.
import transformers.models.llama.modeling_llama  # noqa: F401  isort:skip

CHANGES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}


def train(options, training, progress=None, say=lambda line: None):
    return hyperfit(HyperfitArguments(**options), RecipeArguments(**training), progress=progress, say=say)


def killed_at_change(options, training, number):
    """Killed just before this process changes its folder for the `number`-th time."""
    folder, seen = training["output_dir"], 0

    def hook(event, arguments):
        nonlocal seen
        if event in CHANGES and arguments and str(arguments[0]).startswith(folder):
            if event == "open" and not (isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")):
                return
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    train(options, training)


def killed_at_step(options, training, number):
    """Killed right after an update."""

    def progress(step, steps):
        if step == number:
            os.kill(os.getpid(), signal.SIGKILL)

    train(options, training, progress)


def without_room(options, training, step, size, report):
    """From this update on no file may be longer than `size` bytes; the error goes into a file."""

    def progress(now, steps):
        if now == step:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    try:
        train(options, training, progress)
    except HyperfitError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        Path(report).write_text(str(error))


def waits(options, training, step):
    """Stands still after an update, until it is killed."""

    def progress(now, steps):
        if now == step:
            (Path(training["output_dir"]) / "waiting").touch()
            time.sleep(60)

    train(options, training, progress)


def told_to_stop(argv, folder, output):
    """The command line, sent SIGTERM as soon as it has evaluated the model for the first time."""
    history = Path(folder) / "history.jsonl"

    def send():
        while not history.exists():
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=send, daemon=True).start()
    sys.stderr = sys.stdout = Path(output).open("w")  # noqa: SIM115
    command_line(argv)
