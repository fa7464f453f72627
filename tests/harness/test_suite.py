"""`hyperfit eval`: real runs of the suite on small models and, where it is at hand, real GLUE data."""

import copy
import json
import shutil

import pytest

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.harness import suite
from hyperfit_eval.harness.stderr import f1_stderr
from hyperfit_eval.harness.suite import Suite, model_name, run_suite
from hyperfit_eval.machine import default_device
from hyperfit_eval.records import read_continuations
from hyperfit_eval.scores import score_records

TASK = "hyperfit_openended_demo"


@pytest.mark.slow
def test_results_and_records_are_written_and_agree(tiny_checkpoint, tmp_path):
    results = run_suite(Suite(str(tiny_checkpoint), [TASK], tmp_path, limit=4, batch_size="4"))
    written = json.loads(next(tmp_path.glob("results_*.json")).read_text())
    assert written["results"] == json.loads(json.dumps(results["results"]))
    generation, records = read_continuations(next(tmp_path.glob(f"continuations_{TASK}_*.jsonl")))
    assert (generation.model, len(records)) == (str(tiny_checkpoint), 4)
    table = score_records(generation, records)["generated"]["all"]
    for name in ("ttr_at_256", "rep_4_at_256"):
        assert results["results"][TASK][f"{name},none"] == pytest.approx(table[name]["mean"])
    assert results["results"][TASK]["self_bleu_avg,none"] == pytest.approx(table["self_bleu"]["mean"])
    assert results["configs"][TASK]["metadata"]["signatures"]["self_bleu"] == table["self_bleu"]["signature"]


def test_errors_of_f1_come_from_the_confusion_matrix(tiny_checkpoint, tmp_path, hub, monkeypatch):
    monkeypatch.chdir(hub)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    seen = {}

    def spy(pairs):
        seen["pairs"] = pairs
        return f1_stderr(pairs)

    monkeypatch.setattr("hyperfit_eval.harness.suite.f1_stderr", spy)
    results = run_suite(Suite(str(tiny_checkpoint), ["mrpc"], tmp_path, limit=12, batch_size="4"))
    assert len(seen["pairs"]) == 12
    assert results["results"]["mrpc"]["f1_stderr,none"] == f1_stderr(seen["pairs"])
    assert results["results"]["mrpc"]["acc_stderr,none"] > 0


@pytest.mark.slow
def test_unknown_task_and_model_are_refused(tiny_checkpoint, tmp_path):
    with pytest.raises(HyperfitError, match="no task named nothing; `lm_eval ls tasks` lists them"):
        run_suite(Suite(str(tiny_checkpoint), ["nothing"], tmp_path))
    with pytest.raises(HyperfitError, match="nowhere: no tokenizer can be loaded"):
        run_suite(Suite("nowhere", [TASK], tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": []}, "--tasks: no task is named; `lm_eval ls tasks` lists them"),
        ({"limit": 0}, "--limit 0: expected a whole number of texts, or a share between 0 and 1"),
        ({"limit": -1}, "--limit -1: expected"),
        ({"limit": float("nan")}, "--limit nan: expected"),
        ({"limit": float("inf")}, "--limit inf: expected"),
        ({"limit": 2.5}, "--limit 2.5: expected"),
        ({"num_fewshot": -1}, "num_fewshot=-1: expected a whole number of 0 or more"),
        ({"model_args": {"dtype": "float8"}}, "--dtype float8: expected one of auto, float32, bfloat16, float16"),
        ({"device": "cuda:99"}, "--device cuda:99: not on this machine ("),
        ({"device": "gpu"}, "--device gpu: not on this machine ("),
    ],
)
def test_values_that_cannot_be_used_are_refused_in_one_line(tiny_checkpoint, tmp_path, changes, message):
    with pytest.raises(HyperfitError) as caught:
        run_suite(Suite(str(tiny_checkpoint), **{"tasks": [TASK], "output": tmp_path / "out"} | changes))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_vocabulary_larger_than_the_embeddings_is_refused_before_work(tiny_checkpoint, tiny_tokenizer, tmp_path):
    shutil.copytree(tiny_checkpoint, tmp_path / "model")
    larger = copy.deepcopy(tiny_tokenizer)
    larger.add_tokens([f"word{number}" for number in range(40)])
    larger.save_pretrained(tmp_path / "model")
    with pytest.raises(HyperfitError, match=r"model: the tokenizer gives ids up to 62, the model embeds 50; give"):
        run_suite(Suite(str(tmp_path / "model"), [TASK], tmp_path / "out"))


def test_a_folder_has_one_name_however_it_is_typed(tmp_path, monkeypatch):
    (tmp_path / "here" / "M").mkdir(parents=True)
    (tmp_path / "N").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert {model_name(typed) for typed in ("M", "./M", "M/", "../here/M", f"{tmp_path}/here/M")} == {"M"}
    assert {model_name(typed) for typed in ("../N", f"{tmp_path}/N/")} == {str(tmp_path / "N")}
    assert model_name("gpt2") == "gpt2"


def test_the_device_exists():
    import torch

    torch.ones(1, device=default_device())


def test_lm_evals_noise_is_kept_from_the_terminal(tmp_path, monkeypatch, capfd):
    from lm_eval import evaluator
    from lm_eval.api import task

    monkeypatch.chdir(tmp_path)
    bar, commit = task.tqdm, evaluator.get_git_commit_hash
    with suite._quiet_lm_eval():
        assert list(task.tqdm([1, 2], total=2)) == [1, 2]
        assert evaluator.get_git_commit_hash() is None  # no repository here
    assert capfd.readouterr().err == ""
    assert (task.tqdm, evaluator.get_git_commit_hash) == (bar, commit)
    monkeypatch.setenv("HYPERFIT_VERBOSE", "1")
    with suite._quiet_lm_eval():
        assert task.tqdm is bar
