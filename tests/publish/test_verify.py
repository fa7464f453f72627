"""Verifying cards: what holds, what was changed, what cannot be checked; and the whole way through the Hub."""

import json
import re

import pytest
from hub_stand_in import TOKEN, connected
from publish_fixtures import tiny_results_fixture, tiny_run_fixture  # noqa: F401
from typer.testing import CliRunner

from hyperfit_eval.cli.main import app
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.generation import Decoding
from hyperfit_eval.publish.rerun import decoding_of
from hyperfit_eval.publish.staging import Push, stage
from hyperfit_eval.publish.verify import verify

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def published(tiny_run, tiny_results, tmp_path):
    """The tiny run as `hyperfit push --dry-run` writes it."""
    folder = tmp_path / "published"
    folder.mkdir()
    stage(Push(tiny_run, "ada/little", "none", license="mit", results=(tiny_results,)), folder)
    return folder


def hyperfit(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def replaced(path, pattern, text, count=1):
    old = path.read_text()
    new = re.sub(pattern, text, old, count=count)
    assert new != old
    path.write_text(new)


def test_decoding_of_a_signature():
    assert decoding_of({"dec": "greedy"}) == Decoding()
    top_p = "sample(temperature=0.7,top_p=0.9,top_k=50,seed=0)"
    assert decoding_of({"dec": top_p}) == Decoding.top_p_baseline()
    with pytest.raises(HyperfitError, match="decoded by 'beam', which this version cannot repeat"):
        decoding_of({"dec": "beam"})


def test_a_card_holds_and_one_with_a_changed_number_does_not(published, tmp_path):
    result = hyperfit("verify", published, "--json", tmp_path / "verified.json")
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "verified.json").read_text())
    assert document["holds"] and {row["verdict"] for row in document["numbers"]} == {"equal"}
    evaluations = {row["evaluation"] for row in document["numbers"]}
    assert evaluations == {"greedy", "greedy, citation blocking", "original texts"}
    count = len(document["numbers"])
    assert count > 40 and result.output.rstrip().endswith(f"{count} numbers: {count} equal")
    assert re.search(r"greedy +ttr_at_256 +\d+\.\d{4} +\[\d+\.\d\d, \d+\.\d\d\] +\d+\.\d{4} +equal\n", result.output)

    replaced(published / "README.md", r"(type: ttr_at_256\n +value: )[\d.]+", r"\g<1>99.5")
    result = hyperfit("verify", published, "--only", "greedy")
    assert result.exit_code == 1
    assert re.search(r"DIFFERS: greedy, ttr_at_256: results.json says \d+\.\d{4}\n", result.output)
    assert "1 DIFFERS" in result.output and "not checked: greedy, citation blocking" in result.output


def test_a_number_changed_everywhere_is_found_by_measuring(published):
    metric = r'("metric": "self_bleu_max",\s+"value": )[\d.]+'
    replaced(published / "results.json", metric, r"\g<1>1.25")
    replaced(published / "README.md", r"(type: self_bleu_max\n +value: )[\d.]+", r"\g<1>1.25")
    rows = verify(str(published), titles=["greedy"], say=lambda line: None)
    wrong = {(row.evaluation, row.metric): row.why for row in rows if row.verdict == "DIFFERS"}
    # The table in the text was not changed with them.
    assert wrong == {
        ("greedy", "self_bleu_max"): "it has no interval",
        ("the card's text", "results"): "the card's part on results is not what results.json gives",
    }


def test_without_the_index_copies_are_not_checked(published):
    (published / "citation_index.safetensors").unlink()
    rows = verify(str(published), say=lambda line: None)
    reasons = {row.why for row in rows if row.verdict == "not checked"}
    assert reasons == {
        "no citation_index.safetensors was published",
        "could not be measured again, without what was not published",
    }
    assert {row.metric for row in rows if row.verdict == "equal"} >= {"ttr_at_256", "perplexity", "self_bleu_avg"}


def test_what_cannot_be_verified_is_refused(published, tiny_run, tmp_path, monkeypatch):
    with pytest.raises(HyperfitError, match=r"no results.json; only what `hyperfit push` published with results can"):
        verify(str(tiny_run))
    with pytest.raises(HyperfitError, match="no evaluation 'mmlu'; it has greedy, greedy, citation blocking"):
        verify(str(published), titles=["mmlu"])
    with pytest.raises(HyperfitError, match=r"--revision v1: .* is a folder; leave it out"):
        verify(str(published), revision="v1")
    with pytest.raises(HyperfitError, match="no/such/place: neither a folder nor a Hub repository id"):
        verify("no/such/place")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        HyperfitError, match=r"ada/gone: cannot be downloaded \(.*\); give a folder or the id of a repo"
    ):
        verify("ada/gone")
    replaced(published / "results.json", r'"texts": "\w+"', '"texts": "0123456789abcdef"', count=0)
    monkeypatch.setattr("hyperfit_eval.publish.rerun.select_texts", lambda per_source: _Nothing)
    rows = verify(str(published), say=lambda line: None)
    assert any(row.why.startswith("measured on the texts 0123456789abcdef, which are neither") for row in rows)


