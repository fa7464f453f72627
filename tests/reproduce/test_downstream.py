"""MMLU and GLUE in the study, on real questions with lm-eval's own tasks."""

from dataclasses import replace

import pytest
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM

from hyperfit_eval.reproduce.experiments.table7 import _change, _small, mmlu_step
from hyperfit_eval.reproduce.experiments.table8 import _most_shots, stratified_sampler
from hyperfit_eval.reproduce.lm_evaluation import _manager, evaluate, limit_of, read, score_of, task_of
from hyperfit_eval.reproduce.models import Model
from hyperfit_eval.reproduce.section import Row
from hyperfit_eval.reproduce.setting import demo_setting
from hyperfit_eval.reproduce.steps import Skipped, StepContext, run_steps
from hyperfit_eval.scores.score import Score

pytestmark = pytest.mark.filterwarnings("ignore")  # of lm-eval and datasets


@pytest.fixture
def base():
    return Model("base", replace(demo_setting(quick=True), limit=1, batch_size=8))


@pytest.fixture
def in_hub(hub, monkeypatch):
    monkeypatch.chdir(hub)
    task_of.cache_clear()


def test_glue_by_shots(base, in_hub, tmp_path):
    context = StepContext(tmp_path, tmp_path, print)
    ours = evaluate(context, base, "rte", 0)
    loaded, tokenizer = base.load(context)
    theirs = simple_evaluate(
        HFLM(pretrained=loaded, tokenizer=tokenizer, batch_size=8),
        tasks=["rte"],
        num_fewshot=0,
        task_manager=_manager(),
        limit=10,
        bootstrap_iters=2,
    )
    assert ours["results"]["rte"]["acc,none"] == theirs["results"]["rte"]["acc,none"]
    assert len(ours["samples"]["rte"]) == limit_of(base.setting, "rte") == 10

    task_of("rte").sampler = stratified_sampler(list(task_of("rte").fewshot_docs()))
    shots = _most_shots(context, base, "rte")
    assert 1 <= shots <= 4
    few = evaluate(context, base, "rte", shots)
    for sample in few["samples"]["rte"]:
        prompt = sample["arguments"][0][0]
        assert prompt.count("True or False?") == shots + 1, "after a run without examples there must be some"
        assert len(tokenizer(prompt)["input_ids"]) < 1024


def test_mmlu_counts_what_was_asked_and_what_was_cut(base, in_hub, tmp_path):
    step = mmlu_step(base, 5)
    assert run_steps([step], tmp_path, say=lambda line: None) == {}
    found = read(StepContext(tmp_path, tmp_path, print), step)
    assert found["questions"] == 57 and 0 <= found["acc"] <= 1
    assert 0 < found["cut"] < 57, "some prompts of five examples are longer than 1024 tokens"


def test_one_question_of_each_subject_has_no_interval():
    """lm-eval gives "N/A" as the standard error of one value."""
    rows = [Row(name, {"mmlu_5_shot": score_of("acc", 0.25, "N/A", "acc")}) for name in ("base", "hyperfitted")]
    assert rows[0].cells["mmlu_5_shot"] == Score("acc", 25.0, signature="acc")
    assert _change(rows, "mmlu_5_shot", "5 shots") == ["One question of each subject: lm-eval gives no standard error."]
    assert _small(rows[0].cells["mmlu_5_shot"]) == []


def test_missing_data_is_skipped_with_its_reason(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    task_of.cache_clear()
    with pytest.raises(Skipped) as skipped:
        task_of("cola")
    assert "cola cannot be loaded here" in str(skipped.value) and "\n" not in str(skipped.value)
