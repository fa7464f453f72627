"""What is published of a run: the files, the card and its numbers, and all that is kept back or refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hub_stand_in import TOKEN
from huggingface_hub import ModelCard, ModelCardData
from publish_fixtures import tiny_results_fixture, tiny_run_fixture  # noqa: F401
from typer.testing import CliRunner

from hyperfit_eval.cli.main import app
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.files import read_jsonl
from hyperfit_eval.publish.card import base_of
from hyperfit_eval.publish.privacy import without_paths
from hyperfit_eval.publish.results import Evaluation, TaskSettings, settings_of
from hyperfit_eval.publish.staging import Push, stage
from hyperfit_eval.scores.score import Score
from hyperfit_eval.texts.blocks import read_blocks
from hyperfit_eval.training.folder import read_run

pytestmark = pytest.mark.slow

PUBLISHED = {
    "README.md", "citation_index.safetensors", "config.json", "generation_config.json", "history.jsonl", "history.png",
    "model.safetensors", "model.safetensors.index.json", "recipe.yaml", "results.json", "run.json", "tokenizer.json",
    "tokenizer_config.json", "training_block_fingerprints.jsonl",
}  # fmt: skip


@pytest.fixture
def pushed(tiny_run, tiny_results, tmp_path):
    """Stage the tiny run; `pushed(...)` gives the folder."""

    def run(**given):
        folder = tmp_path / "staged"
        folder.mkdir()
        options = {"base_model": "ada/base", "license": "mit", "results": (tiny_results,), **given}
        stage(Push(tiny_run, "ada/little", **options), folder)
        return folder

    return run


def texts_of(folder):
    return {
        path.name: path.read_text() for path in folder.rglob("*") if path.suffix in (".md", ".json", ".jsonl", ".yaml")
    }


def test_signature_to_settings():
    text = "ttr|unit:ids|win:96|N:60|dec:greedy|block:none|texts:65c3|v:0.1.0"
    assert settings_of(text) == {"N": "60", "dec": "greedy", "block": "none", "texts": "65c3", "v": "0.1.0"}


def test_paths_become_names(tmp_path):
    document = {
        "model": "/home/ada/base", "output_dir": "out", "logging_dir": "logs", "corpus": "~/books/one.txt",
        "list": ["../shared/x.jsonl", "C:\\books\\two.txt", "a/b", 3, None],
        "why": f"given; it was {tmp_path} before, see https://arxiv.org/abs/2412.04318",
    }  # fmt: skip
    assert without_paths(document, {"/home/ada/base": "ada/base"}) == {
        "model": "ada/base", "corpus": "one.txt", "list": ["x.jsonl", "two.txt", "a/b", 3, None],
        "why": f"given; it was {tmp_path.name} before, see https://arxiv.org/abs/2412.04318",
    }  # fmt: skip


def test_the_folder_is_whole_and_names_nothing_of_this_machine(pushed, tiny_run, tiny_checkpoint, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    kept_back = [tiny_run / name for name in ("optimizer.pt", "training_args.bin", "log.txt")]
    for path in kept_back:
        path.write_text(TOKEN)
    folder = pushed()
    for path in kept_back:
        path.unlink()
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*")} == PUBLISHED
    document = read_run(folder)
    assert (document["model"], document["identity"]["model"]) == ("ada/base", "ada/base")
    assert document["data"]["corpus"] == "corpus.jsonl" and document["status"] == "finished"
    assert not document["arguments"]["training"].keys() & {"output_dir", "logging_dir"}
    for name, text in texts_of(folder).items():
        for local in (str(tiny_run), str(tiny_checkpoint), str(Path.cwd()), str(Path.home()), TOKEN):
            assert local not in text, (name, local)
    header, rows = read_jsonl(folder / "training_block_fingerprints.jsonl", "block-fingerprints", 1)
    assert header["fingerprint"] == read_blocks(tiny_run / "training_blocks.jsonl").fingerprint
    assert len(rows) == 22 and rows[0].keys() == {"part", "fingerprint"} and rows[-1]["part"] == "validation"


def test_the_card_says_what_the_model_is(pushed, tiny_results):
    folder = pushed(dataset="ada/books", blocker="ada/blocker")
    card = ModelCard.load(folder / "README.md")
    data = card.data.to_dict()
    assert data["base_model"] == "ada/base" and data["base_model_relation"] == "finetune"
    assert (data["license"], data["datasets"], data["library_name"]) == ("mit", ["ada/books"], "transformers")
    assert data["tags"] == ["hyperfitting", "text-generation"]
    titles = {result.dataset_config for result in card.data.eval_results}
    assert titles == {"greedy", "greedy, citation blocking"}
    results = json.loads((folder / "results.json").read_text())["evaluations"]
    measured = {(e["title"], n["metric"]): n for e in results for n in e["numbers"]}
    for result in card.data.eval_results:
        number = measured.pop((result.dataset_config, result.metric_type))
        assert result.metric_value == round(number["value"], 4)
        assert result.metric_args["signature"] == number["signature"]
        assert f"`{number['signature']}`" in card.text
    assert not measured
    ttr = next(n for n in results[0]["numbers"] if n["metric"] == "ttr_at_256")
    assert f"| {ttr['value']:.1f} [{ttr['low']:.1f}, {ttr['high']:.1f}] |" in card.text
    assert (
        "**Expect this model to recite its training set.**" in card.text
        and "- **greedy**: the longest run of" in card.text
    )
    assert 'custom_generate="ada/blocker", trust_remote_code=True' in card.text
    assert "| `learning_rate` | 0.001 | changed, the recipe has 1e-06 |" in card.text
    assert "4 texts shipped with hyperfit-eval" in card.text and "@inproceedings{carlsson2025" in card.text
    assert "|  |" not in card.text.replace("|  | greedy", "") and "None" not in card.text


def test_without_results_the_card_says_so(tiny_run, tmp_path):
    stage(Push(tiny_run, "ada/little", base_model="none", license="mit"), tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.eval_results is None and "base_model" not in card.data.to_dict()
    assert "**How much this model recites was not measured.**" in card.text
    assert "None were published with this model." in card.text and not (tmp_path / "results.json").exists()


def test_text_of_the_training_set_only_if_licensed_and_no_index_if_not_wanted(pushed, tiny_run):
    folder = pushed(include_blocks=True, blocks_license="cc0-1.0", include_index=False)
    blocks, own = (read_blocks(path / "training_blocks.jsonl") for path in (folder, tiny_run))
    assert blocks.corpus == "corpus.jsonl" and np.array_equal(blocks.ids, own.ids)
    text = (folder / "README.md").read_text()
    assert "`training_blocks.jsonl`, license cc0-1.0" in text and "is not published; whoever has" in text
    assert not (folder / "citation_index.safetensors").exists()


def test_eval_results_for_a_benchmark(pushed):
    folder = pushed(eval_results="ada/benchmark")
    entries = yaml.safe_load((folder / ".eval_results" / "hyperfit.yaml").read_text())
    assert entries[0]["dataset"] == {"id": "ada/benchmark", "task_id": "ttr_at_128"}
    assert entries[0]["notes"].startswith("greedy; ttr|unit:ids|")


def test_other_tasks_of_the_harness(tiny_run, tmp_path):
    document = {
        "results": {
            "mrpc": {"alias": "mrpc", "acc,none": 0.5, "acc_stderr,none": 0.1, "f1,none": 0.25},
            "mmlu_virology": {"acc,none": 0.1, "acc_stderr,none": 0.1},
            "mmlu": {"acc,none": 0.3, "acc_stderr,none": 0.1},
        },
        "configs": {}, "group_subtasks": {"mmlu": ["mmlu_virology"]}, "n-shot": {"mrpc": 0, "mmlu": 5},
        "n-samples": {"mrpc": {"effective": 12}},
        "config": {"model_args": {"pretrained": "ada/little"}, "limit": 12.0, "model_dtype": "torch.float32"},
        "lm_eval_version": "0.4.13",
    }  # fmt: skip
    (tmp_path / "results_1.json").write_text(json.dumps(document))
    folder = tmp_path / "staged"
    folder.mkdir()
    found = stage(Push(tiny_run, "ada/little", "none", license="mit", results=(tmp_path,)), folder)
    assert [(e.title, [n.metric for n in e.numbers]) for e in found] == [("mrpc", ["acc", "f1"]), ("mmlu", ["acc"])]
    accuracy = found[0].numbers[0]
    # Wilson's, of 6 questions of 12: 0.5 -+ 1.96 sqrt(0.25 / 12 + 1.96^2 / 576) / (1 + 1.96^2 / 12)
    assert (accuracy.low, accuracy.high) == pytest.approx((0.2537816, 0.7462184))
    assert "num_fewshot:0|limit:12|N:12|dtype:float32|lm_eval:0.4.13" in accuracy.signature
    assert "| mrpc | acc | 0.500 [0.254, 0.746] | 12 | 0 |" in (folder / "README.md").read_text()
    document["config"]["model_args"]["pretrained"] = str(tmp_path)
    (tmp_path / "results_1.json").write_text(json.dumps(document))
    with pytest.raises(HyperfitError, match=r"results of .*, not of .*; give its own"):
        stage(Push(tiny_run, "ada/little", "none", license="mit", results=(tmp_path,)), folder)


def test_the_base_models_own_card_gives_the_license(tiny_run, tiny_checkpoint, tmp_path):
    card = tiny_checkpoint / "README.md"
    card.write_text("---\nlanguage: en\nlicense: other\nlicense_name: own\nlicense_link: LICENSE\n---\n# Base\n")
    try:
        stage(Push(tiny_run, "ada/little", "none"), tmp_path)
    finally:
        card.unlink()
    data = ModelCard.load(tmp_path / "README.md").data.to_dict()
    assert [data[name] for name in ("language", "license", "license_name", "license_link")] == [
        "en",
        "other",
        "own",
        "LICENSE",
    ]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"base_model": None}, r"the run's model is a folder, .*; add --base-model USER/NAME, or --base-model none"),
        (
            {"base_model": "a/b/c"},
            "--base-model a/b/c: no Hub id, or a folder of this name is here; expected USER/NAME",
        ),
        ({"license": None, "base_model": "none"}, r"no license is known of .*; read it there and add --license ID"),
        ({"license": None}, r"the card of ada/base cannot be read for its license \(.*\); add --license ID"),
        ({"include_blocks": True}, "--include-blocks publishes the training text itself; say under which license, su"),
        ({"blocks_license": "mit"}, "--blocks-license mit: no blocks are published without --include-blocks"),
        ({"results": (Path("gone.json"),)}, "--results gone.json: no such file or folder"),
        ({"results": (Path(__file__).parent,)}, r"no results\*.json or scores\*.json in it; give a file"),
        ({"eval_results": "one/two/three"}, "--eval-results one/two/three: no Hub id; expected the USER/NAME of a ben"),
        ({"eval_results": "a/b", "results": ()}, "--eval-results: there are no results to write; add --results FILE"),
    ],
)
def test_what_the_card_must_say_and_nobody_said_is_refused(pushed, given, line):
    with pytest.raises(HyperfitError, match=line):
        pushed(**given)


def test_a_run_that_is_not_whole_is_refused(tiny_run, tmp_path):
    def refused(line, change):
        run, folder = tmp_path / "run", tmp_path / "staged"
        for path in (run, folder):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(tiny_run, run)
        folder.mkdir()
        change(run)
        with pytest.raises(HyperfitError, match=line):
            stage(Push(run, "ada/little", "none", license="mit"), folder)

    def edit(name, old, new):
        return lambda run: (run / name).write_text((run / name).read_text().replace(old, new))

    def cut(run):
        (run / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes()[:-100])

    refused(
        r"run: the run is not finished \(running\); let the same command end first",
        edit("run.json", "finished", "running"),
    )
    refused("model.safetensors: not a whole safetensors file", cut)
    refused(r"no model.safetensors; is the run's checkpoint whole\?", lambda run: (run / "model.safetensors").unlink())

    def two(run):
        shutil.copy(run / "model.safetensors", run / "model-2.safetensors")

    def mapped(run):
        weights = {"weight_map": {"lm_head": "model.safetensors"}}
        (run / "model.safetensors.index.json").write_text(json.dumps(weights))

    refused("model-2.safetensors: not one of the checkpoint's files", two)
    refused("model.safetensors.index.json: lm_head is not in model.safetensors; save the checkpoint again", mapped)
    refused("no generation_config.json; is it the whole", lambda run: (run / "generation_config.json").unlink())
    refused("tokenizer .*, the run was trained with .*; restore its files", edit("tokenizer.json", '"old"', '"older"'))
    refused(
        "history.jsonl: names .*, a path of this machine", lambda run: (run / "history.jsonl").write_text(f'"{run}"')
    )
    with pytest.raises(HyperfitError, match="nowhere: no such folder; give the --output_dir of `hyperfit train`"):
        stage(Push(tmp_path / "nowhere", "ada/little"), tmp_path)


def test_results_of_another_model_are_refused(tiny_run, tiny_results, tmp_path):
    path = next(tiny_results.glob("results_*.json"))
    for old, new, line in (
        ("tok_hash:", "tok_hash:0", r"results_other.json: of tokenizer 0\w+, the run's is \w+; give its own"),
        ("|data:", "|data:0", r"dataset_\w+ is against training blocks 0\w+, the run's are \w+; give its own"),
    ):
        other = tmp_path / "results_other.json"
        other.write_text(path.read_text().replace(old, new))
        with pytest.raises(HyperfitError, match=line):
            stage(Push(tiny_run, "ada/little", "none", license="mit", results=(other,)), tmp_path)


def test_numbers_with_intervals_win(tiny_run, tiny_results, tmp_path):
    records = sorted(tiny_results.glob("continuations_hyperfit_openended_demo_2*.jsonl"))
    found = stage(Push(tiny_run, "ada/little", "none", license="mit", results=(tiny_results, *records)), tmp_path)
    assert [evaluation.title for evaluation in found] == ["greedy", "greedy, citation blocking"]
    assert found[0].get("self_bleu_avg").low is not None and found[1].get("self_bleu_avg").low is None
    assert found[0].get("perplexity").value > 0


def test_the_command_line(tiny_run, tiny_results, tmp_path):
    def push(*arguments):
        return CliRunner().invoke(app, ["push", str(tiny_run), "--repo", "ada/little", "--license", "mit", *arguments])

    out = tmp_path / "out"
    refused = push("--dry-run", str(out))
    assert str(refused.exception).endswith("or --base-model none where it is on no Hub")
    assert list(tmp_path.iterdir()) == []  # a refused push leaves nothing
    result = push("--base-model", "none", "--results", str(tiny_results), "--dry-run", str(out))
    assert result.exit_code == 0, result.output
    assert result.output.endswith(f"Written to {out}; nothing was uploaded.\n")
    assert {path.name for path in out.iterdir()} == PUBLISHED
    again = push("--base-model", "none", "--dry-run", str(out))
    assert str(again.exception) == f"--dry-run {out}: not an empty folder; give another"


def test_a_title_for_each_rule_of_blocking():
    evaluation = Evaluation("greedy", {}, [Score("ttr_at_256", 1.0, "%", "s")])
    assert evaluation.open_ended and evaluation.get("ttr_at_256").value == 1.0
    assert not replace(evaluation, task=TaskSettings("mmlu")).open_ended


def test_results_that_are_no_numbers_are_named_and_left_out(tiny_run, tmp_path):
    values = {"acc,none": float("nan"), "ppl,none": float("inf"), "f1,none": 0.5}
    document = {"results": {"one": values, "two": {"acc,none": float("nan")}}, "configs": {}}
    document["config"] = {"model_args": {"pretrained": "ada/little"}}
    (tmp_path / "results.json").write_text(json.dumps(document))
    folder, said = tmp_path / "staged", []
    folder.mkdir()
    push = Push(tiny_run, "ada/little", "none", license="mit", results=(tmp_path / "results.json",))
    found = stage(push, folder, say=said.append)
    assert [(e.title, [n.metric for n in e.numbers]) for e in found] == [("one", ["f1"])]
    assert said == ["Left out: acc of one is NaN.", "Left out: ppl of one is infinity.", "Left out: acc of two is NaN."]
    for file in ("results.json", "README.md"):
        text = (folder / file).read_text()
        assert ".nan" not in text and "NaN" not in text and "Infinity" not in text


def test_what_the_base_models_card_says_survives_unchanged(tmp_path):
    """YAML would read the language code of Norwegian as False, and lose a name's zeros."""
    (tmp_path / "README.md").write_text(
        "---\nlicense: other\nlicense_name: 1.10\nlicense_link: LICENSE\nlanguage:\n- no\n- on\n- en\n---\n# Base\n"
    )
    base = base_of(str(tmp_path), "none", None)
    assert base.license == {"license": "other", "license_name": "1.10", "license_link": "LICENSE"}
    assert base.language == ["no", "on", "en"]
    metadata = yaml.safe_load(ModelCardData(language=base.language, license=base.license["license_name"]).to_yaml())
    assert metadata == {"language": ["no", "on", "en"], "license": "1.10"}


def test_a_base_models_card_of_yaml_aliases_is_refused(tmp_path):
    bomb = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" if n else "a0: &a0 [x]" for n in range(9))
    (tmp_path / "README.md").write_text(f"---\n{bomb}\nlicense: mit\n---\n# Base\n")
    with pytest.raises(HyperfitError, match=r"line 2: not YAML \(aliases are not read\)\); add --license ID"):
        base_of(str(tmp_path), "none", None)
