"""Files between the rooms: what is written is read back, and nothing else is."""

import codecs
import copy
import json
import os
import stat
from dataclasses import asdict, replace

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import decoders, normalizers, pre_tokenizers
from transformers import AutoTokenizer

from hyperfit_eval import files
from hyperfit_eval.demo.location import demo_model_dir
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.records import Continuation, Generation, read_continuations, write_continuations
from hyperfit_eval.tokenizers import has_fingerprint, plain_ids, tokenizer_fingerprint

# U+2028 and U+0085 are line ends to Python's splitlines(), but not to JSON.
RECORD = Continuation("news-1", "news", [5, 6], [7, 8], [9, 9], "a\u2028b\x85", "cd", "ee", "c", "e")
GENERATION = Generation("tiny", "0123456789abcdef", {"method": "greedy"}, versions={"torch": "2"})


@pytest.fixture
def records_file(tmp_path):
    path = tmp_path / "continuations.jsonl"
    write_continuations(path, GENERATION, [RECORD])
    return path


def test_continuations_survive_a_round_trip(records_file):
    assert read_continuations(records_file) == (GENERATION, [RECORD])
    header = json.loads(records_file.read_text().splitlines()[0])
    assert header["format"] == "hyperfit-eval/continuations"
    assert header["rows"] == 1


def edited(path, line, **changes):
    lines = path.read_text().rstrip("\n").split("\n")
    row = {**json.loads(lines[line]), **changes}
    lines[line] = json.dumps({key: value for key, value in row.items() if value is not ...})
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("line", "changes", "message"),
    [
        (0, {"format": "other/thing"}, "line 1: format 'other/thing', expected 'hyperfit-eval/continuations'"),
        (0, {"version": 2}, "line 1: version 2 is later than 1; pip install -U hyperfit-eval"),
        (0, {"rows": 2}, "line 3: 1 rows of 2, the file is cut off"),
        (0, {"rows": "x" * 5000}, f"line 3: 1 rows of '{'x' * 60}', the file is cut off"),
        (0, {"seed": "x"}, "line 1: field 'seed' is 'x', expected int"),
        (1, {"generated_ids": ...}, "line 2: no field 'generated_ids'"),
        (1, {"generated_ids": [1, "2"]}, "line 2: field 'generated_ids' holds something that is no token id"),
        (1, {"source": 3}, "line 2: field 'source' is 3, expected str"),
    ],
)
def test_bad_records_are_named_by_line_and_field_and_left_alone(records_file, line, changes, message):
    edited(records_file, line, **changes)
    before = records_file.read_bytes()
    with pytest.raises(HyperfitError) as error:
        read_continuations(records_file)
    assert str(error.value) == f"{records_file}, {message}"
    assert records_file.read_bytes() == before


def samples(path, *rows):
    """A file as lm-eval's --log_samples writes it."""
    fields = {name: value for name, value in asdict(GENERATION).items() if name not in ("model", "versions")}
    lines = [{"doc_id": n, "texts": {**fields, **asdict(row)}} for n, row in enumerate(rows)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_the_samples_of_lm_eval_are_read_by_id(tmp_path):
    (tmp_path / "model__name").mkdir()
    path = samples(tmp_path / "model__name" / "samples_x.jsonl", RECORD, replace(RECORD, id="fiction-2"))
    generation, records = read_continuations(path)
    assert generation == replace(GENERATION, model="model__name", versions={})
    assert records == [replace(RECORD, id="fiction-2"), RECORD]


def test_samples_without_ids_or_of_other_tasks_are_refused(tmp_path):
    path = samples(tmp_path / "s.jsonl", RECORD, replace(RECORD, id="b", generated_ids=None))
    with pytest.raises(HyperfitError, match=r"s.jsonl, line 2: the model gave text alone, .* evaluate with --model hf"):
        read_continuations(path)
    path.write_text('{"doc_id": 0, "acc": 1.0}\n')
    with pytest.raises(HyperfitError, match=r"s.jsonl, line 1: a sample without continuation; give lm-eval's samples"):
        read_continuations(path)


def test_a_truncated_line_is_named(records_file):
    text = records_file.read_text()
    records_file.write_text(text[: len(text) - 20])
    with pytest.raises(HyperfitError, match=r"line 2: not JSON .* is the file cut off\?"):
        read_continuations(records_file)


def test_a_byte_order_mark_is_skipped_and_half_a_character_is_named(records_file):
    records_file.write_bytes(codecs.BOM_UTF8 + records_file.read_bytes())
    assert read_continuations(records_file) == (GENERATION, [RECORD])
    records_file.write_bytes(records_file.read_bytes().replace(b'"ee"', b'"e\\udc00"'))
    with pytest.raises(
        HyperfitError, match=r"continuations.jsonl, line 2: half a character \(\\udc00\); was a text cut"
    ):
        read_continuations(records_file)


def test_a_repeated_id_is_named(tmp_path):
    path = tmp_path / "twice.jsonl"
    write_continuations(path, GENERATION, [RECORD, RECORD])
    with pytest.raises(HyperfitError, match="line 3: id 'news-1' was on line 2 already"):
        read_continuations(path)


def test_other_kinds_of_files_are_refused(tmp_path):
    binary = tmp_path / "model.bin"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(HyperfitError, match=r"model.bin: not UTF-8 text \(byte 0\)"):
        read_continuations(binary)
    with pytest.raises(HyperfitError, match=r"missing.jsonl: cannot be read \(No such file or directory\)"):
        read_continuations(tmp_path / "missing.jsonl")
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    with pytest.raises(HyperfitError, match=r"empty\.jsonl: empty, a hyperfit-eval/continuations file was expected"):
        read_continuations(empty)


def test_json_round_trip_and_versions(tmp_path):
    path = tmp_path / "run.json"
    files.write_json(path, "run", 1, {"seed": 3})
    assert files.read_json(path, "run", 1)["seed"] == 3
    with pytest.raises(HyperfitError, match="format 'hyperfit-eval/run', expected 'hyperfit-eval/index'"):
        files.read_json(path, "index", 1)
    path.write_text('{"format": ')
    with pytest.raises(HyperfitError, match=r"run.json, line 1: not JSON"):
        files.read_json(path, "run", 1)


def test_an_interrupted_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "results.json"
    files.write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), files.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_written_files_follow_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        files.write_text(tmp_path / "text", "x")
        with files.atomic_path(tmp_path / "tensors") as temporary:
            save_file({"a": np.zeros(2)}, temporary)  # which makes a file for its owner alone
        (tmp_path / "inside").mkdir()
        save_file({"a": np.zeros(2)}, tmp_path / "inside" / "tensors")
        files.follow_umask(tmp_path / "inside")
    finally:
        os.umask(before)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in written} == {"text": mode, "tensors": mode}
    assert len(written) == 3


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(HyperfitError, match=r"cannot be written .*; choose another folder"):
        files.write_text(tmp_path / "file" / "inside.json", "x")


