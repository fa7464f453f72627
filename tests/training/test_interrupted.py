"""Nothing lost: killed at any moment, stopped, out of room or in each other's way, runs end as they would have."""

import json
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import sys
import time

import killed_runs
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.training.checkpoint import checkpoints, damage
from hyperfit_eval.training.folder import locked, read_run
from hyperfit_eval.training.monitor import read_history

pytestmark = pytest.mark.slow

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed_runs"])
    with pytest.MonkeyPatch.context() as patch:
        # The server does not take over sys.path, and would go on without what it cannot import.
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        multiprocessing.forkserver.ensure_running()
    return context


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, tiny_tokenizer):
    rng = np.random.default_rng(0)
    words = [word for word in tiny_tokenizer.get_vocab() if word[0] != "<"]
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": " ".join(rng.choice(words, 300))}) + "\n" for _ in range(12)))
    return path


@pytest.fixture(scope="module")
def arguments(tiny_checkpoint, corpus):
    """Options and training arguments of 9 updates, a checkpoint after each."""

    def make(folder, **changed):
        options = {
            "model": str(tiny_checkpoint), "corpus": str(corpus), "evaluation_texts": "none", "num_train_samples": 20,
            "sequence_length": 32, "num_validation_samples": 2, "evaluation_share": 1.0, "save_minutes": 1e-9,
        }  # fmt: skip
        training = {
            "output_dir": str(folder), "num_train_epochs": 3, "learning_rate": 1e-3, "disable_tqdm": True,
            "bf16": False, "report_to": "none",
        }  # fmt: skip
        for name, value in changed.items():
            (options if name in options else training)[name] = value
        return options, training

    return make


@pytest.fixture(scope="module")
def straight(arguments, tmp_path_factory):
    """The run that nothing happened to."""
    return killed_runs.train(*arguments(tmp_path_factory.mktemp("straight") / "run"))


def ended(processes, target, *given, kill_after=None):
    process = processes.Process(target=target, args=given)
    process.start()
    if kill_after is not None:
        process.join(kill_after)
        process.kill()
    process.join(60)
    return process.exitcode


def assert_as(straight, folder):
    """The same weights bit by bit, the same history, and nothing left over."""
    one, other = load_file(straight.folder / "model.safetensors"), load_file(folder / "model.safetensors")
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    rows = [
        [(row.step, row.train_loss, row.train_blocks, row.validation_loss, row.top1_agreement) for row in history]
        for history in (straight.history, read_history(folder / "history.jsonl")[0])
    ]
    assert rows[0] == rows[1]
    assert read_run(folder)["status"] == "finished"
    assert not list(folder.glob("checkpoint-*")) and not (folder / ".unfinished").exists()


def test_killed_at_any_moment_a_run_ends_the_same(processes, arguments, straight, tmp_path):
    rng = np.random.default_rng(int(os.environ.get("HYPERFIT_TEST_SEED", "0")))
    folder, half_written = tmp_path / "run", 0
    given = arguments(folder)
    for number in [*rng.integers(1, 60, 3), *rng.integers(10, 30, 3)]:
        assert ended(processes, killed_runs.killed_at_change, *given, int(number)) == -signal.SIGKILL
        half_written += (folder / ".unfinished").exists()
        # Whatever has the name of a checkpoint and its list is whole.
        assert all(damage(path) is None for path in folder.glob("checkpoint-*") if (path / "checkpoint.json").exists())
    assert half_written
    for seconds in rng.uniform(0.3, 1.5, 1):
        ended(processes, killed_runs.train, *given, kill_after=seconds)
    if read_run(folder)["status"] != "finished":
        killed_runs.train(*given)
    assert_as(straight, folder)


def test_killed_while_the_trained_model_is_saved(processes, arguments, straight, tmp_path):
    given = arguments(tmp_path / "run", save_minutes=0.0)
    changes = []
    # Without checkpoints on the way, the last changes are those of the end: killed ever later, until one gets through.
    for number in range(55, 120, 12):
        code = ended(processes, killed_runs.killed_at_change, *given, number)
        changes.append(code)
        if code == 0:
            break
    assert changes[0] == -signal.SIGKILL and changes[-1] == 0
    assert_as(straight, tmp_path / "run")


