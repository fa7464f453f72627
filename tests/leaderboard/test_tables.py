"""The leaderboard: what is ranked together, what is kept apart, and what is skipped."""

import csv
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import preference_study as invented
import pytest
from browser import start_browser
from publish_fixtures import tiny_results_fixture, tiny_run_fixture  # noqa: F401
from typer.testing import CliRunner

from hyperfit_eval import files
from hyperfit_eval.cli.main import app
from hyperfit_eval.documents import Value
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.leaderboard.page import blocked, decoding, write_leaderboard
from hyperfit_eval.leaderboard.rows import Row, glue_score, read_rows, shown_name
from hyperfit_eval.leaderboard.search import Unread, find
from hyperfit_eval.leaderboard.tables import differences, ranked, recipe, tables
from hyperfit_eval.preference.analysis import analyze, write_preference
from hyperfit_eval.preference.pairs import make_study
from hyperfit_eval.preference.store import Store
from hyperfit_eval.preference.study import write_study
from hyperfit_eval.publish.results import Evaluation, TaskSettings, open_ended, settings_of, write_results
from hyperfit_eval.records import write_continuations
from hyperfit_eval.reproduce.cells import distribution_scores
from hyperfit_eval.reproduce.steps import Step, StepContext
from hyperfit_eval.scores.score import Score
from hyperfit_eval.scores.signature import prediction_signature
from hyperfit_eval.scores.tables import score_records

pytestmark = pytest.mark.slow

SETTINGS = "N:{n}|ctx:32|dec:{dec}|block:{block}|dtype:{dtype}|seed:0|texts:{texts}|tok_hash:{tok}|v:0.1.0"
DEFAULTS = {"n": 60, "dec": "greedy", "block": "none", "dtype": "float32", "texts": "65c3", "tok": "18a1"}


def sign(metric, **changed):
    return f"{metric}|" + SETTINGS.format(**{**DEFAULTS, **changed})


def row(name, ttr, more=None, **changed):
    numbers = {"ttr_at_256": Score("ttr_at_256", ttr, "%", sign("ttr|len:224", **changed), ttr - 1, ttr + 1)}
    settings = settings_of(numbers["ttr_at_256"].signature)
    return Row(name, name, settings, numbers | (more or {}), called=name, files=("a file",))


def order(table):
    return [(rank, one.name) for rank, one in table.rows]


def test_by_hand():
    """Three rows that were measured alike, one on other texts: two tables, each ranked by itself."""
    made = tables([row("low", 12.0), row("other", 99.0, texts="ffff"), row("high", 70.0), row("mid", 60.0)])
    assert [order(table) for table in made] == [[(1, "high"), (2, "mid"), (3, "low")], [(1, "other")]]
    assert differences(made[1], made[0]) == ["texts"]


def test_decoding_blocking_and_training_set_are_of_the_row():
    sign = "overlap|rows:96|data:efa0|N:60|dec:greedy|block:5|seed:0|texts:65c3"
    assert str(recipe(sign)) == "overlap|rows:96|N:60|texts:65c3"  # fmt: skip
    made = tables([row("a", 70.0), row("a", 60.0, block="5"), row("b", 65.0, dec="sample(top_p=0.9)")])
    assert [order(table) for table in made] == [[(1, "a"), (2, "b"), (3, "a")]]


def with_overlap(name, ttr, data, original=True):
    """A row with overlaps with a training set, its own and that of the original texts."""
    signs = {side: sign(f"dataset_overlap|rows:96|data:{data}", dec=side) for side in ("greedy", "original")}
    overlap = {side: Score("dataset_overlap_avg", 5.0, "tokens", signs[side]) for side in signs}
    one = row(name, ttr, {"dataset_overlap_avg": overlap["greedy"]})
    texts = {"ttr_at_256": Score("ttr_at_256", 78.0, "%", sign("ttr|len:224", dec="original"))}
    return replace(one, originals=texts | {"dataset_overlap_avg": overlap["original"]} if original else {})


