"""The demonstration on its own files: a real run, shortened to one epoch and 12 texts."""

import json
import re

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from hyperfit_eval.demo.location import demo_model_dir
from hyperfit_eval.demo.report import write_report
from hyperfit_eval.demo.run import BASE, BLOCKED, HYPERFITTED, TOP_P, run_demo
from hyperfit_eval.metrics import longest_overlap
from hyperfit_eval.records import read_continuations
from hyperfit_eval.report.tables import markdown_table, plain_table, with_interval
from hyperfit_eval.texts.contexts import TextSet, demo_texts


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    texts = demo_texts()
    some = TextSet(texts.passages[:12], texts.dropped, texts.origins)
    return run_demo(tmp_path_factory.mktemp("demo"), epochs=1, texts=some, say=lambda line: None)


def test_every_step_leaves_its_file(demo):
    names = ["base_greedy", "base_top_p", "hyperfitted_greedy", "hyperfitted_greedy_blocked"]
    for name in names:
        generation, records = read_continuations(demo.folder / f"continuations_{name}.jsonl")
        assert len(records) == 12
        assert (generation.blocker is not None) == name.endswith("blocked")
    assert read_continuations(demo.folder / "continuations_base_top_p.jsonl")[0].decoding["top_p"] == 0.9
    assert {"model.safetensors", "run.json", "history.png", "citation_index.safetensors", "training_blocks.jsonl"} <= {
        path.name for path in demo.run.folder.iterdir()
    }
    assert json.loads((demo.folder / "results.json").read_text())["texts"] == demo.texts_fingerprint


def test_one_epoch_already_sharpens_and_overfits(demo):
    base, hyperfitted = demo.distributions["base"], demo.distributions["hyperfitted"]
    assert hyperfitted["entropy_bits"]["mean"] < base["entropy_bits"]["mean"]
    assert demo.measured[BASE].table["generated"]["all"]["ttr_at_256"]["mean"] < 25
    assert demo.measured[TOP_P].table["generated"]["all"]["ttr_at_256"]["mean"] > 40


def test_overlaps_are_those_of_the_records(demo):
    for name in (HYPERFITTED, BLOCKED):
        measured = demo.measured[name]
        ids = [record.generated_ids for record in measured.records]
        assert measured.overlaps == longest_overlap(ids, list(demo.run.blocks.ids)).tolist()


def test_the_report_shows_the_numbers_of_the_results(demo):
    summary = write_report(demo)
    report = (demo.folder / "report.md").read_text()
    ttr = demo.measured[HYPERFITTED].table["generated"]["all"]["ttr_at_256"]
    assert with_interval(ttr) in report
    assert with_interval(ttr) in summary
    assert f"**{demo.run.training.loss:.4f} nats**" in report
    assert "(hyperfitted/history.png)" in report
    assert len(re.findall(r"^### ", report, re.M)) == 6
    assert not re.search(r"\bnan\b", report)


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
