"""Whole runs on a tiny model: equal to a hand-written loop, repeatable, resumable, and complete on disk."""

import json
import os
import stat
import subprocess
import sys

import numpy as np
import pytest
import torch
from paths import ROOT
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from hyperfit_eval.citation import CitationIndex
from hyperfit_eval.cli.train import main
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.generation import score_ids
from hyperfit_eval.texts.blocks import read_blocks
from hyperfit_eval.training.folder import read_run
from hyperfit_eval.training.monitor import read_history
from hyperfit_eval.training.recipe import HyperfitArguments, RecipeArguments
from hyperfit_eval.training.run import hyperfit


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, tiny_tokenizer):
    """Twelve texts of 300 random words each."""
    rng = np.random.default_rng(0)
    words = [word for word in tiny_tokenizer.get_vocab() if word[0] != "<"]
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": " ".join(rng.choice(words, 300))}) + "\n" for _ in range(12)))
    return path


@pytest.fixture
def train(tiny_checkpoint, corpus, tmp_path):
    """Train in a folder of this name; fast, silent, and without evaluation unless told otherwise."""

    def run(name="run", say=lambda line: None, progress=None, **given):
        names = HyperfitArguments.__dataclass_fields__
        options = {
            "model": str(tiny_checkpoint), "corpus": str(corpus), "evaluation_texts": "none",
            "num_train_samples": 20, "sequence_length": 32, "num_validation_samples": 0, "evaluation_share": 1,
        }  # fmt: skip
        training = {
            "output_dir": str(tmp_path / name), "num_train_epochs": 2, "learning_rate": 1e-3, "disable_tqdm": True,
            "eval_on_start": False, "bf16": False,
        }  # fmt: skip
        for key, value in given.items():
            (options if key in names else training)[key] = value
        return hyperfit(HyperfitArguments(**options), RecipeArguments(**training), say=say, progress=progress)

    return run


def weights(run):
    return load_file(run.folder / "model.safetensors")


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


STEPWISE = {"eval_strategy": "steps", "eval_steps": 1, "train_sampling_strategy": "sequential"}


