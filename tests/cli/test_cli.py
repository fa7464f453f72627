"""The command line: help with an example for each command, results on disk, one-line errors."""

import json
import subprocess
import sys

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from hyperfit_eval import __version__
from hyperfit_eval.cli.main import app
from hyperfit_eval.demo.location import demo_model_dir
from hyperfit_eval.harness.location import tasks_dir
from hyperfit_eval.records import Continuation, Generation, write_continuations
from hyperfit_eval.scores import score_records


def named(group, before=()):
    """The commands of a group and of the groups in it, as they are typed."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from named(command, (*before, name))
        else:
            yield " ".join((*before, name))


COMMANDS = sorted(set(named(get_command(app))) - {"train"})  # whose help comes from elsewhere, see below


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def hyperfit(*arguments, cwd=None):
    command = [sys.executable, "-m", "hyperfit_eval.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


def records(seed):
    return [
        Continuation(
            id=f"news-{i}",
            source="news",
            context_ids=[1] * 32,
            original_ids=[(i + j) % 97 for j in range(224)],
            generated_ids=[(seed * i + j * j) % 89 for j in range(224)],
            context_text=f"context {i}",
            original_text=" ".join(str((i + j) % 97) for j in range(224)),
            generated_text=" ".join(str((seed * i + j * j) % 89) for j in range(224)),
            original_text_at_128=" ".join(str((i + j) % 97) for j in range(96)),
            generated_text_at_128=" ".join(str((seed * i + j * j) % 89) for j in range(96)),
        )
        for i in range(6)
    ]


@pytest.fixture
def files(tmp_path):
    paths = []
    for seed in (3, 5):
        generation = Generation(f"model-{seed}", "0" * 16, {"method": "greedy", "new_tokens": 224})
        write_continuations(tmp_path / f"{seed}.jsonl", generation, records(seed))
        paths.append(tmp_path / f"{seed}.jsonl")
    return paths


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    assert "Example" in result.output


def test_training_help_comes_from_its_own_parser():
    done = hyperfit("train", "--help")
    assert done.returncode == 0
    assert "--num_train_samples" in done.stdout


def test_places_and_version():
    assert run("--version").output == f"hyperfit-eval {__version__}\n"
    assert run("demo-model").output.strip() == str(demo_model_dir())
    assert run("tasks-dir").output.strip() == str(tasks_dir())
    assert (tasks_dir() / "hyperfit_openended.yaml").is_file()


def test_scores_are_printed_and_written_the_same_twice(files, tmp_path):
    for name in ("once.json", "twice.json"):
        result = run("score", files[0], "--json", tmp_path / name)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "once.json").read_bytes() == (tmp_path / "twice.json").read_bytes()
    written = json.loads((tmp_path / "once.json").read_text())
    generation = Generation("model-3", "0" * 16, {"method": "greedy", "new_tokens": 224})
    expected = score_records(generation, records(3))["generated"]["all"]["ttr_at_256"]
    assert written["generated"]["all"]["ttr_at_256"] == expected
    assert f"{expected['mean']:.2f} [{expected['low']:.2f}, {expected['high']:.2f}]" in result.output


def test_comparison_of_a_model_with_itself_is_zero(files, tmp_path):
    result = run("compare", files[0], files[0], "--json", tmp_path / "same.json")
    assert result.exit_code == 0, result.output
    table = json.loads((tmp_path / "same.json").read_text())["all"]
    assert {entry["difference"] for entry in table.values() if "difference" in entry} == {0.0}


def test_comparison_names_both_models_values(files):
    result = run("compare", *files)
    assert "A - B [95%]" in result.output
    assert "ttr_at_256" in result.output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "nowhere.jsonl"], "error: nowhere.jsonl: cannot be read (No such file or directory)"),
        (["eval", "nowhere", "--tasks", "mmlu"], "error: nowhere: no tokenizer can be loaded"),
        (["eval", "nowhere", "--batch-size", "many"], "error: --batch-size many: expected a positive number or auto"),
        (["train", "--model", "nowhere"], "error: the following arguments are required"),
    ],
)
def test_bad_input_is_one_line_with_status_2(arguments, message, tmp_path):
    done = hyperfit(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(message)
    assert list(tmp_path.iterdir()) == []


def test_scores_refuse_a_broken_file_and_write_nothing(files, tmp_path):
    text = files[0].read_text()
    files[0].write_text(text[:-30])
    done = hyperfit("score", files[0], "--json", tmp_path / "scores.json")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {files[0]}, line 7: not JSON")
    assert not (tmp_path / "scores.json").exists()


def test_a_wrong_option_is_one_line_with_status_2():
    done = hyperfit("serve", "--port", "x")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: Invalid value for '--port'") and done.stderr.count("\n") == 1
    assert done.stderr.endswith(" serve --help\n")
    done = hyperfit("nonsense")
    assert done.returncode == 2 and done.stderr.startswith("error: No such command 'nonsense'; see ")