class _Nothing:
    fingerprint, passages = "none", []


def test_from_a_run_to_the_hub_and_back(tiny_run, tiny_results, tmp_path, monkeypatch):
    with connected(monkeypatch, tmp_path / "home") as hub:
        arguments = ["--base-model", "none", "--license", "mit", "--results", tiny_results, "--private"]
        result = hyperfit("push", tiny_run, "--repo", "ada/little", *arguments)
        assert result.exit_code == 0, (result.output, result.exception)
        assert f"Published: {hub.url}/ada/little/commit/" in result.output
        tree = hub.repositories["ada/little"].tree("main")
        assert tree["model.safetensors"] == (tiny_run / "model.safetensors").read_bytes()
        assert hub.repositories["ada/little"].private and "training_blocks.jsonl" not in tree
        verified = hyperfit("verify", "ada/little", "--only", "greedy")
        assert verified.exit_code == 0, (verified.output, verified.exception)
        assert not any(TOKEN.encode() in content for content in tree.values())
    assert TOKEN not in result.output + verified.output
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written and not any(TOKEN.encode() in path.read_bytes() for path in written)


@pytest.mark.slow
def test_the_training_script_publishes_the_same_way(tiny_checkpoint, tmp_path, monkeypatch):
    from hyperfit_eval.cli.train import main

    base, corpus = tiny_checkpoint, tmp_path / "corpus.txt"
    corpus.write_text("the cat sat on a mat and dog ran to see it was old red sun in sky with no one\n" * 40)
    monkeypatch.chdir(tmp_path)
    arguments = f"--model {base} --corpus {corpus} --output_dir run --num_train_samples 8 --sequence_length 32 "
    arguments += "--num_validation_samples 0 --evaluation_texts none --num_train_epochs 1 --learning_rate 1e-3 "
    arguments += "--bf16 false --disable_tqdm true --report_to none --push_to_hub true"
    with connected(monkeypatch, tmp_path / "home") as hub:
        with pytest.raises(HyperfitError, match="--push_to_hub: say where to; add --hub_model_id USER/NAME"):
            main(arguments.split())
        arguments += " --hub_model_id ada/trained --hub_private_repo true"
        with pytest.raises(
            HyperfitError, match=r"--push_to_hub: the run's model is a folder, .*; train without it, then"
        ):
            main(arguments.split())
        assert not (tmp_path / "run").exists() and hub.repositories == {}
        # The base model under its Hub id, with a card.
        files = {path.name: path.read_bytes() for path in base.iterdir()}
        hub.add("eve/base", {**files, "README.md": b"---\nlicense: mit\n---\n# Base\n"})
        main(arguments.replace(str(base), "eve/base").split())
        tree = hub.repositories["ada/trained"].tree("main")
    assert hub.repositories["ada/trained"].messages == ["initial commit", "Upload a hyperfitted model"]
    assert "model.safetensors" in tree and not tree.keys() & {"training_blocks.jsonl", "training_args.bin"}
    assert b"base_model: eve/base" in tree["README.md"] and b"license: mit" in tree["README.md"]


def test_the_blocker_in_a_repository_of_its_own(tiny_run, tmp_path, monkeypatch):
    import torch
    from transformers import AutoModelForCausalLM

    out = tmp_path / "blocker"
    result = hyperfit("push-blocker", "--repo", "ada/blocker", "--dry-run", out)
    assert result.exit_code == 0, result.output
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert names == {"README.md", "custom_generate/generate.py", "custom_generate/requirements.txt"}
    card = (out / "README.md").read_text()
    assert "- custom_generate\n" in card and 'custom_generate="ada/blocker"' in card
    # Called for one generation, on a checkpoint without code of its own.
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    model, ids = AutoModelForCausalLM.from_pretrained(tiny_run), torch.tensor([[0, 2, 3]])
    plain = model.generate(ids, max_new_tokens=20)
    settings = {"custom_generate": str(out), "trust_remote_code": True, "max_new_tokens": 20}
    assert torch.equal(model.generate(ids, block_citations=False, **settings), plain)
    model.generate(ids, **settings)
    with connected(monkeypatch, tmp_path / "home") as hub:
        for _ in range(2):
            assert hyperfit("push-blocker", "--repo", "ada/blocker").exit_code == 0
        assert hub.repositories["ada/blocker"].tree("main").keys() == {".gitattributes", *names}
        assert len(hub.repositories["ada/blocker"].messages) == 2
