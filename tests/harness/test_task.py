"""The task inside lm-eval: real runs of its evaluator, its command line and its other model types."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from lm_eval import simple_evaluate
from lm_eval.models.dummy import DummyLM
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from paths import ROOT

from hyperfit_eval import metrics
from hyperfit_eval.checkpoint_files import find_checkpoint_file
from hyperfit_eval.citation import CitationIndex
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.generation import continue_texts
from hyperfit_eval.harness.location import tasks_dir
from hyperfit_eval.harness.requests import ContinueSettings, continue_request, hyperfit_continue
from hyperfit_eval.records import read_continuations
from hyperfit_eval.texts.contexts import demo_texts

TASK = "hyperfit_openended_demo"


def evaluate(lm, task=TASK, limit=6, metadata=None, **kwargs):
    manager = TaskManager(include_path=str(tasks_dir()), include_defaults=False, metadata=metadata or {})
    return simple_evaluate(
        model=lm, tasks=[task], limit=limit, task_manager=manager, log_samples=True, bootstrap_iters=2, **kwargs
    )


@pytest.fixture(scope="module")
def hf(tiny_model, tiny_tokenizer):
    return HFLM(pretrained=tiny_model, tokenizer=tiny_tokenizer, batch_size=4)


@pytest.fixture(scope="module")
def checkpoint_with_index(tiny_tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "citation_index.safetensors"
    CitationIndex.build([[2, 3, 4, 5, 6, 7, 8]], tiny_tokenizer).save(path)
    return str(path)


@pytest.fixture(scope="module")
def results(hf):
    return evaluate(hf)


def values(results, task=TASK):
    return {key.removesuffix(",none"): value for key, value in results["results"][task].items()}


def test_samples_keep_every_continuation_with_its_exact_ids(results, tiny_model, tiny_tokenizer):
    passages = demo_texts().passages[:6]
    _, expected = continue_texts(tiny_model, tiny_tokenizer, passages)
    logged = [sample["texts"] for sample in results["samples"][TASK]]
    assert [row["generated_ids"] for row in logged] == [record.generated_ids for record in expected]
    assert [row["id"] for row in logged] == [passage.id for passage in passages]


def test_the_table_follows_from_the_logged_ids(results):
    got = values(results)
    rows = [sample["texts"] for sample in results["samples"][TASK]]
    ids = [row["generated_ids"] for row in rows]
    assert got["texts"] == 6
    assert got["ttr_at_256"] == pytest.approx(np.mean([100 * len(set(row[-96:])) / 96 for row in ids]))
    assert got["ttr_at_128"] == pytest.approx(np.mean([100 * len(set(row[:96])) / 96 for row in ids]))
    assert got["original_ttr_at_128"] == pytest.approx(
        np.mean([100 * len(set(row["original_ids"][:96])) / 96 for row in rows])
    )
    words = [row["generated_text_at_128"].split() for row in rows]
    assert got["self_bleu_avg"] == pytest.approx(metrics.self_bleu(words).mean())
    assert got["self_bleu_token_max"] == pytest.approx(metrics.self_bleu([r[:96] for r in ids], "exp").max())
    losses = [sample["context_perplexity"] for sample in results["samples"][TASK]]
    assert {count for _, count in losses} == {32}
    assert got["context_perplexity"] == pytest.approx(np.exp(sum(total for total, _ in losses) / (6 * 32)))
    assert got["comparable"] == "no (6 of 60 texts)"
    assert "dataset_bleu_avg" not in got


def test_the_run_stores_fingerprint_and_signatures(results):
    metadata = results["configs"][TASK]["metadata"]
    assert metadata["texts_fingerprint"] == demo_texts().fingerprint
    assert metadata["signatures"]["self_bleu"].startswith("self_bleu|nrefs:1|case:mixed|eff:no|tok:none|smooth:none|")
    assert "|unit:words|agg:max-pair|len:96|N:6|ctx:32|dec:greedy|block:none|" in metadata["signatures"]["self_bleu"]


@pytest.mark.slow
def test_results_do_not_depend_on_the_batch_size(results, tiny_model, tiny_tokenizer):
    one = values(evaluate(HFLM(pretrained=tiny_model, tokenizer=tiny_tokenizer, batch_size=1)))
    for name, value in values(results).items():
        assert one[name] == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value), name


def test_batch_size_auto_is_sized_for_the_texts(tiny_model, tiny_tokenizer, results):
    auto = values(evaluate(HFLM(pretrained=tiny_model, tokenizer=tiny_tokenizer, batch_size="auto")))
    assert auto["ttr_at_256"] == pytest.approx(values(results)["ttr_at_256"])


@pytest.mark.slow
def test_a_training_set_gives_overlap_and_dataset_bleu(hf, results, tiny_tokenizer, tmp_path):
    from hyperfit_eval.texts.blocks import make_blocks, write_blocks
    from hyperfit_eval.texts.corpus import load_corpus

    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the cat sat on a mat and dog ran to see it was old " * 60)
    blocks = tmp_path / "training_blocks.jsonl"
    write_blocks(blocks, make_blocks(load_corpus(str(corpus)), tiny_tokenizer, num_samples=2))
    got = values(evaluate(hf, metadata={"training_set": str(blocks)}))
    ids = [sample["texts"]["generated_ids"][:96] for sample in results["samples"][TASK]]
    assert got["dataset_overlap_max"] == brute_force_overlap(ids, json.loads(blocks.read_text().splitlines()[1])["ids"])
    assert got["original_dataset_overlap_avg"] >= 0
    assert 0 <= got["dataset_bleu_avg"] <= got["dataset_bleu_max"] <= 100
    # Any other tokenizer's ids are not comparable with these: said, not computed.
    text = blocks.read_text().replace(blocks.read_text().split('"tokenizer": "')[1][:16], "0" * 16)
    blocks.write_text(text)
    got = values(evaluate(hf, metadata={"training_set": str(blocks)}))
    assert got["dataset_overlap_max"] == got["dataset_bleu_token_avg"] == "unavailable"
    assert isinstance(got["dataset_bleu_avg"], float)


def brute_force_overlap(sequences, row):
    """Length of the longest run that some sequence and the row have in common, by comparing all diagonals."""
    best = 0
    for sequence in sequences:
        for shift in range(-len(sequence), len(row)):
            run = 0
            for position, token in enumerate(sequence):
                run = run + 1 if 0 <= position + shift < len(row) and row[position + shift] == token else 0
                best = max(best, run)
    return best


class TextOnly(DummyLM):
    """A model that gives text alone, as lm-eval's API models do, and may know a tokenizer."""

    tokenizer = None