def test_overlap_of_the_original_texts_is_shown_where_all_rows_have_one_training_set():
    alike, other = [with_overlap("a", 70.0, "efa0"), with_overlap("b", 60.0, "efa0")], with_overlap("c", 50.0, "beef")
    (table,) = tables(alike)
    assert set(table.originals) == {"ttr_at_256", "dataset_overlap_avg"}
    for third in (other, with_overlap("c", 50.0, "beef", original=False)):
        (table,) = tables([*alike, third])
        assert len(table.rows) == 3 and set(table.originals) == {"ttr_at_256"}


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"tok": "beef"}, "tok_hash"), ({"dtype": "bfloat16"}, "dtype"), ({"n": 300}, "N"), ({"texts": "0000"}, "texts")],
)
def test_any_other_field_keeps_rows_apart(changed, named):
    made = tables([row("a", 70.0), row("b", 80.0, **changed)])
    assert [len(table.rows) for table in made] == [1, 1]
    assert named in differences(made[1], made[0])


def test_one_column_measured_otherwise_is_enough():
    """The same TTR but another smoothing of Self-BLEU."""
    bleu = {s: Score("self_bleu_avg", 5.0, "BLEU", sign(f"self_bleu|smooth:{s}")) for s in ("none", "exp")}
    one, two = (row(s, 70.0, {"self_bleu_avg": bleu[s]}) for s in bleu)
    plain = row("plain", 71.0)
    made = tables([one, two, plain])
    assert sorted(len(table.rows) for table in made) == [1, 2]
    assert differences(made[1], made[0]) == ["smooth"]
    for table in made:
        assert all(
            recipe(number.signature) == table.recipes[metric]
            for _, r in table.rows
            for metric, number in r.numbers.items()
        )


def test_equal_values_share_a_rank_and_rows_without_ttr_have_none():
    none = Row("z", "z", numbers={"mmlu": Score("acc", 25.0, "%", "acc|task:mmlu")})
    assert [(rank, r.name) for rank, r in ranked([none, row("b", 5.0), row("a", 5.0), row("c", 1.0)])] == [
        (1, "a"), (1, "b"), (3, "c"), (None, "z"),
    ]  # fmt: skip


def test_a_decoding_without_a_name_is_no_number_of_the_model_alone():
    (table,) = tables([row("m", 70.0, dec="")])
    assert order(table) == [(1, "m")]


def test_files_of_one_model_make_one_row_unless_they_disagree():
    perplexity = {"perplexity": Score("perplexity", 70.0, "", "perplexity|N:60")}
    (table,) = tables([row("m", 70.0), row("m", 70.0, perplexity)])
    assert order(table) == [(1, "m")]
    assert set(table.rows[0][1].numbers) == {"ttr_at_256", "perplexity"}
    (table,) = tables([row("m", 70.0), row("m", 71.0)])
    assert order(table) == [(1, "m"), (2, "m")]


def test_what_is_of_the_model_stands_in_all_of_its_rows():
    mmlu = Row("m", "m", numbers={"mmlu": Score("acc", 25.0, "%", "acc|task:mmlu")})
    (table,) = tables([row("m", 70.0), row("m", 60.0, block="5"), row("n", 50.0), mmlu])
    assert [(r.name, "mmlu" in r.numbers) for _, r in table.rows] == [("m", True), ("m", True), ("n", False)]


def test_glue_is_the_mean_over_tasks():
    """mrpc's score is the mean of its two metrics; the interval takes these as moving together."""
    numbers = {
        ("rte", "acc"): Score("acc", 0.5, "", "acc|task:rte|num_fewshot:0|N:100|v:0.1.0", 0.47, 0.53),
        ("mrpc", "acc"): Score("acc", 0.6, "", "acc|task:mrpc|num_fewshot:0|N:200|v:0.1.0", 0.56, 0.64),
        ("mrpc", "f1"): Score("f1", 0.8, "", "f1|task:mrpc|num_fewshot:0|N:200|v:0.1.0", 0.76, 0.84),
        ("qqp", "acc"): Score("acc", 0.9, "", "acc|task:qqp|num_fewshot:0|N:200|v:0.1.0"),
    }
    glue = glue_score(numbers)
    assert glue.value == pytest.approx(60.0)
    assert (glue.low, glue.high) == (pytest.approx(57.5), pytest.approx(62.5))
    assert glue.signature.startswith("glue|agg:task-mean|tasks:mrpc+rte|num_fewshot:0|N:200,100|")
    assert glue.signature.endswith("|v:0.1.0")
    assert glue_score({}) is None


