"""A whole small study: the shipped model, six texts, one short hyperfitting run."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from paths import ROOT
from typer import Context
from typer.main import get_command

from hyperfit_eval.cli.main import app
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.reproduce.models import CONTINUATIONS
from hyperfit_eval.reproduce.pipeline import EXPERIMENTS, reproduce
from hyperfit_eval.reproduce.section import read_section
from hyperfit_eval.reproduce.setting import demo_setting, weights_fingerprint
from hyperfit_eval.texts.contexts import TextSet

pytestmark = pytest.mark.slow

ONLY = ["table1", "table2", "table3", "figure4", "ranks", "calibration", "table5", "seeds", "figure1"]


@pytest.fixture(scope="module")
def setting():
    demo = demo_setting(quick=True)
    texts = TextSet(demo.texts.passages[:6], demo.texts.dropped, demo.texts.origins)
    training = {"num_train_samples": 8, "num_validation_samples": 2, "num_train_epochs": 3, "disable_tqdm": True}
    return replace(demo, texts=texts, training=training)


@pytest.fixture(scope="module")
def study(setting, tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    lines = []
    reproduce(setting, root, ONLY, say=lines.append)
    return root, lines


def test_tables_follow_from_the_continuations(study):
    root, _ = study
    rows = {row.group: row.cells for row in read_section(root / "steps" / "table1").tables[0].rows}
    for name in ("base", "top_p", "hyperfitted", "blocked"):
        lines = (root / "steps" / "continue" / name / CONTINUATIONS).read_text().splitlines()[1:]
        ids = [json.loads(line)["generated_ids"] for line in lines]
        entry = rows[name]["ttr_at_256"]
        assert entry.value == pytest.approx(np.mean([100 * len(set(row[-96:])) / 96 for row in ids]))
        assert entry.low < entry.value < entry.high
    assert rows["base"]["context_perplexity"] == rows["top_p"]["context_perplexity"]


def test_the_reports_hold_what_was_measured_beside_the_paper(study):
    root, _ = study
    markdown, page = ((root / name).read_text() for name in ("report.md", "report.html"))
    ttr = next(row.cells["ttr_at_256"] for row in read_section(root / "steps" / "table1").tables[0].rows[2:])
    for text in (markdown, page):
        assert ttr.text() in text
        assert "paper: TinyLlama (1.1B), hyperfitted" in text and "seeds: one seed" in text
    assert "ttr|unit:ids|scn:256|len:224|win:96|N:6|ctx:32|" in markdown
    assert not re.search(r"(src|href)=\"(?!#|data:)", page), "nothing may come from outside the page"
    assert str(root) not in markdown + page
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", markdown):
        assert (root / picture).is_file()


def test_the_same_command_does_nothing_twice(study, setting):
    root, lines = study
    assert lines[0].startswith("[1/")
    again = []
    reproduce(setting, root, ONLY, say=again.append)
    assert again == [
        "23 of 24 steps need not be done",
        "[1/1] seeds (about 1 s left)",
        "    skipped: one seed; the setting has no more",
    ]


def test_weights_are_needed_for_a_fingerprint(tmp_path):
    with pytest.raises(HyperfitError, match=r"no \.safetensors weights"):
        weights_fingerprint(tmp_path)


def test_every_experiment_is_documented():
    page = (ROOT / "docs" / "reproduce.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert [name for name in named if not name.startswith("--")] == [*EXPERIMENTS]
    # All options but those in the examples above the tables.
    options = {part for name in named for part in name.split() if part.startswith("--")}
    command = get_command(app).get_command(Context(get_command(app)), "reproduce")
    known = {option for parameter in command.params for option in parameter.opts}
    assert options == known - {"--model", "--corpus", "--out", "--only", "--quick"}