def test_after_every_epoch_and_kept_checkpoints_too(processes, arguments, straight, tmp_path):
    given = arguments(tmp_path / "run", save_minutes=0.0, save_strategy="epoch", save_total_limit=2)
    assert ended(processes, killed_runs.killed_at_step, *given, 8) == -signal.SIGKILL
    found = checkpoints(tmp_path / "run")
    assert [path.name for path in found] == ["checkpoint-3", "checkpoint-6"]
    # Damaged since: said, and the one before is taken.
    weights = found[-1] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    lines = []
    killed_runs.train(*given, say=lines.append)
    assert "checkpoint-6 is not whole and is left out (model.safetensors: 1000 bytes of " in lines[1]
    assert "(on from checkpoint-3)" in lines[2]
    one, other = (load_file(each / "model.safetensors") for each in (straight.folder, tmp_path / "run"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["checkpoint-6", "checkpoint-9"]


def test_sigterm_saves_and_the_same_command_goes_on(processes, arguments, straight, tmp_path, capsys):
    options, training = arguments(tmp_path / "run", save_minutes=0.0)
    argv = [part for name, value in (options | training).items() for part in (f"--{name}", str(value))]
    code = ended(processes, killed_runs.told_to_stop, argv, str(tmp_path / "run"), str(tmp_path / "output"))
    output = (tmp_path / "output").read_text()
    assert code == 143, output
    last = output.splitlines()[-1]
    assert last.startswith("SIGTERM: saved after update ") and last.endswith("run; the same command goes on from there")
    assert len(checkpoints(tmp_path / "run")) == 1
    killed_runs.command_line(argv)
    assert "(on from checkpoint-" in capsys.readouterr().out
    assert_as(straight, tmp_path / "run")


def test_a_full_disk_is_one_line_and_leaves_the_last_checkpoint_whole(processes, arguments, straight, tmp_path):
    given = arguments(tmp_path / "run")
    ended(processes, killed_runs.without_room, *given, 5, 120_000, str(tmp_path / "report"))
    report = (tmp_path / "report").read_text()
    assert report.startswith(f"{tmp_path / 'run'}: the checkpoint after update 5 cannot be written (")
    assert "GB are free there); make room or mend that, and give the same command: it goes on from ch" in report
    assert report.endswith("checkpoint-4, which is whole") and "\n" not in report
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["checkpoint-4"]
    killed_runs.train(*given)
    assert_as(straight, tmp_path / "run")


def test_no_room_for_the_trained_model_either(processes, arguments, straight, tmp_path):
    given = arguments(tmp_path / "run", save_minutes=0.0, save_strategy="epoch")
    ended(processes, killed_runs.without_room, *arguments(tmp_path / "run"), 9, 40_000, str(tmp_path / "report"))
    assert "cannot be written (" in (tmp_path / "report").read_text()
    assert not (tmp_path / "run" / "model.safetensors").exists()
    killed_runs.train(*given)
    assert read_run(tmp_path / "run")["status"] == "finished"


def test_a_folder_that_cannot_be_written(arguments, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(HyperfitError, match=r"--output_dir .*file/run: cannot be written \(Not a directory\); give an"):
        killed_runs.train(*arguments(tmp_path / "file" / "run"))


def test_two_runs_in_one_folder_are_refused(processes, arguments, straight, tmp_path):
    folder = tmp_path / "run"
    given = arguments(folder)
    process = processes.Process(target=killed_runs.waits, args=(*given, 4))
    process.start()
    deadline = time.monotonic() + 60
    while not (folder / "waiting").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    before = {path.name for path in folder.iterdir()}
    with pytest.raises(HyperfitError, match="run: another run is training into it; wait for it, or give another"):
        killed_runs.train(*given)
    assert {path.name for path in folder.iterdir()} == before
    process.kill()
    process.join()
    # The lock went with the process.
    killed_runs.train(*given)
    assert_as(straight, folder)


def test_what_changed_is_shown_when_a_run_cannot_go_on(processes, arguments, corpus, tmp_path):
    given = arguments(tmp_path / "run")
    assert ended(processes, killed_runs.killed_at_step, *given, 5) == -signal.SIGKILL
    for changed, difference in (
        ({"learning_rate": 2e-3}, r"\(learning_rate 0.001 -> 0.002\)"),
        ({"num_train_epochs": 4}, r"\(num_train_epochs 3 -> 4\)"),
        ({"adam_beta1": 0.8}, r"\(adam_beta1 0.9 -> 0.8\)"),
        ({"sample_seed": 1}, r"\(blocks \w+ -> \w+, sample_seed 0 -> 1\)"),
        ({"shuffle": "all"}, r"\(blocks \w+ -> \w+, shuffle none -> all\)"),
    ):
        options, training = arguments(tmp_path / "run")
        name, value = next(iter(changed.items()))
        (options if name in ("sample_seed", "shuffle") else training)[name] = value
        with pytest.raises(HyperfitError, match=f"the run there was of other settings {difference}; use those, give"):
            killed_runs.train(options, training)
    text = corpus.read_text()
    try:
        corpus.write_text(text.replace("cat", "dog"))
        with pytest.raises(HyperfitError, match=r"settings \(blocks \w+ -> \w+, corpus .*l \(\w+\) -> .*l \(\w+\)"):
            killed_runs.train(*given)
    finally:
        corpus.write_text(text)


def test_the_lock_is_for_one(tmp_path):
    with (
        locked(tmp_path / "run"),
        pytest.raises(HyperfitError, match="another run is training into it"),
        locked(tmp_path / "run"),
    ):
        pass
    with locked(tmp_path / "run"):
        pass
