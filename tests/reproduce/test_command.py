"""`hyperfit reproduce`: which experiments, and the setting that its options make."""

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from hyperfit_eval.cli.main import app
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.files import write_json
from hyperfit_eval.reproduce.experiments.figure4 import figure4
from hyperfit_eval.reproduce.judgements import judged_columns
from hyperfit_eval.reproduce.pipeline import EXPERIMENTS, select_experiments
from hyperfit_eval.reproduce.plan import Plan
from hyperfit_eval.reproduce.setting import demo_setting, setting_of
from hyperfit_eval.reproduce.steps import in_order


def refusal(*arguments):
    """What `hyperfit reproduce` says; `main` prints it and exits with status 2 (test_cli)."""
    error = CliRunner().invoke(app, ["reproduce", *arguments]).exception
    assert isinstance(error, HyperfitError)
    return str(error)


def test_names_of_experiments():
    assert select_experiments("") == list(EXPERIMENTS)
    assert select_experiments("table2, figure5") == ["table2", "figure5_left", "figure5_right"]
    assert select_experiments("figure10,figure11,pictures") == ["pictures"]
    with pytest.raises(HyperfitError, match="--only tabel2: no such experiment, did you mean table2; expected some of"):
        select_experiments("table1,tabel2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "some/model"], "--model some/model needs --corpus"),
        (["--model", "some/model", "--corpus", "book.txt", "--quick"], "--quick is for --model demo with its own"),
        (["--model", "demo", "--per-source", "5"], "--model demo has its own 60 texts; add --corpus"),
        (["--model", "demo", "--full", "--limit", "3"], "--full asks all questions, --limit 3"),
        (["--model", "demo", "--seeds", "0,one"], "--seeds 0,one: expected whole numbers with commas"),
        (["--model", "demo", "--seeds", "1,1"], "--seeds 1,1: each number once"),
        (["--model", "demo", "--quantities", "8,0"], "--quantities 8,0: 0 is too small, expected 1 or more"),
        (["--model", "demo", "--train", "learning_rate"], "--train learning_rate: expected NAME=VALUE"),
        (["--model", "demo", "--corpora", "wiki"], "--corpora wiki: expected NAME=VALUE"),
        (["--model", "demo", "--passage", "99:64"], "--passage 99:64: expected a text from 0 to 59"),
        (["--model", "demo", "--passage", "7,9:64"], "--passage 7,9:64: expected TEXT:TOKEN"),
        (["--model", "demo", "--passage", "7:0"], "--passage 7:0: expected TEXT:TOKEN"),
        (["--model", "demo", "--dtype", "int8"], "--dtype int8: expected one of float32"),
        (["--model", "demo", "--train", "learning_rat=1"], "no such argument (did you mean --learning_rate?)"),
        (["--model", "demo", "--train", "num_train_samples=lots"], "invalid int value: 'lots'"),
        (["--model", "demo", "--train", "batch_size=0"], "--batch_size 0: not a multiple of"),
        (["--model", "demo", "--train", "lr_scheduler_type=x"], "x is not a valid SchedulerType"),
        (["--model", "demo", "--image-train", "learning_rat=1"], "--learning_rat=1: no such argument"),
        (["--model", "demo", "--train", "seed=1"], "--train seed=...: that is the study's own; use --seeds"),
        (["--model", "demo", "--train", "bf16=1", "--train", "bf16=0"], "--train: bf16 is given twice"),
        (["--model", "demo", "--corpora", "base=book.txt"], "--corpora base=...: that is a row of its own"),
        (["--model", "demo", "--corpora", "../x=book.txt"], "--corpora ../x=...: expected a name of letters"),
        (["--model", "demo", "--only", " , "], "--only ' , ': no experiment; expected some of table1"),
        (["--model", "demo", "--only", "tabel2"], "did you mean table2"),
    ],
)  # fmt: skip
def test_refusals_are_one_line(arguments, message, tmp_path):
    said = refusal(*arguments, "--out", str(tmp_path))
    assert message in said and "\n" not in said
    assert not any(tmp_path.iterdir())