def test_glue_has_the_version_that_measured_it():
    """Results of two versions of this package are kept apart, whichever one reads them."""
    rows = []
    for version in ("0.0.1", "0.0.2"):
        parts = {("rte", "acc"): Score("acc", 0.5, "", f"acc|task:rte|num_fewshot:0|N:100|v:{version}")}
        rows.append(row(version, 70.0, {"glue": glue_score(parts)}))
        assert rows[-1].numbers["glue"].signature == f"glue|agg:task-mean|tasks:rte|num_fewshot:0|N:100|v:{version}"
    made = tables(rows)
    assert [len(table.rows) for table in made] == [1, 1]
    assert differences(made[1], made[0]) == ["v"]
    assert "v:" not in glue_score({("rte", "acc"): Score("acc", 0.5, "", "acc|task:rte")}).signature


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Real records and scores, a published model with MMLU, a preference study's result, and broken files."""
    root = tmp_path_factory.mktemp("results")
    _, generation, records = invented.run("hyperfitted", contexts=6)
    (root / "run").mkdir()
    write_continuations(root / "run" / "continuations.jsonl", generation, records)
    tables_ = score_records(generation, records)
    body = {"format": "hyperfit-eval/scores", "version": 1, "records": "gone/continuations.jsonl", **tables_}
    (root / "run" / "any-name.json").write_text(json.dumps(body))
    (root / "run" / "config.json").write_text("{}")
    entry = tables_["generated"]["all"]["ttr_at_256"]
    settings = settings_of(entry["signature"])
    number = Score("ttr_at_256", 99.0, "%", entry["signature"])
    accuracy = Score("acc", 0.26, "", "acc|task:mmlu|N:100|v:0.1.0", 0.24, 0.28)
    (root / "<b>published").mkdir()
    write_results(
        root / "<b>published" / "results.json",
        [Evaluation("greedy", settings, [number]), Evaluation("mmlu", {}, [accuracy], task=TaskSettings("mmlu"))],
    )
    study = make_study([("fine", generation, records)], scenarios=[256], check_rate=0, seed=0, annotations=1)
    write_study(root / "study", study)
    store = Store(root / "study", study)
    annotator = store.annotator(store.add_annotator("Ada")).id
    for outcome in ("model", "original", "equal", "original", "original", "equal"):
        pair = study.by_id[store.next(annotator).pair]
        store.answer(annotator, pair.id, invented.choice_of(pair, outcome))
    store.close()
    write_preference(root / "study" / "preference.json", analyze(root / "study"))
    (root / "broken").mkdir()
    (root / "broken" / "results_cut.json").write_text('{"results": {')
    (root / "broken" / "results_foreign.json").write_text('{"a": 1}')
    (root / "broken" / "results_damaged.json").write_text('{"format": "hyperfit-eval/demo-results", "version": 1}')
    (root / "broken" / "results_later.json").write_text('{"format": "hyperfit-eval/published-results", "version": 9}')
    return root


@pytest.fixture(scope="module")
def made(material):
    """What the command writes from all of it."""
    out = material.parent / f"{material.name}-out"
    names = [str(material / name) for name in ("run", "<b>published", "study", "broken", "absent")]
    result = CliRunner().invoke(app, ["leaderboard", *names, "--out", str(out)])
    assert result.exit_code == 0, result.output
    return out, result.output


