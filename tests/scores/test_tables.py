"""The tables made from continuation records."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hyperfit_eval import metrics
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.metrics import Smoothing
from hyperfit_eval.records import Continuation, Generation
from hyperfit_eval.scores import PRESETS, TrainingSet, compare_records, score_records
from hyperfit_eval.scores.signature import bleu_signature, signature

GENERATION = Generation(
    model="m", tokenizer="abcd", decoding={"method": "greedy", "max_new_tokens": 224}, blocker={"ngram": 5}, texts="t1"
)


def decode(ids):
    return " ".join(f"w{i}" for i in ids)


def make_records(seed, count=12, length=224):
    """Records of random ids; the second half of every third generated text is a loop."""
    rng = np.random.default_rng(seed)
    originals = np.random.default_rng(99).integers(0, 300, (count, 256)).tolist()
    records = []
    for number, row in enumerate(originals):
        generated = rng.integers(0, 300, length).tolist()
        if number % 3 == 0:
            generated[length // 2 :] = (generated[:4] * length)[: length - length // 2]
        context, original = row[:32], row[32:]
        records.append(
            Continuation(
                f"text-{number}", ["fiction", "news"][number % 2], context, original, generated,
                decode(context), decode(original), decode(generated), decode(original[:96]), decode(generated[:96]),
            )
        )  # fmt: skip
    return records


def training_set(tokenizer="abcd"):
    rows = np.random.default_rng(5).integers(0, 300, (20, 256))
    rows[3, 10:60] = make_records(1)[4].generated_ids[20:70]
    return TrainingSet(rows, [decode(row) for row in rows], tokenizer, "beef")


def test_presets():
    assert [(p.unit, p.smoothing, p.suffix) for p in PRESETS.values()] == [
        ("words", Smoothing("none"), ""),
        ("ids", Smoothing("exp"), "_token"),
    ]


def test_every_mean_is_that_of_its_function():
    records, training = make_records(1), training_set()
    table = score_records(GENERATION, records, training=training)
    ids, words = [r.generated_ids for r in records], [r.generated_text_at_128.split() for r in records]
    heads = [row[:96] for row in ids]
    overlap = metrics.longest_overlap(heads, training.rows)
    expected = {
        "ttr_at_128": 100 * np.mean([metrics.type_token_ratio(row) for row in heads]),
        "ttr_at_256": 100 * np.mean([metrics.type_token_ratio(row) for row in ids]),
        "rep_4_at_256": 100 * np.mean([metrics.repetition(row, 4) for row in ids]),
        "diversity_at_128": 100 * np.mean([metrics.diversity(row) for row in heads]),
        "self_bleu": metrics.self_bleu(words).mean(),
        "self_bleu_token": metrics.self_bleu(heads, "exp").mean(),
        "dataset_bleu": metrics.dataset_bleu(words, [text.split() for text in training.texts]).mean(),
        "dataset_bleu_token": metrics.dataset_bleu(heads, training.rows, smooth_method="exp").mean(),
        "dataset_overlap": overlap.mean(),
        "overlap_rate": 100 * metrics.overlap_rate(ids, training.rows),
    }
    for name, mean in expected.items():
        entry = table["generated"]["all"][name]
        assert entry["mean"] == pytest.approx(mean), name
        assert entry["low"] <= entry["mean"] <= entry["high"] <= max(entry["max"], entry["high"]), name
    assert table["generated"]["all"]["dataset_overlap"]["max"] == 50
    assert table["generated"]["all"]["distinct_2"]["value"] == pytest.approx(100 * metrics.distinct_n(ids, 2))
    fiction = [row[:96] for row, record in zip(ids, records, strict=True) if record.source == "fiction"]
    entry = table["generated"]["fiction"]["self_bleu_token"]
    assert (entry["mean"], entry["n"]) == (pytest.approx(metrics.self_bleu(fiction, "exp").mean()), 6)


def test_tables_are_json_repeatable_and_signed():
    records = make_records(1)
    table = score_records(GENERATION, records, training=training_set())
    assert json.dumps(table, allow_nan=False) == json.dumps(score_records(GENERATION, records, training=training_set()))
    assert (table["contexts"], table["sources"]) == (12, {"fiction": 6, "news": 6})
    entry = table["generated"]["all"]["dataset_bleu_token"]
    assert entry["signature"] == bleu_signature(
        "dataset_bleu", Smoothing("exp"), unit="ids", agg="max-window", len=96, win=96, rows=20, data="beef", N=12,
        ctx=32, dec="greedy", block=5, dtype="float32", seed=0, texts="t1", tok_hash="abcd",
    )  # fmt: skip
    entries = [entry for side in ("generated", "original") for t in table[side].values() for entry in t.values()]
    assert all("signature" in entry for entry in entries)
    assert all({"mean", "low", "high"} <= set(entry) for entry in entries if "mean" in entry)
    curve = table["original"]["all"]["ttr_curve"]
    assert (curve["first"], len(curve["values"]), curve["signature"]) == (
        96, 129, signature("ttr", unit="ids", win=96, N=12, ctx=32, dec="original", texts="t1", tok_hash="abcd"),
    )  # fmt: skip
    assert len(table["generated"]["all"]["novelty"]["values"]) == 64


def test_what_cannot_be_had_says_why():
    records = make_records(1, count=4, length=96)
    table = score_records(GENERATION, records, training=training_set(tokenizer="other"))
    entries = table["generated"]["all"]
    assert entries["ttr_at_256"] == {"unavailable": "the shortest text has 96 tokens, 224 are needed"}
    assert entries["dataset_overlap"]["unavailable"].startswith("the training set was cut with another tokenizer (")
    assert entries["dataset_bleu"]["mean"] >= 0  # of words: comparable between tokenizers
    two = table["generated"]["news"]["self_bleu"]  # the mean is defined, an interval needs three
    assert two["value"] == pytest.approx(metrics.self_bleu([r.generated_text.split() for r in records[1::2]]).mean())
    assert (two["n"], "low" in two) == (2, False)
    assert "dataset_bleu" not in score_records(GENERATION, records)["generated"]["all"]


def test_one_text():
    (record,), training = make_records(1, count=1), training_set()
    entries = score_records(GENERATION, [record], training=training)["generated"]["all"]
    ids = record.generated_ids
    assert entries["ttr_at_256"]["value"] == pytest.approx(100 * len(set(ids[-96:])) / 96)
    assert entries["dataset_overlap"]["value"] == metrics.longest_overlap([ids[:96]], training.rows)[0]
    assert entries["dataset_bleu_token"]["value"] == metrics.dataset_bleu([ids[:96]], training.rows, 96, "exp")[0]
    assert "|N:1|" in entries["ttr_at_256"]["signature"]
    assert not any("low" in entry for name, entry in entries.items() if name != "overlap_rate")
    assert entries["self_bleu"] == {"unavailable": "1 text, Self-BLEU needs others to compare it with"}
    rate = entries["overlap_rate"]  # 0 of 1 by Wilson: z^2 / (1 + z^2) = 3.8415 / 4.8415
    assert (rate["mean"], rate["low"], rate["high"]) == pytest.approx((0, 0, 79.345), abs=1e-3)


def test_compare_of_one_context():
    a, b = make_records(1, count=1), make_records(2, count=1)
    table = compare_records((GENERATION, a), (GENERATION, b))["all"]
    first, second = (100 * len(set(rows[0].generated_ids[-96:])) / 96 for rows in (a, b))
    assert table["ttr_at_256"]["difference"] == pytest.approx(first - second)
    assert not {"low", "p_value", "p_holm"} & table["ttr_at_256"].keys()
    assert table["self_bleu"] == {"unavailable": "1 text, Self-BLEU needs others to compare it with"}


def test_compare_pairs_contexts_whatever_their_order():
    a, b = make_records(1), make_records(2)
    table = compare_records((GENERATION, a), (GENERATION, b[::-1]), training=training_set())
    entry = table["all"]["ttr_at_256"]
    values = [[100 * metrics.type_token_ratio(r.generated_ids) for r in records] for records in (a, b)]
    result = metrics.paired_test(*map(np.array, values))
    assert (entry["difference"], entry["p_value"]) == (result.difference, result.p_value)
    assert entry["p_value"] <= entry["p_holm"] <= 1
    entry = table["all"]["self_bleu_token"]
    heads = [[r.generated_ids[:96] for r in records] for records in (a, b)]
    means = [metrics.self_bleu(rows, "exp").mean() for rows in heads]
    assert [entry["a"], entry["b"], entry["difference"]] == pytest.approx([*means, means[0] - means[1]])
    assert set(table) == {"contexts", "sources", "all", "fiction", "news"}
    json.dumps(table, allow_nan=False)


def test_compare_across_tokenizers_keeps_to_words():
    other = replace(GENERATION, tokenizer="efgh")
    table = compare_records((GENERATION, make_records(1)), (other, make_records(2)))["all"]
    assert table["ttr_at_128"] == {"unavailable": "the models have different tokenizers"}
    assert "p_value" in table["self_bleu"]


def test_progress_names_what_is_being_computed():
    seen = []
    score_records(GENERATION, make_records(1), training=training_set(), report=lambda *state: seen.append(state))
    assert ("generated: Self-BLEU of words", 12, 12) in seen
    assert ("original: Dataset BLEU of ids", 5120, 5120) in seen


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: score_records(GENERATION, []), "no continuation records, at least one is needed"),
        (
            lambda: score_records(GENERATION, make_records(1, length=61)),
            "text-0: 61 generated tokens, the metrics need 96; generate again with --max-new-tokens 96",
        ),
        (
            lambda: compare_records((GENERATION, make_records(1)), (GENERATION, make_records(2)[1:])),
            "1 contexts are in one run only, such as 'text-0', which the second run lacks; "
            "compare runs over the same texts",
        ),
        (
            lambda: compare_records(
                (GENERATION, make_records(1)), (GENERATION, [replace(r, context_text="?") for r in make_records(2)])
            ),
            "context 'text-0' differs between the runs; compare runs over the same texts",
        ),
        (
            lambda: score_records(GENERATION, [replace(r, source="all") for r in make_records(1)]),
            "source 'all': the name stands for all sources together; rename it",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(HyperfitError) as error:
        call()
    assert str(error.value) == message