def test_no_more_samples_than_hyperfitting_has():
    setting = replace(demo_setting(), quantities=(8, 64, 2000), training={"num_train_samples": "64"})
    assert setting.within_samples().quantities == (8, 64)


def test_what_a_dtype_changes():
    """All that a model computes, and not how it is trained: hyperfitting has a precision of its own."""
    half = replace(demo_setting(), dtype="bfloat16")
    one, other = (
        {step.name: step.key for step in in_order(make(plan) for make in EXPERIMENTS.values())}
        for plan in (Plan(demo_setting()), Plan(half))
    )
    same = {name for name in one if one[name] == other[name]}
    # What is skipped, or follows from the training alone.
    assert {name for name in same if not name.startswith(("train/", "images/"))} == {"figure2", "pictures", "table6"}
    batched = Plan(replace(half, batch_size=1))
    assert EXPERIMENTS["table1"](batched).key != other["table1"]
    assert EXPERIMENTS["table3"](Plan(replace(demo_setting(), batch_size=1))).key == one["table3"]


def test_no_run_is_made_twice():
    plan = Plan(replace(demo_setting(), seeds=(0, 1, 2)))
    names = [step.name for step in in_order(make(plan) for make in EXPERIMENTS.values())]
    assert len(names) == len(set(names))
    trained = [name for name in names if name.startswith("train/")]
    # 96 samples in 240 updates are the demo recipe itself.
    assert plan.setting.training_length() == (96, 240)
    assert trained == [
        "train/hyperfitted", "train/Shuffle-1", "train/Shuffle-All", "train/quantity-8", "train/quantity-16",
        "train/quantity-32", "train/seed-1", "train/seed-2",
    ]  # fmt: skip


def test_an_instruct_variant_has_rows_of_its_own(tmp_path):
    plan = Plan(replace(demo_setting(quick=True), instruct=str(demo_setting().model)))
    names = {step.name for step in in_order([EXPERIMENTS["table6"](plan), EXPERIMENTS["table7"](plan)])}
    assert {"train/instruct-hyperfitted", "continue/instruct", "predict/instruct", "lm-eval/mmlu-5-instruct"} <= names
    assert EXPERIMENTS["table6"](Plan(demo_setting())).needs == ()


def test_the_paper_s_sizes():
    plan = Plan(replace(demo_setting(), recipe="paper"))
    assert plan.setting.training_length() == (2000, 5000)


def test_the_passage_of_figure_4():
    with pytest.raises(HyperfitError, match=r"--passage 0:255: .* a token from 1 to 250"):
        figure4(Plan(replace(demo_setting(), passage=(0, 255))))


def test_settings_on_real_texts(hub, monkeypatch):
    monkeypatch.chdir(hub)
    setting = setting_of("demo", "alasdairforsythe/text-english-code-fiction-nonfiction", per_source=20, further=50)
    assert len(setting.texts.passages) == 60 and setting.further is not None
    assert len(setting.further.passages) == 50
    assert not {p.text for p in setting.texts.passages} & {p.text for p in setting.further.passages}
    assert setting.recipe == "demo" and setting.corpora == {"wiki": "recipe:wiki", "news": "recipe:news"}


def test_judgements_are_inputs_of_the_steps_whose_tables_show_them(tmp_path):
    entry = {"mean": 34.3, "low": 30.1, "high": 38.2, "n": 60, "unit": "%", "method": "t|conf:0.95",
             "signature": "preference|N:60", "annotations": 180}  # fmt: skip
    path, plan = tmp_path / "preference.json", Plan(demo_setting())
    write_json(path, "preference", 1, {"models": {"base": {"preference_at_256": entry}}})
    for make in (EXPERIMENTS["table1"], EXPERIMENTS["table4"]):
        assert make(plan, path).inputs["preference"] == {"base": {"preference_at_256": entry}}
        assert make(plan, path).key != make(plan).key
    columns = judged_columns(path, ["base", "top_p"])
    assert columns["base"]["preference_at_256"].text() == "34.3 [30.1, 38.2]"
    assert columns.keys() == {"base"}
