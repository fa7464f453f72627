"""The shipped recipes say what the paper says, and resolve to what is run."""

import json
import re

import numpy as np
import pytest
import yaml
from paths import SHARED
from safetensors.torch import load_file

from hyperfit_eval.cli.train import main, recipe_list
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.texts.blocks import read_blocks
from hyperfit_eval.training.arguments import parse_arguments, recipe_values
from hyperfit_eval.training.data import block_order
from hyperfit_eval.training.folder import read_run
from hyperfit_eval.training.recipe_files import FOLDER, Setting, read_recipe, recipe_names
from hyperfit_eval.training.resolved import resolved_recipe


def resolved(name, *typed):
    """Every argument after parsing."""
    options, training = parse_arguments(["--recipe", name, "--output_dir", "run", *typed])
    return vars(options) | vars(training)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("paper", {"num_train_epochs": 20, "learning_rate": 1e-6, "num_train_samples": 2000, "batch_size": 8}),
        ("quantity-16", {"num_train_samples": 16, "max_steps": 5000, "learning_rate": 1e-6}),
        ("shuffle-1", {"shuffle": "one", "seed": 0, "num_train_epochs": 20}),
        ("shuffle-all", {"shuffle": "all", "seed": 0, "num_train_epochs": 20}),
        ("wiki", {"corpus": "Salesforce/wikitext", "model": "meta-llama/Llama-3.1-8B"}),
        ("news", {"corpus": "RealTimeData/bbc_news_alltime", "model": "meta-llama/Llama-3.1-8B"}),
        ("instruct", {"model": "meta-llama/Llama-3.1-8B-Instruct", "learning_rate": 1e-6}),
        ("late-stage-lora", {"lora_layers": 5, "num_train_samples": 2000}),
        ("imagegpt", {"num_train_epochs": 50, "learning_rate": 0.003, "num_train_samples": 2000}),
        ("demo", {"num_train_samples": 96, "learning_rate": 0.001, "sequence_length": 256}),
    ],
)
def test_each_recipe_by_hand(name, expected):
    values = resolved(name)
    assert {key: values[key] for key in expected} == expected


def test_what_is_given_wins():
    assert resolved("paper", "--learning_rate", "2e-6")["learning_rate"] == 2e-6
    # Trainer would let the recipe's number of updates win over epochs.
    assert resolved("quantity-16", "--num-train-epochs", "3")["max_steps"] == -1
    assert resolved("quantity", "--max_steps", "9")["max_steps"] == 9


def test_what_was_typed_is_known_also_where_it_is_the_default():
    options, training = parse_arguments(
        ["--recipe=demo", "--output_dir=run", "--save_minutes", "10", "--seed=0", "--hub_token=secret"]
    )
    assert options.given == {"recipe": "demo", "save_minutes": 10.0}
    assert training.given == {"output_dir": "run", "seed": 0}
    saved = resolved_recipe(options, training)
    assert saved["save_minutes"] == Setting(10.0, "changed", "given", None)
    assert saved["seed"].origin != "changed" and "secret" not in str(saved)


def test_every_value_has_its_origin_and_the_quotes_are_the_papers():
    path = SHARED / "paper" / "hyperfitting_paper.txt"
    if not path.is_file():
        pytest.skip("no text of the paper (shared/paper) beside the checkout")
    paper = " ".join(path.read_text().split())
    quotes = 0
    for name in recipe_names():
        for key, setting in read_recipe(name).settings.items():
            assert setting.origin in ("paper", "choice") and setting.why, (name, key)
            if setting.origin == "paper":
                assert re.search(r"Section \d|Appendix B|Figure \d", setting.why), (name, key)
                for quote in re.findall(r'"([^"]+)"', setting.why):
                    assert quote in paper, (name, key, quote)
                    quotes += 1
    assert quotes > 25


def test_the_list_names_every_recipe():
    shown = recipe_list()
    assert all(re.search(rf"^{name} +\S", shown, re.M) for name in recipe_names())
    assert str(FOLDER) in shown
    assert {"paper", "quantity", "shuffle-1", "shuffle-all", "wiki", "news", "instruct"} < set(recipe_names())