def test_text_only_models_get_text_metrics_and_no_made_up_numbers(tiny_tokenizer):
    lm = TextOnly()
    lm.tokenizer = tiny_tokenizer
    got = values(evaluate(lm))
    unavailable = {name for name, value in got.items() if value == "unavailable"}
    assert {"ttr_at_256", "context_perplexity", "entropy_bits", "self_bleu_token_avg", "rep_4_at_256"} <= unavailable
    # "lol" for every context: one word, too short for a 4-gram, so BLEU without smoothing is 0.
    assert got["self_bleu_avg"] == 0.0
    assert isinstance(got["original_ttr_at_256"], float)


def test_a_model_without_tokenizer_is_one_line():
    with pytest.raises(HyperfitError, match=r"TextOnly brings no tokenizer .* add tokenizer=NAME to --model_args"):
        evaluate(TextOnly())


def test_the_blocked_task_needs_an_index(hf):
    with pytest.raises(
        HyperfitError, match=r"no citation_index.safetensors in the checkpoint .* `hyperfit index build`"
    ):
        evaluate(hf, f"{TASK}_blocked", metadata={"pretrained": str(ROOT)})


def test_gen_kwargs_that_would_be_ignored_are_refused(hf):
    with pytest.raises(HyperfitError, match=r"max_gen_toks=10: .* always makes 224 new tokens"):
        evaluate(hf, gen_kwargs={"max_gen_toks": 10})
    with pytest.raises(HyperfitError, match="--gen_kwargs num_beams: not used by"):
        evaluate(hf, gen_kwargs={"num_beams": 2})


@pytest.mark.parametrize(
    ("gen_kwargs", "message"),
    [
        ({"do_sample": True, "temperature": 0}, "temperature=0: expected a number above 0; leave do_sample out"),
        ({"do_sample": True, "temperature": "warm"}, "temperature=warm: expected a number above 0"),
        ({"do_sample": True, "top_p": 1.5}, "top_p=1.5: expected a number above 0, up to 1"),
        ({"do_sample": True, "top_k": -1}, "top_k=-1: expected a whole number of 0 or more"),
        ({"do_sample": "yes"}, "do_sample=yes: expected True or False"),
        ({"temperature": 0.7}, "temperature=0.7: greedy decoding does not use it; add do_sample=True"),
    ],
)
def test_gen_kwargs_without_meaning_are_refused(hf, gen_kwargs, message):
    with pytest.raises(HyperfitError, match=message):
        evaluate(hf, limit=1, gen_kwargs=gen_kwargs)


