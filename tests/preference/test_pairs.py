"""`hyperfit pairs`: what a study holds, and what it refuses."""

import dataclasses
import json

import preference_study as invented
import pytest
from typer.testing import CliRunner

from hyperfit_eval.cli.main import app
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.preference.pairs import clean, make_study, model_name, read_runs
from hyperfit_eval.preference.study import PAIRS_FILE, STUDY_FILE, read_study, write_study
from hyperfit_eval.records import write_continuations


def test_one_context_by_hand():
    study = make_study([invented.run(contexts=1)], scenarios=[128], check_rate=0, seed=3)
    (pair,) = study.pairs
    record = invented.record(0, "base")
    assert (pair.context, pair.source, pair.scenario, pair.other) == ("fiction-00", "fiction", 128, "base")
    assert pair.original_text == record.original_text_at_128.strip()
    assert pair.other_text == record.generated_text_at_128.strip()
    assert pair.ttr == len(set(record.generated_ids[:96])) / 96
    assert pair.shown == ((pair.original_text, pair.other_text)[:: 1 if pair.original_first else -1])
    (longer,) = make_study([invented.run(contexts=1)], scenarios=[256], check_rate=0).pairs
    assert longer.other_text == record.generated_text.strip()
    assert longer.ttr == len(set(record.generated_ids[-96:])) / 96


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" He  left.<|endoftext|>\r\n\n\n\nThen", "He left.\n\nThen"),
        ("a\u202eb\u200bc\ufeff\x07d", "abcd"),
        ("caf\ufffd\ufffd", "caf"),
        ("tab\there \n next</s>", "tab here\nnext"),
        ("e\u0301", "é"),
        ("<b>bold</b> & so <script>on</script>", "<b>bold</b> & so <script>on</script>"),
        ("the the the", "the the the"),
    ],
)
def test_cleaning(text, expected):
    assert clean(text) == expected
    assert clean(clean(text)) == expected


def test_pool_of_several_models():
    study = invented.study(contexts=30, sources=("fiction", "news"), check_rate=0.1, seed=1)
    assert study.count(checks=False) == 2 * 2 * 2 * 30
    assert study.count(checks=True) == round(240 / 9)  # a tenth of all that somebody sees who judges everything
    assert {pair.other for pair in study.pairs} == {"base", "hyper", "shuffled"}
    assert len({pair.id for pair in study.pairs}) == len(study.pairs)
    for pair in study.pairs:
        if pair.is_check:
            assert sorted(pair.original_text.split()) == sorted(pair.other_text.split())
            assert pair.original_text != pair.other_text
    firsts = sum(pair.original_first for pair in study.pairs)
    assert 100 < firsts < 165  # 133 expected, standard deviation 8
    # Not in the order of the models or contexts.
    assert [pair.other for pair in study.pairs[:60]] != ["base"] * 60


def test_attention_checks_differ_from_their_originals():
    """Two words come out of a shuffle as they were every other time; one word always."""
    name, generation, records = invented.run(contexts=40)
    two, one = (
        [dataclasses.replace(record, original_text_at_128=text) for record in records] for text in ("to be", "so so so")
    )
    settings = {"scenarios": [128], "check_rate": 0.5, "seed": 0}
    study = make_study([(name, generation, two)], **settings)
    assert {pair.other_text for pair in study.pairs if pair.is_check} == {"be to"}
    mixed = make_study([(name, generation, one[:30] + two[30:])], **settings)
    assert mixed.count(checks=True) == 10
    with pytest.raises(HyperfitError, match=r"no original has two different words to shuffle .*; --attention-rate 0"):
        make_study([(name, generation, one)], **settings)
    assert make_study([(name, generation, one)], **(settings | {"check_rate": 0})).count(checks=True) == 0


def test_the_seed_gives_the_order_and_the_salt_the_ids():
    one, two = (invented.study(seed=5, salt=salt) for salt in ("a", "b"))
    assert [p.original_first for p in one.pairs] == [p.original_first for p in two.pairs]
    assert not {p.id for p in one.pairs} & {p.id for p in two.pairs}
    fresh = [make_study([invented.run()]) for _ in range(2)]
    assert fresh[0].seed != fresh[1].seed and fresh[0].salt != fresh[1].salt


def test_written_and_read_back(tmp_path):
    study = invented.written(tmp_path, check_rate=0.2)
    assert read_study(tmp_path) == study
    assert json.loads((tmp_path / STUDY_FILE).read_text())["seed"] == 0
    with pytest.raises(HyperfitError, match="holds a study already, maybe with answers; give another --out"):
        write_study(tmp_path, study)
    lines = (tmp_path / PAIRS_FILE).read_text().splitlines()
    row = json.loads(lines[3])
    (tmp_path / PAIRS_FILE).write_text("\n".join([*lines[:3], json.dumps(row | {"original_text": ""}), *lines[4:]]))
    with pytest.raises(HyperfitError, match=f"line 4: pair '{row['id']}' has no original continuation"):
        read_study(tmp_path)
    for change in (
        {"id": "0" * 16}, {"context": "x"}, {"source": "x"}, {"scenario": 1}, {"other": "x"}, {"ttr": 0.123},
        {"original_first": not row["original_first"]},
        {"context_text": "x"}, {"original_text": "x"}, {"other_text": "x"},
        {"original_first": not row["original_first"], "original_text": row["other_text"],
         "other_text": row["original_text"]},  # looks the same to annotators
    ):  # fmt: skip
        (tmp_path / PAIRS_FILE).write_text("\n".join([*lines[:3], json.dumps(row | change), *lines[4:]]))
        with pytest.raises(HyperfitError, match=r"not the pairs of .* was it edited"):
            read_study(tmp_path)
    number = next(i for i, line in enumerate(lines) if json.loads(line).get("other") == "base")
    row = json.loads(lines[number]) | {"ttr": None}
    (tmp_path / PAIRS_FILE).write_text("\n".join([*lines[:number], json.dumps(row), *lines[number + 1 :]]))
    with pytest.raises(HyperfitError, match=f"line {number + 1}: pair '{row['id']}' has no ttr; make the study anew"):
        read_study(tmp_path)
    with pytest.raises(HyperfitError, match="nowhere: no study there; make one with `hyperfit pairs"):
        read_study(tmp_path / "nowhere")