def test_what_is_no_recipe_is_refused(tmp_path):
    with pytest.raises(HyperfitError, match=r"--recipe shufle-1: no such recipe \(did you mean shuffle-1\?\)"):
        recipe_values("shufle-1")
    with pytest.raises(HyperfitError, match=r"--recipe quantity-many: no such recipe \(did you mean quantity-8\?\)"):
        recipe_values("quantity-many")
    path = tmp_path / "mine.yaml"
    path.write_text("lerning_rate: 1e-5\n")
    with pytest.raises(HyperfitError, match=r"mine.yaml: no setting 'lerning_rate' \(did you mean learning_rate\?\)"):
        recipe_values(str(path))
    path.write_text("learning_rate: {value: 1e-5, source: me}\n")
    with pytest.raises(HyperfitError, match=r"mine.yaml: 'learning_rate' has \['source'\] beside its value, exp"):
        recipe_values(str(path))
    path.write_text("a: [1\nb: 2")
    with pytest.raises(HyperfitError, match=r"mine.yaml, line 2: not YAML"):
        recipe_values(str(path))
    path.write_text("just words")
    with pytest.raises(HyperfitError, match=r"mine.yaml: not a recipe; lines such as 'learning_rate: 1e-5'"):
        recipe_values(str(path))
    with pytest.raises(HyperfitError, match=r"--recipe .*none.yaml: cannot be read \(No such file"):
        recipe_values(str(tmp_path / "none.yaml"))
    with pytest.raises(HyperfitError, match="argument --recipe: expected one argument; see hyperfit train --list-rec"):
        main(["--recipe"])


def test_two_blocks_are_swapped_or_all_reordered():
    # Shuffle-1: two places exchange their blocks, the others keep theirs.
    order = block_order(10, "one", seed=0)
    moved = np.flatnonzero(order != np.arange(10))
    assert len(moved) == 2 and order[moved].tolist() == moved[::-1].tolist()
    assert block_order(10, "none", seed=0).tolist() == list(range(10))
    assert sorted(block_order(10, "all", seed=0)) == list(range(10)) != block_order(10, "all", seed=0).tolist()
    assert block_order(10, "all", 1).tolist() != block_order(10, "all", 0).tolist()
    with pytest.raises(HyperfitError, match="--shuffle one: two blocks are swapped, --num_train_samples is 1"):
        block_order(1, "one", seed=0)


@pytest.fixture
def recipe(tmp_path, tiny_checkpoint, tiny_tokenizer):
    rng = np.random.default_rng(0)
    words = [word for word in tiny_tokenizer.get_vocab() if word[0] != "<"]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": " ".join(rng.choice(words, 300))}) + "\n" for _ in range(6)))
    path = tmp_path / "mine.yaml"
    settings = {
        "title": "a small one", "model": str(tiny_checkpoint), "corpus": str(corpus), "evaluation_texts": "none",
        "num_train_samples": 16, "sequence_length": 32, "num_validation_samples": 0, "num_train_epochs": 1,
        "bf16": False, "disable_tqdm": True,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(settings) + "learning_rate: 1e-3\n")
    return path


@pytest.mark.slow
def test_a_saved_recipe_repeats_its_run(recipe, tmp_path):
    main(["--recipe", str(recipe), "--output_dir", str(tmp_path / "one"), "--adam_beta2", "0.95", "--seed", "3"])
    saved = tmp_path / "one" / "recipe.yaml"
    written = yaml.safe_load(saved.read_text())
    assert written["title"] == "mine: a small one"
    assert written["learning_rate"] == {"value": 1e-3, "changed": "by mine.yaml"}
    assert written["adam_beta2"] == {"value": 0.95, "changed": "given; the recipe says 0.999"}
    assert written["batch_size"] == {"value": 8, "paper": 'Section 3: "use a batch size of 8"'}
    main(["--recipe", str(saved), "--output_dir", str(tmp_path / "other"), "--disable_tqdm", "true"])
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "other"))
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert read_run(tmp_path / "other")["recipe"]["seed"]["value"] == 3


@pytest.mark.slow
def test_shuffled_runs_see_the_same_blocks_in_another_order(recipe, tmp_path):
    found = {}
    for shuffle in ("none", "one", "all"):
        main(["--recipe", str(recipe), "--output_dir", str(tmp_path / shuffle), "--shuffle", shuffle])
        found[shuffle] = read_blocks(tmp_path / shuffle / "training_blocks.jsonl")
    assert len({blocks.fingerprint for blocks in found.values()}) == 1
    assert len({blocks.order_hash for blocks in found.values()}) == 3
    assert (found["none"].ids != found["one"].ids).any(axis=1).sum() == 2
    weights = {name: load_file(tmp_path / name / "model.safetensors")["lm_head.weight"] for name in found}
    assert not np.array_equal(weights["none"], weights["one"])


def test_the_docs_have_a_row_for_every_recipe():
    page = (FOLDER.parents[1] / "docs" / "recipes.md").read_text()
    for name in recipe_names():
        assert re.search(rf"^\| `{name}(-8)?` .*hyperfit train --recipe {name}", page, re.M), name
