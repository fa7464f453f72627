"""Steps that resume: what is done once, done again, or gone on with."""

import json
import shutil

import pytest

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.reproduce.paper import paper_tables
from hyperfit_eval.reproduce.steps import (
    VERSION,
    Skipped,
    Step,
    StepContext,
    done,
    duration,
    finished,
    in_order,
    run_steps,
)


class Log(list):
    """A `make` for each step that notes its name and copies what it needs."""

    def step(self, name, *needs, **inputs):
        def make(context: StepContext):
            self.append(name)
            text = "+".join([(context.folder_of(needed) / "out.txt").read_text() for needed in needs] + [name])
            (context.folder / "out.txt").write_text(text)

        return Step(name, make, inputs, tuple(needs))


def test_by_hand(tmp_path):
    log, lines = Log(), []
    train = log.step("train", lr=1)
    base, hyperfitted = log.step("continue/base"), log.step("continue/hyperfitted", train)
    table = log.step("table1", base, hyperfitted)
    assert run_steps([table], tmp_path, lines.append) == {}
    assert log == ["continue/base", "train", "continue/hyperfitted", "table1"]
    assert (tmp_path / "table1" / "out.txt").read_text() == "continue/base+train+continue/hyperfitted+table1"
    marker = json.loads((tmp_path / "table1" / "step.json").read_text())
    assert marker["status"] == "finished" and marker["versions"]
    assert marker["needs"]["continue/base"] == finished("continue/base", tmp_path).result
    assert lines[0].startswith("[1/4] continue/base (about 4 s left)")
    assert not (tmp_path / ".partial" / "table1").exists()

    log.clear()
    lines.clear()
    run_steps([table], tmp_path, lines.append)
    assert log == [] and lines == ["4 of 4 steps need not be done"]


def test_changed_inputs_are_done_again_with_all_that_needs_them(tmp_path):
    log = Log()

    def table(lr):
        train = log.step("train", lr=lr)
        return log.step("table1", log.step("continue/base"), log.step("continue/hyperfitted", train))

    run_steps([table(1)], tmp_path, print)
    log.clear()
    run_steps([table(2)], tmp_path, print)
    assert log == ["train", "continue/hyperfitted", "table1"]


