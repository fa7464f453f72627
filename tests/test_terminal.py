"""What a command shows beside its results: bars, lines in their place, and no noise of the libraries."""

import io
import logging
import subprocess
import sys

import pytest

from hyperfit_eval import terminal
from hyperfit_eval.cli.main import _take_verbose


@pytest.mark.parametrize(
    ("arguments", "rest", "taken"),
    [
        (["--verbose", "eval", "m"], ["eval", "m"], True),
        (["eval", "m", "--verbose"], ["eval", "m"], True),
        (["eval", "m"], ["eval", "m"], False),
        # What stands behind -- belongs to the engine.
        (["serve", "m", "--", "--verbose"], ["serve", "m", "--", "--verbose"], False),
    ],
)
def test_verbose_may_stand_anywhere(monkeypatch, arguments, rest, taken):
    monkeypatch.setenv(terminal.VERBOSE, "0")
    assert _take_verbose(arguments) == rest
    assert terminal.verbose() is taken


def test_in_a_file_a_bar_is_a_line_a_minute(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("sys.stderr", io.StringIO())
    bar = terminal.bar(300, "Continuing")
    bar._time = lambda: now[0]
    bar.start_t = bar.last_print_t = 0.0
    bar.miniters, bar.dynamic_miniters = 1, False
    for now[0] in range(0, 150, 10):
        bar.update(10)
    bar.close()
    lines = sys.stderr.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("Continuing:") and "70/300" in lines[0]
    assert "\r" not in sys.stderr.getvalue()


@pytest.mark.slow
def test_libraries_are_quiet_unless_wanted():
    code = (
        "from hyperfit_eval.terminal import quiet_libraries; quiet_libraries()\n"
        "import warnings; warnings.warn('noise of a library')\n"
        "from transformers.utils import logging; print(logging.get_verbosity())"
    )
    for value, level, noise in (("0", logging.ERROR, False), ("1", logging.WARNING, True)):
        environment = {"PATH": "/usr/bin", "HYPERFIT_VERBOSE": value}
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert result.stdout.strip() == str(level), result.stderr
        assert ("noise of a library" in result.stderr) is noise


def test_training_help_waits_for_no_heavy_import():
    code = (
        "import sys; from hyperfit_eval.cli.train import main; main(['--help']); "
        "assert not {'torch', 'transformers', 'datasets', 'lm_eval'} & set(sys.modules), sorted(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "--learning_rate X" in result.stdout and "(default: 1e-06)" in result.stdout
    assert "--help_all lists them" in result.stdout


def test_the_package_is_a_command():
    result = subprocess.run([sys.executable, "-m", "hyperfit_eval", "-h"], capture_output=True, text=True)
    assert result.returncode == 0
    assert "Usage: hyperfit" in result.stdout