def test_the_command_reads_all_kinds(made):
    out, said = made
    assert "2 rows in 1 tables; 5 skipped" in said, said
    lines = list(csv.DictReader((out / "leaderboard.csv").read_text().splitlines()))
    published, scored = lines
    assert published["model"].endswith("<b>published")
    assert (published["rank"], published["ttr_at_256"], published["mmlu"]) == ("1", "99.0", "26.0")
    assert (scored["preference"], scored["blocked"], scored["decoding"]) == ("50.0", "no", "greedy")
    assert scored["files"] == "run/any-name.json; study/preference.json"
    assert float(scored["ttr_at_256_high"]) == pytest.approx(float(scored["ttr_at_256"]))  # of 17 words, always all


def test_broken_and_foreign_files_are_named_with_the_reason(made, material):
    out, said = made
    for file, reason in {
        "results_cut.json": "line 1: not JSON (Expecting property name enclosed in double quotes); is the",
        "results_foreign.json": "neither lm-eval's results nor this package's; expected what lm-eval or hyperfit",
        "results_damaged.json": "no 'models', or null",
        "results_later.json": "version 9 is later than 1; pip install -U hyperfit-eval",
    }.items():
        line = next(line for line in said.splitlines() if line.startswith(f"skipped broken/{file}: "))
        assert reason in line
        assert reason in (out / "leaderboard.md").read_text()
    assert f"skipped {material / 'absent'}: no such file or folder" in said


