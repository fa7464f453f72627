"""`hyperfit eval`: real runs of the suite on small models and, where it is at hand, real GLUE data."""

import json

import pytest

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.harness.stderr import f1_stderr
from hyperfit_eval.harness.suite import Suite, run_suite
from hyperfit_eval.machine import default_device
from hyperfit_eval.records import read_continuations
from hyperfit_eval.scores import score_records

TASK = "hyperfit_openended_demo"


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


def test_unknown_task_and_model_are_refused(tiny_checkpoint, tmp_path):
    with pytest.raises(HyperfitError, match="no task named nothing; `lm_eval ls tasks` lists them"):
        run_suite(Suite(str(tiny_checkpoint), ["nothing"], tmp_path))
    with pytest.raises(HyperfitError, match="nowhere: no tokenizer can be loaded"):
        run_suite(Suite("nowhere", [TASK], tmp_path))


def test_the_device_exists():
    import torch

    torch.ones(1, device=default_device())
