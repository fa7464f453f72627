"""The demonstration on its own files: a real run, shortened to one epoch and 12 texts."""

import json
import re

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from hyperfit_eval.demo.location import demo_model_dir
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.metrics import longest_overlap
from hyperfit_eval.publish.result_files import read_results
from hyperfit_eval.records import read_continuations
from hyperfit_eval.report.tables import markdown_table, plain_table, with_interval
from hyperfit_eval.reproduce.demo import run_demo, summary_table
from hyperfit_eval.reproduce.section import read_section
from hyperfit_eval.texts.blocks import read_blocks
from hyperfit_eval.texts.contexts import TextSet, demo_texts

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def some():
    texts = demo_texts()
    return TextSet(texts.passages[:12], texts.dropped, texts.origins)


@pytest.fixture(scope="module")
def demo(some, tmp_path_factory):
    root, lines = tmp_path_factory.mktemp("demo"), []
    summary = run_demo(root, epochs=1, texts=some, say=lines.append)
    return root, lines, summary


def rows_of(root):
    (table,) = read_section(root / "steps" / "fluency").tables
    return {row.group: row.cells for row in table.rows}


def test_four_acts(demo):
    _, lines, _ = demo
    assert [line for line in lines if line.startswith("[")] == [
        "[1/4] The base model continues 12 texts it has never seen",
        "[2/4] Hyperfitting it on 96 passages of 256 tokens, 1 epochs",
        "[3/4] The hyperfitted model continues the same texts, without and with citation blocking",
        "[4/4] Measuring",
    ]


def test_what_other_commands_take(demo, some):
    root, _, _ = demo
    for name in ("base_greedy", "base_top_p", "hyperfitted_greedy", "hyperfitted_greedy_blocked"):
        generation, records = read_continuations(root / f"continuations_{name}.jsonl")
        assert len(records) == 12
        assert (generation.blocker is not None) == name.endswith("blocked")
    assert read_continuations(root / "continuations_base_top_p.jsonl")[0].decoding["top_p"] == 0.9
    assert {"model.safetensors", "run.json", "history.png", "citation_index.safetensors", "training_blocks.jsonl"} <= {
        path.name for path in (root / "hyperfitted").iterdir()
    }
    assert json.loads((root / "results.json").read_text())["texts"] == some.fingerprint
    evaluations = [evaluation for results in read_results(root / "results.json") for evaluation in results.evaluations]
    assert len(evaluations) == 4 and all(evaluation.get("ttr_at_256") for evaluation in evaluations)


def test_one_epoch_already_sharpens_and_overfits(demo):
    root, _, _ = demo
    entropy = {row.group: row.cells["entropy_bits"] for row in read_section(root / "steps/table3").tables[0].rows}
    assert entropy["hyperfitted"].value < entropy["base"].value
    rows = rows_of(root)
    assert rows["base"]["ttr_at_256"].value < 25
    assert rows["top_p"]["ttr_at_256"].value > 40


def test_copied_runs_are_those_of_the_records(demo):
    root, _, _ = demo
    blocks = list(read_blocks(root / "hyperfitted" / "training_blocks.jsonl").ids)
    for name, file in (("hyperfitted", "hyperfitted_greedy"), ("blocked", "hyperfitted_greedy_blocked")):
        records = read_continuations(root / f"continuations_{file}.jsonl")[1]
        lengths = longest_overlap([record.generated_ids for record in records], blocks)
        assert rows_of(root)[name]["copied_avg"].value == pytest.approx(lengths.mean())
        assert rows_of(root)[name]["copied_max"].value == lengths.max()


def test_report_and_summary_show_the_same_numbers(demo):
    root, _, summary = demo
    report = (root / "report.md").read_text()
    _, rows = summary_table(read_section(root / "steps" / "fluency"))
    assert len(rows) == 5
    for cell in (cell for row in rows for cell in row):
        assert cell in report and cell in summary
    assert summary.endswith(f"report: {root / 'report.md'}")
    assert not re.search(r"\bnan\b", report)


def test_it_goes_on_where_it_was(demo, some):
    root, _, summary = demo
    (root / "hyperfitted" / "mine.txt").write_text("of a later push")
    lines = []
    again = run_demo(root, epochs=1, texts=some, say=lines.append)
    assert again.splitlines()[:-1] == summary.splitlines()[:-1]
    assert not [line for line in lines if "left)" in line], "no step is done again"
    assert (root / "hyperfitted" / "mine.txt").is_file()


def test_another_folder_is_refused(tmp_path):
    (tmp_path / "results.json").write_text("{}")  # of 0.1.0, say
    with pytest.raises(HyperfitError, match=r"holds files, but no demonstration that can go on; remove it, or give"):
        run_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_the_shipped_model_loads_in_float32_and_knows_english():
    model = AutoModelForCausalLM.from_pretrained(demo_model_dir())
    assert str(model.dtype) == "torch.float32"
    assert sum(path.stat().st_size for path in demo_model_dir().iterdir()) < 16 * 2**20
    tokenizer = AutoTokenizer.from_pretrained(demo_model_dir())
    ids = tokenizer("<|endoftext|>He went into the house and", return_tensors="pt")["input_ids"]
    likely = tokenizer.decode(model(ids).logits[0, -1].topk(50).indices).split()
    assert {"the", "then", "he"} & set(likely)


def test_tables_by_hand():
    assert markdown_table(["a", "b"], [["x|y", "1"]]) == "| a | b |\n|---|---:|\n| x\\|y | 1 |"
    assert plain_table(["a", "bb"], [["long", "1"]]) == "a     bb\n--------\nlong   1"
    assert with_interval({"mean": 1.25, "low": 1.0, "high": 1.5}, 2) == "1.25 [1.00, 1.50]"
    assert with_interval({"value": 2.0}) == "2.0"
    assert with_interval({"unavailable": "why"}) == with_interval(None) == "-"