def test_nothing_readable_writes_nothing(material, tmp_path):
    result = CliRunner().invoke(app, ["leaderboard", str(material / "broken"), "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, HyperfitError)
    assert "no results in" in str(result.exception) and "4 skipped, nothing written" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_a_file_given_twice_counts_once_and_a_name_can_be_given(material):
    folder = material / "run"
    sources, skipped = find([str(folder), str(folder / "any-name.json"), f"mine={material / '<b>published'}"])
    assert [source.shown for source in sources] == ["run/any-name.json", "<b>published/results.json"]
    assert skipped == []
    assert {row.name for row in read_rows(sources[1])} == {"mine"}


def test_names_and_cells():
    assert shown_name("/home/ada/runs/book") == "…/runs/book"
    assert shown_name("ada/book") == "ada/book"
    assert decoding(row("a", 1.0, dec="sample(temperature=0.7,top_k=50)")) == "temperature 0.7, top-k 50"
    assert decoding(row("a", 1.0, dec="sample(temperature=1.0,top_p=1.0,top_k=0,seed=0)")) == "temperature 1.0, seed 0"
    assert blocked(row("a", 1.0, block="5+cap24")) == "5-grams, cap24"
    assert blocked(row("a", 1.0)) == "no"
    assert blocked(Row("a", "a")) == ""


def test_the_demos_results(tmp_path):
    _, generation, records = invented.run("base", contexts=6)
    metrics, perplexity = score_records(generation, records), {"perplexity": {"mean": 70.6, "low": 66.0, "high": 75.0}}
    body = {"distributions": {"base": perplexity}, "models": {"base, greedy": {"metrics": metrics}}}
    files.write_json(tmp_path / "results.json", "demo-results", 1, body)
    (source,), _ = find([str(tmp_path)])
    (one,) = read_rows(source)
    assert (one.name, one.numbers["perplexity"].value) == (f"…/{tmp_path.name}/base", 70.6)
    assert one.originals["ttr_at_256"].value > 0


def test_a_hub_id(material, tmp_path, monkeypatch):
    """From the Hub's cache, as it lies on the disk."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    home = tmp_path / "models--ada--book"
    shutil.copytree(material / "<b>published", home / "snapshots" / "abc")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("abc")
    (source,), skipped = find(["ada/book", "ada/other"])
    assert (source.shown, {one.name for one in read_rows(source)}) == ("ada/book/results.json", {"ada/book"})
    assert skipped[0].reason.startswith("no such file or folder, and not to be had from the Hub (")


def test_lm_eval_results(tiny_results, tmp_path):
    """Of `hyperfit eval` on the tiny model, blocked and not."""
    sources, _ = find([str(tiny_results)])
    rows = [one for source in sources for one in read_rows(source)]
    (table,) = tables(rows)
    assert sorted(blocked(one) for _, one in table.rows) == ["5-grams", "no"]
    assert {"ttr_at_256", "self_bleu_avg", "perplexity"} <= set(table.recipes)
    assert table.originals["ttr_at_256"].value > 0


def test_perplexity_has_one_recipe_wherever_it_was_measured(tiny_results, tmp_path):
    """By the lm-eval task, the demo and the study: else rows of one model would not join."""
    sources, _ = find([str(tiny_results)])
    by_task = next(one for source in sources for one in read_rows(source))
    settings = by_task.settings
    fields = {name: settings[name] for name in ("N", "dtype", "texts", "tok_hash")}
    expected = prediction_signature("perplexity", **fields)
    assert by_task.numbers["perplexity"].signature == expected
    arrays = {"nll": np.ones((4, 256)), "entropy_bits": np.ones((4, 256)), "top_mass": np.ones((4, 256, 3))}
    (tmp_path / "predict").mkdir()
    np.savez(
        tmp_path / "predict" / "predictions.npz", first_scored=0, dtype=settings["dtype"],
        tokenizer=settings["tok_hash"], **arrays,
    )  # fmt: skip
    setting = SimpleNamespace(texts=SimpleNamespace(fingerprint=settings["texts"]))
    context, step = StepContext(tmp_path, tmp_path, print), Step("predict", lambda context: None)
    assert distribution_scores(setting, context, step)["perplexity"].signature == expected
    entry = {"mean": 5.0, "signature": "ttr|" + "|".join(f"{name}:{value}" for name, value in settings.items())}
    table = {side: {"all": {"ttr_at_128": entry}} for side in ("generated", "original")}
    by_demo = open_ended(Value(table, "a test"), Value({"perplexity": {"mean": 70.6}}, "a test"))
    assert by_demo.get("perplexity").signature == expected


def test_no_results_in_lm_evals_form_without_a_model(tmp_path):
    (tmp_path / "results.json").write_text('{"results": {}, "configs": {}, "config": {"model_args": "dtype=float32"}}')
    (source,), _ = find([str(tmp_path)])
    with pytest.raises(HyperfitError, match="lm-eval's results without the name of a model"):
        read_rows(source)


@pytest.mark.browser
def test_the_page_sorts_filters_and_escapes(made, tmp_path):
    """In headless Chromium, from a file, without network."""
    rows = [row("base", 12.0), row("<img src=x onerror=alert(1)>", 70.0), row("fine", 65.0, block="5")]
    write_leaderboard(tmp_path, tables(rows), [Unread("<script>", "broken")])
    page = (tmp_path / "leaderboard.html").read_text()
    assert "<img" not in page and "http" not in page.replace('http-equiv="', "")
    driver = start_browser()
    try:
        driver.get((tmp_path / "leaderboard.html").as_uri())

        def shown():
            return driver.execute_script(
                "return [...document.querySelectorAll('tbody tr:not([hidden]) .model')].map(cell => cell.textContent)"
            )

        assert shown() == ["<img src=x onerror=alert(1)>", "fine", "base"]
        head = driver.find_elements("css selector", "th button")[4]
        assert head.text == "TTR@256, %"
        head.click()
        assert shown() == ["<img src=x onerror=alert(1)>", "fine", "base"]
        head.click()
        assert shown() == ["base", "fine", "<img src=x onerror=alert(1)>"]
        driver.find_element("id", "filter").send_keys("BASE greedy")
        assert shown() == ["base"]
        driver.find_element("id", "filter").clear()
        driver.execute_script("blocked.value = 'yes'; blocked.dispatchEvent(new Event('change'))")
        assert shown() == ["fine"]
        assert driver.find_element("id", "count").text == "1 of 3 rows"
    finally:
        driver.quit()