@pytest.mark.parametrize("name", ["per_source", "seed", "max_overlap_tokens"])
def test_settings_that_are_no_numbers_are_refused(hf, checkpoint_with_index, name):
    metadata = {"texts": "hub" if name == "per_source" else "demo", "citation_index": checkpoint_with_index, name: "x"}
    with pytest.raises(HyperfitError, match=f"{name}=x: expected a whole number of"):
        evaluate(hf, f"{TASK}_blocked", limit=1, metadata=metadata)


def test_a_chat_endpoint_is_refused_before_the_first_request(tiny_tokenizer):
    from lm_eval.models.openai_completions import LocalChatCompletion

    lm = LocalChatCompletion.__new__(LocalChatCompletion)
    lm.tokenizer = tiny_tokenizer
    lm._rank, lm._world_size = 0, 1
    with pytest.raises(HyperfitError, match="a chat endpoint cannot continue raw text; use --model local-completions"):
        hyperfit_continue(
            lm, [continue_request({"id": "a", "source": "s", "text": "t"}, ContinueSettings(), (TASK, 0, 1))]
        )


@pytest.mark.parametrize("limit", [0, -1])
def test_no_texts_are_refused(hf, limit):
    with pytest.raises(HyperfitError, match=f"--limit leaves no texts of {TASK}; expected a whole number"):
        evaluate(hf, limit=limit)


def test_one_text_has_scores_but_those_that_need_another(hf):
    got = values(evaluate(hf, limit=1))
    assert got["self_bleu_avg"] == "unavailable"
    assert isinstance(got["ttr_at_256"], float)


def test_gen_kwargs_switch_on_sampling(hf, results):
    sampled = evaluate(hf, gen_kwargs={"do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 50})
    ids = [sample["texts"]["generated_ids"] for sample in sampled["samples"][TASK]]
    assert ids != [sample["texts"]["generated_ids"] for sample in results["samples"][TASK]]


def test_unknown_texts_and_missing_files_are_refused(hf):
    with pytest.raises(HyperfitError, match="texts 'web' in the metadata"):
        evaluate(hf, metadata={"texts": "web"})
    with pytest.raises(HyperfitError, match=r"training_set nowhere\.jsonl: no such file"):
        evaluate(hf, metadata={"training_set": "nowhere.jsonl"})


def test_a_hub_model_has_no_files_beside_it_offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert find_checkpoint_file("nobody/nothing", "citation_index.safetensors") is None
    assert find_checkpoint_file(None, "citation_index.safetensors") is None


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(results, tiny_checkpoint, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0"]
    command += [
        "--rdzv_backend=c10d",
        "--rdzv_endpoint=localhost:0",
        str(ROOT / "tests" / "support" / "two_processes.py"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    output = tmp_path / "two.json"
    subprocess.run([*command, str(tiny_checkpoint), str(output)], check=True, env=environment, capture_output=True)
    two = json.loads(output.read_text())
    assert two["ids"] == [
        sample["texts"]["id"] for sample in sorted(results["samples"][TASK], key=lambda s: s["texts"]["id"])
    ]
    expected = values(results)
    for name, value in two["results"].items():
        name = name.removesuffix(",none")
        assert value == (pytest.approx(expected[name], rel=1e-9) if isinstance(value, float) else expected[name]), name


def lm_eval(*arguments, cwd):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "lm_eval", *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
def test_the_command_line_finds_the_task_and_writes_samples(tiny_checkpoint, tmp_path):
    done = lm_eval(
        "run", "--model", "hf", "--model_args", f"pretrained={tiny_checkpoint}", "--tasks", TASK, "--limit", "3",
        "--batch_size", "3", "--output_path", "out", "--log_samples", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"fingerprint {demo_texts().fingerprint}" in done.stderr
    assert "|ttr_at_256" in done.stdout.replace(" ", "")
    generation, records = read_continuations(next((tmp_path / "out").rglob("samples_*.jsonl")))
    assert generation.texts == demo_texts().fingerprint
    assert [len(record.generated_ids) for record in records] == [224] * 3


@pytest.mark.slow
def test_the_command_line_refuses_in_one_line_with_status_2(tiny_checkpoint, tmp_path):
    model = f"pretrained={tiny_checkpoint}"
    done = lm_eval("run", "--model", "hf", "--model_args", model, "--tasks", f"{TASK}_blocked", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"error: {tiny_checkpoint}: no citation_index.safetensors")