def test_random_contexts_of_each_source():
    study = invented.study(contexts=9, sources=("fiction", "news"), per_source=2)
    assert {len({p.context for p in study.pairs if p.source == s}) for s in ("fiction", "news")} == {2}
    assert len({(p.context, p.other, p.scenario) for p in study.pairs}) == 16  # the same contexts for both models
    with pytest.raises(HyperfitError, match="--per-source 10: fiction has 9 contexts"):
        invented.study(contexts=9, per_source=10)


def test_tokenizers_mix_where_the_texts_are_the_same():
    name, _, records = invented.run("other")
    longer = [
        dataclasses.replace(
            r,
            context_ids=[*r.context_ids, 1],
            context_text=r.context_text + r.original_text[:4],
            original_text=r.original_text[4:],
        )
        for r in records
    ]
    study = make_study([invented.run(), (name, invented.generation(tokenizer="t2"), longer)], check_rate=0)
    assert {p.context_text for p in study.pairs if p.other == "other"} != {
        p.context_text for p in study.pairs if p.other == "base"
    }
    with pytest.raises(HyperfitError, match="context 'fiction-00' is another text in base than in other; they cannot"):
        make_study([invented.run(), (name, invented.generation(), longer)])


def change(run, **changes):
    name, generation, (first, *rest) = run
    return name, generation, [dataclasses.replace(first, **changes), *rest]


BAD = [
    ([], {}, "no records; give continuation files"),
    ([invented.run()], {"scenarios": [100]}, "--length 100: expected one of 128, 256"),
    ([invented.run()], {"check_rate": 0.6}, "--attention-rate 0.6: expected a share from 0 to 0.5"),
    ([("base", invented.generation(), [])], {}, "base: no records"),
    ([invented.run(), invented.run("b", texts="e2")], {}, "b: made from other evaluation texts .e2. than base .e1."),
    ([invented.run(), invented.run("b", 3)], {}, "1 contexts are in one of base and b only, such as 'fiction-03'"),
    ([invented.run(), ("b", *invented.run()[1:])], {}, "base and b: the same continuations under two names"),
    ([invented.run(sources=("all",))], {}, "source 'all': the name stands for all sources together; rename it"),
    (
        [invented.run(sources=("at_256",))],
        {},
        "source 'at_256': the name stands for all sources at 256 tokens; rename it",
    ),
    ([invented.run(sources=("average",))], {}, "source 'average': the name stands for the mean over the sources; re"),
    ([change(invented.run(), original_ids=[])], {}, "base: 'fiction-00' has no original continuation; leave"),
    ([change(invented.run(), original_text=" \n")], {"scenarios": [256]}, "has no original continuation: its text"),
    ([change(invented.run(), generated_ids=[1] * 61)], {}, "61 generated tokens, pairs at 128 need 96; generate with"),
    ([change(invented.run(), generated_ids=[1] * 225)], {}, "225 generated tokens, pairs at 256 need 224 exactly"),
]


@pytest.mark.parametrize(("runs", "settings", "message"), BAD, ids=[message for _, _, message in BAD])
def test_refused_in_one_line(runs, settings, message):
    with pytest.raises(HyperfitError, match=message) as error:
        make_study(runs, **settings)
    assert "\n" not in str(error.value)


def test_names():
    assert model_name(invented.generation("org/m")) == "org/m, greedy"
    assert model_name(invented.generation("/some/where/m", blocker={"ngram": 5})) == "m, greedy, citation blocking"
    sampled = invented.generation(decoding={"method": "sample", "top_p": 0.9})
    assert model_name(sampled) == "base, top-p 0.9"


def test_command(tmp_path):
    _, generation, records = invented.run()
    write_continuations(tmp_path / "a.jsonl", generation, records)
    write_continuations(tmp_path / "b.jsonl", *invented.run("hyper")[1:])
    arguments = [f"{tmp_path}/a.jsonl", f"llama={tmp_path}/b.jsonl", "--out", f"{tmp_path}/study", "--length", "128"]
    result = CliRunner().invoke(app, ["pairs", *arguments, "--seed", "7"], catch_exceptions=False)
    assert "8 pairs of 2 models and 1 attention checks, seed 7; 24 annotations make the study whole" in result.output
    study = read_study(tmp_path / "study")
    # 3 words of context and 96 on each side, 3 annotations, 5% of attention checks.
    assert study.reading_hours == pytest.approx(8 * 195 * 3 / 0.95 / 238 / 60)
    assert "to read all of it: 0.3 hours of one person, 0.1 of each of 3" in result.output
    assert set(read_study(tmp_path / "study").models) == {"base, greedy", "llama"}
    for name in (f"x={tmp_path}/a.jsonl", f"x={tmp_path}/b.jsonl"), ("original texts=" + f"{tmp_path}/a.jsonl",):
        with pytest.raises(HyperfitError, match=r"called 'x'; name them|'original texts' is taken by the study itself"):
            read_runs(name)
