"""`block_citations` for tasks that are not ours: what is banned is decided by CitationBlocker, here by real runs."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from lm_eval import simple_evaluate
from lm_eval.api.model import CachingLM
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM, AutoTokenizer

from hyperfit_eval.blocking import CitationBlocker
from hyperfit_eval.citation import CitationIndex
from hyperfit_eval.demo.location import demo_model_dir
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.harness import blocking
from hyperfit_eval.harness.location import tasks_dir

TASK = """task: continue_words
dataset_path: json
dataset_kwargs: {{data_files: {data}}}
test_split: train
output_type: generate_until
doc_to_text: "{{{{text}}}}"
doc_to_target: ""
generation_kwargs: {{until: ["zebra"], max_gen_toks: 24, do_sample: false}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 0}}
"""
PROMPTS = ["The old house stood", "In the morning she went to the", "He was born in", "It is said that no"]


@pytest.fixture(scope="module")
def task_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("task")
    (folder / "data.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in PROMPTS))
    (folder / "task.yaml").write_text(TASK.format(data=folder / "data.jsonl"))
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The shipped model beside an index of what it says by itself: it recites that unless it is blocked."""
    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    shutil.copytree(demo_model_dir(), folder)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).float(), AutoTokenizer.from_pretrained(folder)
    CitationIndex.build(continue_prompts(model, tokenizer, []), tokenizer).save(folder / "citation_index.safetensors")
    return folder


@pytest.fixture(scope="module")
def model(checkpoint):
    return AutoModelForCausalLM.from_pretrained(checkpoint).float()


@pytest.fixture(scope="module")
def tokenizer(checkpoint):
    return AutoTokenizer.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def index(checkpoint, tokenizer):
    return CitationIndex.load(checkpoint / "citation_index.safetensors", tokenizer)


def continue_prompts(model, tokenizer, processors):
    """Ids of each prompt's continuation, made alone, by `generate` itself."""
    continuations = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False,
            pad_token_id=tokenizer.eos_token_id, logits_processor=processors,
        )  # fmt: skip
        continuations.append(out[0, ids.shape[1] :].tolist())
    return continuations


def answers(folder, model="hf", **options):
    metadata = options.pop("metadata", None)
    results = simple_evaluate(
        model=model, tasks=["continue_words"], log_samples=True, bootstrap_iters=2, batch_size=4, device="cpu",
        task_manager=TaskManager(include_path=[str(folder)], include_defaults=False, metadata=metadata), **options,
    )  # fmt: skip
    return [sample["resps"][0][0] for sample in results["samples"]["continue_words"]]


@pytest.fixture(scope="module")
def plain(task_folder, checkpoint):
    return answers(task_folder, model_args=arguments(checkpoint))


@pytest.fixture(scope="module")
def expected(model, tokenizer, index):
    """The same prompts one by one, with the blocker of `transformers`."""
    return [
        tokenizer.decode(ids, skip_special_tokens=True)
        for ids in continue_prompts(model, tokenizer, [CitationBlocker(index)])
    ]


def arguments(checkpoint, **options):
    return {"pretrained": str(checkpoint), "dtype": "float32", **options}


def test_model_args_block_a_task_that_knows_nothing_of_it(task_folder, checkpoint, expected, plain):
    given = arguments(checkpoint, block_citations=True)
    assert answers(task_folder, model_args=given) == expected != plain
    assert given["block_citations"] is True  # as it was given: lm-eval stores it with the results
    written = f"pretrained={checkpoint},dtype=float32,block_citations=True"
    assert answers(task_folder, model_args=written) == expected


@pytest.mark.slow
def test_metadata_blocks_the_evaluation_it_is_given_for_and_no_other(
    task_folder, checkpoint, model, tokenizer, expected, plain
):
    metadata = {"block_citations": True, "pretrained": str(checkpoint)}
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, device="cpu")
    assert answers(task_folder, lm, metadata=metadata) == expected
    assert lm.hyperfit_blocker.counters.banned > 0
    other = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, device="cpu")
    assert answers(task_folder, other) == plain


@pytest.mark.slow
def test_our_own_tasks_follow_a_blocked_model(checkpoint, index):
    results = simple_evaluate(
        model="hf", model_args=arguments(checkpoint, block_citations=True, max_overlap_tokens=8),
        tasks=["hyperfit_openended_demo"], limit=2, log_samples=True, bootstrap_iters=2, device="cpu",
        task_manager=TaskManager(include_path=str(tasks_dir()), include_defaults=False),
    )  # fmt: skip
    signatures = results["configs"]["hyperfit_openended_demo"]["metadata"]["signatures"]
    assert "|block:5+cap8|" in signatures["ttr_at_256"]
    corpus = index.tokens.tolist()
    for sample in results["samples"]["hyperfit_openended_demo"]:
        ids = sample["texts"]["generated_ids"]
        assert not any(contains(corpus, ids[start : start + 9]) for start in range(len(ids) - 8))


def contains(row, run):
    windows = np.lib.stride_tricks.sliding_window_view(np.array(row), len(run))
    return bool((windows == np.array(run)).all(axis=1).any())


def test_what_would_not_block_is_refused(task_folder, checkpoint, tmp_path):
    with pytest.raises(HyperfitError, match="block_citations needs --model hf and a causal LM, not DummyLM"):
        answers(task_folder, "dummy", model_args={"block_citations": True})
    with pytest.raises(HyperfitError, match=r"citation_index nowhere\.safetensors: no such file"):
        given = arguments(checkpoint, block_citations=True, citation_index="nowhere.safetensors")
        answers(task_folder, model_args=given)
    lm = HFLM(pretrained=str(checkpoint), device="cpu")
    with pytest.raises(HyperfitError, match=r"no citation_index\.safetensors in the checkpoint for block_citations"):
        blocking.block_model(lm, {"block_citations": True, "pretrained": str(tmp_path)})
    cached = CachingLM(lm, str(tmp_path / "cache.db"))
    with cached.dbdict, pytest.raises(HyperfitError, match=r"--use_cache with block_citations: .* leave it out"):
        blocking.block_model(cached, {"block_citations": True, "pretrained": str(checkpoint)})


@pytest.mark.slow
def test_the_command_line(task_folder, checkpoint, expected, tmp_path):
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--tasks", "continue_words", "--device", "cpu"]
    command += ["--include_path", str(task_folder), "--log_samples", "--output_path", "out", "--batch_size", "4"]
    command += ["--model_args", f"pretrained={checkpoint},dtype=float32,block_citations=True"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "citation blocking is on in every generate_until task" in done.stderr
    rows = next((tmp_path / "out").rglob("samples_*.jsonl")).read_text().splitlines()
    said = {json.loads(row)["doc"]["text"]: json.loads(row)["resps"][0][0] for row in rows}
    assert [said[prompt] for prompt in PROMPTS] == expected
