"""Blocks to train on, and the evaluation texts that they must not hold."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.texts.contexts import demo_texts, write_texts
from hyperfit_eval.training.data import BlockDataset, collate, evaluation_texts, training_blocks
from hyperfit_eval.training.recipe import HyperfitArguments


def corpus(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def options(path, **given):
    given = {"num_train_samples": 3, "sequence_length": 16, "num_validation_samples": 1, **given}
    return HyperfitArguments(model="m", corpus=path, **given)


def test_each_block_is_a_row_after_its_prefix():
    dataset = BlockDataset(np.array([[5, 6], [7, 8], [9, 1]]), prefix=[0])
    batch = collate([dataset[2], dataset[0]])
    assert len(dataset) == 3
    assert batch["input_ids"].tolist() == batch["labels"].tolist() == [[0, 9, 1], [0, 5, 6]]
    assert collate([BlockDataset(np.array([[5, 6]]))[0]])["input_ids"].tolist() == [[5, 6]]


@pytest.fixture(scope="module")
def byte_tokenizer():
    """One token a byte: whatever is cut can be read again."""
    vocabulary = {byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def test_a_corpus_of_evaluation_texts_is_refused(tmp_path, byte_tokenizer):
    path = corpus(tmp_path / "c.jsonl", [passage.text for passage in demo_texts().passages[:4]])
    given = options(path, evaluation_texts="demo", sequence_length=200)
    with pytest.raises(HyperfitError, match=r"c.jsonl: 0 blocks of 200 tokens and \d+ that share 13 words with eval"):
        training_blocks(given, byte_tokenizer, print)


def test_blocks_that_overlap_evaluation_texts_are_left_out_and_counted(tmp_path, byte_tokenizer):
    own = " ".join(f"On day {day} the old well behind the {day % 7} mills ran dry again." for day in range(60))
    path = corpus(tmp_path / "c.jsonl", [demo_texts().passages[0].text, own])
    given = options(path, evaluation_texts="demo", sequence_length=200, num_train_samples=10, num_validation_samples=2)
    blocks, check = training_blocks(given, byte_tokenizer, print)
    assert all("old well" in text for text in [*blocks.texts, *blocks.validation_texts])
    assert check["checked"] and check["texts"] == "demo" and check["count"] == 60 and check["shared_words"] == 13
    assert check["fingerprint"] == demo_texts().fingerprint
    assert check["blocks_left_out"] == blocks.left_out > 0


def test_texts_may_come_from_a_file(tmp_path):
    write_texts(tmp_path / "texts.jsonl", demo_texts())
    texts, check = evaluation_texts(str(tmp_path / "texts.jsonl"), print)
    assert texts.fingerprint == demo_texts().fingerprint == check["fingerprint"]
    with pytest.raises(HyperfitError, match=r"missing.jsonl: cannot be read"):
        evaluation_texts(str(tmp_path / "missing.jsonl"), print)


def test_nothing_checked_is_said(monkeypatch, tmp_path):
    lines = []
    check = {"checked": False, "reason": "not asked for (--evaluation_texts none)"}
    assert evaluation_texts("none", lines.append) == (None, check)
    assert lines[0].startswith("Not checked: whether the corpus overlaps the evaluation texts (not asked for")
    # Offline, in a folder without datasets.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    texts, check = evaluation_texts(None, lines.append)
    assert texts is None and not check["checked"] and "dataset Salesforce/wikitext cannot be loaded" in check["reason"]
    assert lines[1].startswith("Not checked: whether the corpus overlaps the evaluation texts (dataset Salesforce")
    with pytest.raises(HyperfitError, match="dataset Salesforce/wikitext cannot be loaded"):
        evaluation_texts("hub", lines.append)