def test_an_interrupted_step_goes_on_with_what_it_left(tmp_path):
    tries = []

    def make(context):
        tries.append(sorted(path.name for path in context.folder.iterdir()))
        (context.folder / f"checkpoint-{len(tries)}").touch()
        if len(tries) < 3:
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_steps([Step("train", make, {"lr": 1})], tmp_path)
        assert not (tmp_path / "train").exists()
    run_steps([Step("train", make, {"lr": 1})], tmp_path)
    assert tries == [["step.json"], ["checkpoint-1", "step.json"], ["checkpoint-1", "checkpoint-2", "step.json"]]
    assert sorted(path.name for path in (tmp_path / "train").iterdir())[:3] == [f"checkpoint-{i}" for i in (1, 2, 3)]
    # What another recipe left is not gone on with.
    tries.clear()
    with pytest.raises(KeyboardInterrupt):
        run_steps([Step("train", make, {"lr": 2})], tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_steps([Step("train", make, {"lr": 3})], tmp_path)
    assert tries == [["step.json"], ["step.json"]]
    assert done(Step("train", make, {"lr": 1}), tmp_path)  # and the finished one is still there


def test_a_step_that_was_finished_but_not_yet_in_its_place_is_not_made_again(tmp_path):
    log = Log()
    train = log.step("train")
    run_steps([train], tmp_path)
    partial = tmp_path / ".partial" / "train"
    partial.parent.mkdir(exist_ok=True)
    (tmp_path / "train").rename(partial)
    run_steps([train], tmp_path)
    assert log == ["train"] and done(train, tmp_path) and not partial.exists()


def test_a_deleted_checkpoint_is_made_again_only_for_those_who_need_it(tmp_path):
    log = Log()
    train = log.step("train")
    written = log.step("continue", train)
    table, figure = log.step("table1", written), log.step("figure2", train)
    run_steps([table], tmp_path)
    shutil.rmtree(tmp_path / "train")
    log.clear()
    run_steps([table], tmp_path)
    assert log == []
    # The new weights may differ in bits: nothing of the old ones may stand beside them.
    run_steps([figure], tmp_path)
    assert log == ["train", "figure2"]
    assert done(written, tmp_path) is None
    run_steps([table, figure], tmp_path)
    assert log == ["train", "figure2", "continue", "table1"]
    assert all(done(step, tmp_path) for step in (train, written, table, figure))


def test_what_needs_a_step_that_is_made_again_is_made_again_in_the_same_call(tmp_path):
    log = Log()
    train = log.step("train")
    table, figure = log.step("table1", log.step("continue", train)), log.step("figure2", train)
    run_steps([table], tmp_path)
    shutil.rmtree(tmp_path / "train")
    log.clear()
    run_steps([table, figure], tmp_path)
    assert log == ["train", "continue", "table1", "figure2"]


def test_what_needs_a_skipped_step_is_skipped_with_its_reason(tmp_path):
    log = Log()

    def make(context):
        raise Skipped("cais/mmlu cannot be loaded offline")

    mmlu = Step("mmlu", make)
    reasons = run_steps([log.step("table7", mmlu), log.step("table1")], tmp_path)
    assert reasons == dict.fromkeys(["mmlu", "table7"], "cais/mmlu cannot be loaded offline")
    assert log == ["table1"]
    assert done(mmlu, tmp_path) is None


def test_a_step_that_refuses_leaves_out_what_needs_it_and_nothing_else(tmp_path):
    log, lines, reasons = Log(), [], {}

    def make(context):
        raise HyperfitError("book.txt: 90 blocks, 128 are needed")

    train = Step("train/on-book", make)
    with pytest.raises(HyperfitError, match="90 blocks"):
        run_steps([log.step("table4", train), log.step("table1")], tmp_path, lines.append, reasons)
    assert log == ["table1"] and "    refused: book.txt: 90 blocks, 128 are needed" in lines
    assert reasons == dict.fromkeys(
        ["train/on-book", "table4"], "train/on-book was refused: book.txt: 90 blocks, 128 are needed"
    )


def test_a_step_of_an_older_version_is_done_again(tmp_path):
    log = Log()
    train = log.step("train")
    run_steps([train], tmp_path)
    marker = tmp_path / "train" / "step.json"
    marker.write_text(marker.read_text().replace(f'"version": {VERSION}', f'"version": {VERSION - 1}'))
    assert done(train, tmp_path) is None
    run_steps([train], tmp_path)
    assert log == ["train", "train"]


def test_one_name_for_two_steps_is_an_error():
    log = Log()
    with pytest.raises(ValueError, match="two different steps are called a"):
        in_order([log.step("a", x=1), log.step("a", x=2)])


def test_durations():
    assert [duration(s) for s in (0, 89, 90, 3600, 12000)] == ["0 s", "89 s", "2 min", "60 min", "3 h 20 min"]


def test_the_paper_s_numbers():
    tables = paper_tables()
    assert {f"table{i}" for i in range(1, 9)} <= set(tables)
    row = next(r for r in tables["table1"].rows if (r.group, r.model) == ("hyperfitted", "TinyLlama (1.1B)"))
    assert row.values["ttr_at_256"] == 60.0 and row.values["preference_at_256"] == 34.3
    for row in tables["table4"].rows:  # the paper's averages are the means of its rows
        *sources, average = row.values.values()
        assert sum(sources) / 3 == pytest.approx(average, abs=0.01)
    for row in tables["table5"].rows:
        *sources, average = row.values.values()
        printed_otherwise = (row.group, row.model) == ("base", "TinyLlama (1.1B)")
        assert (abs(sum(sources) / 3 - average) > 0.1) == printed_otherwise