def test_fingerprints_depend_on_order_and_borders():
    assert files.fingerprint(["ab", "c"]) != files.fingerprint(["a", "bc"])
    assert files.fingerprint_ids([[1, 2], [3]]) != files.fingerprint_ids([[1], [2, 3]])
    assert files.fingerprint_ids([[1, 2]]) == files.fingerprint_ids([np.array([1, 2], dtype=np.int32)])
    assert len(files.fingerprint(["x"])) == 16


def test_a_tokenizer_keeps_its_fingerprint_through_truncation_and_padding(tiny_tokenizer):
    before = tokenizer_fingerprint(tiny_tokenizer)
    tiny_tokenizer.backend_tokenizer.enable_truncation(8)
    tiny_tokenizer.backend_tokenizer.enable_padding(length=8)
    try:
        assert tokenizer_fingerprint(tiny_tokenizer) == before
    finally:
        tiny_tokenizer.backend_tokenizer.no_truncation()
        tiny_tokenizer.backend_tokenizer.no_padding()


@pytest.mark.parametrize("bos", [True, False])
def test_how_a_text_is_opened_and_padded_is_no_part_of_the_fingerprint(tiny_checkpoint, bos):
    plain = AutoTokenizer.from_pretrained(tiny_checkpoint)
    other = AutoTokenizer.from_pretrained(tiny_checkpoint, add_bos_token=bos)
    other.add_special_tokens({"pad_token": "<|pad|>"})
    other.backend_tokenizer.decoder = decoders.WordPiece()
    assert plain_ids(other, "the cat sat") == plain_ids(plain, "the cat sat")
    assert tokenizer_fingerprint(other) == tokenizer_fingerprint(plain)


def test_what_cuts_plain_text_otherwise_changes_the_fingerprint(tiny_tokenizer):
    def lower(tokenizer):
        tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()

    def characters(tokenizer):
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()

    changes = [lower, characters, lambda tokenizer: tokenizer.add_tokens(["the cat"])]
    prints = {tokenizer_fingerprint(tiny_tokenizer)}
    for change in changes:
        other = copy.deepcopy(tiny_tokenizer)
        change(other)
        prints.add(tokenizer_fingerprint(other))
    assert len(prints) == 1 + len(changes)


def test_files_of_version_0_1_0_are_recognized():
    demo = AutoTokenizer.from_pretrained(demo_model_dir())
    assert has_fingerprint(demo, "18a19846e77b24d8")  # as the blocks and indexes of that version name it
    assert has_fingerprint(demo, tokenizer_fingerprint(demo))
    assert not has_fingerprint(demo, "0123456789abcdef")


def test_another_vocabulary_has_another_fingerprint(tiny_tokenizer):
    other = copy.deepcopy(tiny_tokenizer)
    other.add_tokens(["unheard-of"])
    assert tokenizer_fingerprint(other) != tokenizer_fingerprint(tiny_tokenizer)