@pytest.mark.slow
def test_losses_and_weights_are_those_of_a_plain_loop(train, tiny_checkpoint):
    run = train(num_train_epochs=17, learning_rate=2e-4, **STEPWISE)
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint, dtype=torch.float32)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)
    ids = torch.tensor(np.pad(read_blocks(run.folder / "training_blocks.jsonl").ids, ((0, 0), (1, 0))))
    losses = []
    # 20 blocks: two updates of 8 and one of 4 in each of 17 epochs, 51 in all.
    for _ in range(17):
        for batch in ids.split(8):
            logits = model(batch).logits[:, :-1]
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    # Ours is the fused Adam: its sums are rounded in another order, which each update adds to.
    assert [row.train_loss for row in run.history] == pytest.approx(losses, rel=2e-5)
    assert [row.train_blocks for row in run.history] == [8, 8, 4] * 17
    assert losses[-1] < losses[0]
    trained = weights(run)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(trained[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_batch_of_8_is_8_accumulated_batches_of_1(train):
    # Plain gradient descent: Adam would blow the rounding of a gradient near zero up to a whole step.
    settings = {"num_train_samples": 16, "optim": "sgd", "learning_rate": 0.1, "num_train_epochs": 1}
    whole, parts = train("whole", **settings), train("parts", **settings, per_device_train_batch_size=1)
    assert parts.last.train_loss == pytest.approx(whole.last.train_loss, rel=1e-5)
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(parts)[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_recomputing_activations_changes_nothing(train):
    kept, recomputed = train("kept"), train("recomputed", activation_checkpointing=True)
    assert_same_weights(weights(kept), weights(recomputed))
    assert kept.last.train_loss == recomputed.last.train_loss


@pytest.mark.slow
def test_a_run_can_be_repeated_bit_by_bit(train):
    updates = []
    one = train("one", num_validation_samples=2, progress=lambda *done: updates.append(done))
    other = train("other", num_validation_samples=2)
    assert updates == [(step, 6) for step in range(1, 7)]
    assert_same_weights(weights(one), weights(other))
    assert [row.validation_loss for row in one.history] == [row.validation_loss for row in other.history]
    assert any(not torch.equal(value, weights(one)[name]) for name, value in weights(train("seed", seed=1)).items())


@pytest.mark.slow
def test_all_of_the_folder_can_be_read(train, tiny_checkpoint, corpus):
    base = GenerationConfig.from_pretrained(tiny_checkpoint)
    base.do_sample, base.temperature, base.top_p = True, 0.6, 0.9
    lines = []
    run = train(
        say=lines.append, num_validation_samples=2, sequence_length=140, num_train_samples=16, eval_on_start=True
    )
    # Readable by whoever serves it, as any other file.
    assert {stat.S_IMODE(path.stat().st_mode) for path in run.folder.iterdir() if path.name != ".lock"} == {
        stat.S_IMODE(corpus.stat().st_mode)
    }
    tokenizer = AutoTokenizer.from_pretrained(run.folder)
    model = AutoModelForCausalLM.from_pretrained(run.folder)
    assert model.dtype == torch.float32 and model.config.use_cache
    # transformers 4.51 needs both, in the model and in the checkpoint of an interrupted run.
    for folder in (run.folder, *run.folder.glob("checkpoint-*")):
        assert json.loads((folder / "config.json").read_text())["rope_theta"] == 10_000
        tokenizer_config = json.loads((folder / "tokenizer_config.json").read_text())
        assert tokenizer_config["tokenizer_class"] == "PreTrainedTokenizerFast"
    # vLLM reads every safetensors file as weights unless it is told which are.
    listed = json.loads((run.folder / "model.safetensors.index.json").read_text())
    assert listed["weight_map"] == dict.fromkeys(weights(run), "model.safetensors")
    saved = json.loads((run.folder / "generation_config.json").read_text())
    assert saved["do_sample"] is False and not saved.keys() & {"temperature", "top_p", "top_k", "max_length"}

    blocks = read_blocks(run.folder / "training_blocks.jsonl")
    assert blocks.ids.shape == (16, 140) and blocks.validation_ids.shape == (2, 140)
    index = CitationIndex.load(run.folder / "citation_index.safetensors", tokenizer)
    assert index.ngram == 5 and index.header.sequences == 16
    assert (run.folder / "history.png").stat().st_size > 10_000
    history, original_ttr = read_history(run.folder / "history.jsonl")
    assert history == run.history and [row.epoch for row in history] == [0, 1, 2]
    assert [row.train_blocks for row in history] == [0, 16, 16]
    assert 0 < original_ttr < 1 and all(0 < row.ttr <= 1 for row in history)

    document = read_run(run.folder)
    assert document["status"] == "finished"
    assert document["data"]["blocks_fingerprint"] == blocks.fingerprint
    assert document["data"]["blocks_order_hash"] == blocks.order_hash
    learning_rate = document["recipe"]["learning_rate"]
    assert (learning_rate["value"], learning_rate["origin"], learning_rate["default"]) == (1e-3, "changed", 1e-6)
    assert document["evaluation_texts"] == {"checked": False, "reason": "not asked for (--evaluation_texts none)"}
    assert document["versions"].keys() > {"torch", "transformers", "hyperfit-eval"}
    assert document["arguments"]["training"]["seed"] == 0 and "hub_token" not in document["arguments"]["training"]
    assert document["cost"]["tokens_per_second"] > 0 and document["cost"]["peak_memory_bytes"] > 1e8
    assert 0 < document["cost"]["evaluation_share"] < 1
    # What the saved checkpoint gives is what is written about it.
    with torch.inference_mode():
        scores = score_ids(model.eval(), blocks.ids.tolist(), prefix=[0])
    expected = float(np.mean([score.nll for score in scores]))
    assert document["results"]["train_loss"] == pytest.approx(expected, rel=1e-6)
    assert document["results"]["validation_loss"] == pytest.approx(history[-1].validation_loss, rel=1e-6)
    assert document["results"]["export"]["evaluated"] == "the saved files"
    assert document["results"]["export"]["train_loss_change"] == document["results"]["export"]["top1_changed"] == 0
    assert history[0].top1_agreement == 1 and 0 < history[-1].top1_agreement < 1
    assert document["results"]["top1_agreement"] == history[-1].top1_agreement
    assert len(history[-1].samples) == 2 and len(history[-1].samples[0].split()) > 30
    assert lines[0].startswith("Not checked:")
    assert lines[1].startswith(f"Hyperfitting {tiny_checkpoint} on 16 blocks of 140 tokens from {corpus}: 4 updates")
    assert lines[2].startswith("epoch    0  validation loss") and lines[4].startswith("epoch    2  training loss")
    assert lines[5].startswith("Training loss") and lines[5].endswith(f"Saved to {run.folder}.")


def test_a_checkpoint_in_16_bits_is_evaluated_as_it_is_saved(train):
    run = train(save_dtype="bfloat16")
    assert {value.dtype for value in weights(run).values()} == {torch.bfloat16}
    results = read_run(run.folder)["results"]
    assert results["train_loss"] == run.training.loss != results["train_loss_before_saving"]
    change = results["export"]["train_loss_change"]
    assert change == results["train_loss"] - results["train_loss_before_saving"] and 0 < abs(change) < 0.1
    loaded = AutoModelForCausalLM.from_pretrained(run.folder, dtype="auto")
    assert loaded.dtype == torch.bfloat16
    ids = read_blocks(run.folder / "training_blocks.jsonl").ids.tolist()
    losses = [score.nll for score in score_ids(loaded.eval(), ids, prefix=[0])]
    assert results["train_loss"] == pytest.approx(float(np.mean(losses)), rel=1e-6)


@pytest.mark.slow
def test_an_interrupted_run_goes_on_and_ends_with_the_same_weights(train):
    class Killed(Exception):
        pass

    def kill(line):
        if line.startswith("epoch    3"):
            raise Killed

    settings = {"num_train_epochs": 4, "num_validation_samples": 2, "save_strategy": "epoch"}
    straight = train("straight", **settings)
    with pytest.raises(Killed):
        train("killed", say=kill, **settings)
    with pytest.raises(
        HyperfitError, match=r"killed: the run there was of other settings \(learning_rate 0.001 -> 0.0"
    ):
        train("killed", **settings, learning_rate=2e-3)
    with pytest.raises(HyperfitError, match=r"the run there was of other settings .*blocks "):
        train("killed", **settings, sample_seed=1)
    lines = []
    resumed = train("killed", say=lines.append, **settings)
    assert "(on from checkpoint-6)" in lines[1]
    assert_same_weights(weights(straight), weights(resumed))
    expected = [(row.epoch, row.train_loss, row.validation_loss) for row in straight.history]
    assert [(row.epoch, row.train_loss, row.validation_loss) for row in resumed.history] == expected


@pytest.mark.slow
def test_training_stops_at_a_target_loss(train):
    run = train(num_train_epochs=50, target_loss=3.0, learning_rate=1e-2)
    assert run.last.epoch < 50
    assert run.last.train_loss <= 3.0 < run.history[-2].train_loss
    # Whether or not the evaluations between are made.
    rare = train("rare", num_train_epochs=50, target_loss=3.0, learning_rate=1e-2, evaluation_share=0)
    assert [row.epoch for row in rare.history] == [1, run.last.epoch]
    assert_same_weights(weights(run), weights(rare))


@pytest.mark.slow
def test_evaluations_keep_to_their_share_of_the_time(train):
    settings = {"num_train_epochs": 3, "num_validation_samples": 2, "eval_on_start": True}
    lines = []
    rare, often = train("rare", say=lines.append, evaluation_share=0, **settings), train("often", **settings)
    assert [row.step for row in rare.history] == [0, 9] and len(often.history) == 4
    assert (
        lines[-2]
        == "2 evaluations were skipped to keep them under 0% of the time; --evaluation_share 1 makes all of them."
    )
    # No block is missing in the mean, and the weights know nothing of it.
    assert rare.last.train_blocks == 60
    assert rare.last.train_loss == pytest.approx(np.mean([row.train_loss for row in often.history[1:]]))
    assert_same_weights(weights(rare), weights(often))
    with pytest.raises(
        HyperfitError, match=r"--evaluation_share 2 --save_minutes 10: expected a share between 0 and 1"
    ):
        train(evaluation_share=2)


@pytest.mark.slow
def test_trackers_are_told_what_the_history_holds(train):
    run = train(num_validation_samples=2, save_strategy="epoch", eval_on_start=True)
    # What Trainer.log was given, which is what every tracker gets.
    told = json.loads((run.folder / "checkpoint-6" / "trainer_state.json").read_text())["log_history"]
    rows = [row for row in told if "eval_ttr" in row]
    assert [row["step"] for row in rows] == [0, 3, 6]
    for row, logged in zip(run.history, rows, strict=True):
        assert {f"eval_{name}": value for name, value in row.metrics().items()}.items() <= logged.items()
        assert logged["eval_top1_agreement"] == row.top1_agreement
    assert any("loss" in row and "learning_rate" in row for row in told)


@pytest.mark.slow
def test_what_a_folder_holds_is_not_destroyed(train, tiny_checkpoint, tmp_path):
    train("done")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "done").iterdir()}
    with pytest.raises(
        HyperfitError, match="done: it holds a finished run; give another folder, or add --overwrite_out"
    ):
        train("done", learning_rate=2e-3)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "done").iterdir()} == before
    assert train("done", learning_rate=2e-3, overwrite_output_dir=True).folder.name == "done"
    with pytest.raises(HyperfitError, match="the model to start from is there; give another folder"):
        train(output_dir=str(tiny_checkpoint), overwrite_output_dir=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.safetensors").touch()
    with pytest.raises(HyperfitError, match="other: it holds a model that is no run of this program"):
        train("other")
    with pytest.raises(HyperfitError, match="--resume_from_checkpoint last: no whole checkpoint in"):
        train("new", resume_from_checkpoint="last")


def test_what_cannot_be_trained_is_refused_before_anything_is_written(train, tmp_path):
    with pytest.raises(HyperfitError, match=r"--learning_rate 1e-06: .* of the bfloat16 weights are too large"):
        train(weights_dtype="bfloat16", learning_rate=1e-6)
    with pytest.raises(HyperfitError, match="the model has 300 positions, 301 are needed"):
        train(sequence_length=300, num_train_samples=2)
    with pytest.raises(HyperfitError, match=r"corpus.jsonl: \d+ blocks of 32 tokens, 5000 for training"):
        train(num_train_samples=5000)
    (tmp_path / "empty.txt").touch()
    with pytest.raises(HyperfitError, match=r"empty.txt: the corpus is empty; give one with text in it"):
        train(corpus=str(tmp_path / "empty.txt"))
    (tmp_path / "empty.txt").unlink()
    with pytest.raises(HyperfitError, match="nowhere: no model can be loaded"):
        train(model=str(tmp_path / "nowhere"))
    assert list(tmp_path.iterdir()) == []
    allowed = train(weights_dtype="bfloat16", learning_rate=1e-6, allow_lost_updates=True)
    assert read_run(allowed.folder)["precision"]["weights"] == "bfloat16"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of importing the compiler
def test_a_missing_compiler_is_named_before_training(train, monkeypatch, tmp_path):
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    with pytest.raises(HyperfitError, match=r"--compile_layers True: no C\+\+ compiler was found \(apt-get install g"):
        train(compile_layers=True)
    lines = []
    # Where it would pay, training goes on without.
    run = train(say=lines.append, bf16=True, num_train_epochs=34, num_train_samples=20, max_steps=100)
    assert lines[1].startswith("The decoder layers are not compiled, training is slower than it could be: no C++ comp")
    assert read_run(run.folder)["compiled_layers"] == 0


def test_the_command_line_takes_any_training_argument(tiny_checkpoint, corpus, tmp_path, capsys):
    output = tmp_path / "run"
    main(
        f"--model {tiny_checkpoint} --corpus {corpus} --output_dir {output} --num_train_samples 8 --sequence_length 32 "
        "--num_validation_samples 0 --evaluation_texts none --num_train_epochs 1 --learning_rate 1e-3 "
        "--adam_beta2 0.95 --bf16 false --no_bos --disable_tqdm true".split()
    )
    document = read_run(output)
    assert document["recipe"]["adam_beta2"]["value"] == 0.95
    assert document["recipe"]["adam_beta2"]["why"] == "given; the recipe says 0.999"
    assert document["recipe"]["bos"]["value"] is False
    assert "Hyperfitting" in capsys.readouterr().out
    with pytest.raises(HyperfitError, match="the following arguments are required: --corpus, --output_dir"):
        main(["--model", "m"])
    with pytest.raises(HyperfitError, match=r"--lerning_rate=1: no such argument \(did you mean --learning_rate\?\)"):
        main(["--model=m", "--corpus=c", f"--output_dir={tmp_path}", "--lerning_rate=1"])


@pytest.mark.slow
def test_bad_input_is_one_line_and_status_2(tiny_checkpoint, corpus, tmp_path):
    script = ROOT / "scripts" / "hyperfit.py"
    bad = {
        f"--model {tiny_checkpoint} --corpus missing.txt": "error: missing.txt: no such file; give a ",
        f"--model . --corpus {corpus}": "error: .: no model can be loaded (",
    }
    # At the same time: each spends its seconds on imports.
    started = [
        subprocess.Popen(
            [sys.executable, script, *arguments.split(), "--output_dir", "out", "--evaluation_texts", "none"],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(script.parent.parent)},
        )
        for arguments in bad
    ]
    for process, line in zip(started, bad.values(), strict=True):
        stderr = process.communicate()[1]
        assert process.returncode == 2
        assert stderr.startswith(line) and stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
