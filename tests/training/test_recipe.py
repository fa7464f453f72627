"""The recipe's defaults are the paper's, and its arguments mean what they say."""

import pytest
from transformers.training_args import OptimizerNames

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.training.installed import OPTIMIZER_PACKAGES, require_optimizer
from hyperfit_eval.training.recipe import HyperfitArguments, RecipeArguments, split_batch
from hyperfit_eval.training.recipe_files import Setting
from hyperfit_eval.training.resolved import resolved_recipe


def test_the_defaults_are_the_papers(tmp_path):
    options = HyperfitArguments(model="m", corpus="c")
    training = RecipeArguments(output_dir=str(tmp_path))
    assert (options.num_train_samples, options.sequence_length) == (2000, 256)
    assert (training.num_train_epochs, training.learning_rate, training.batch_size) == (20, 1e-6, 8)
    assert (training.adam_beta1, training.adam_beta2, training.adam_epsilon) == (0.9, 0.999, 1e-8)
    # AdamW without decay is Adam.
    assert training.optim.value.startswith("adamw") and training.weight_decay == 0
    assert (training.lr_scheduler_type, training.warmup_steps, training.max_grad_norm) == ("constant", 0, 0)
    assert options.weights_dtype == options.save_dtype == "float32"
    assert training.per_device_train_batch_size * training.gradient_accumulation_steps * training.world_size == 8
    recipe = resolved_recipe(options, training)
    assert {entry.origin for name, entry in recipe.items() if name not in ("model", "corpus")} == {"paper", "choice"}
    quote = 'Section 3: "the Adam optimizer with a learning rate of 1e-6"'
    assert recipe["learning_rate"] == Setting(1e-6, "paper", quote)
    assert recipe["max_grad_norm"].origin == "choice"


def test_what_the_user_gives_wins_and_is_marked(tmp_path):
    options = HyperfitArguments(model="m", corpus="c", num_train_samples=96)
    training = RecipeArguments(output_dir=str(tmp_path), learning_rate=1e-3, lr_scheduler_type="cosine", seed=7)
    recipe = resolved_recipe(options, training)
    assert training.lr_scheduler_type == "cosine"
    changed = {name: entry for name, entry in recipe.items() if entry.origin == "changed"}
    assert changed.keys() == {"model", "corpus", "num_train_samples", "learning_rate", "lr_scheduler_type", "seed"}
    why = "given; the recipe says 2000"
    assert recipe["num_train_samples"] == Setting(96, "changed", why, 2000)
    assert (recipe["learning_rate"].value, recipe["learning_rate"].default) == (1e-3, 1e-6)
    assert (recipe["lr_scheduler_type"].value, recipe["lr_scheduler_type"].default) == ("cosine", "constant")
    assert recipe["num_train_epochs"].origin == "paper"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((8, 1), (8, 1)),
        ((8, 4), (2, 1)),
        ((8, 1, 1), (1, 8)),
        ((8, 2, 2), (2, 2)),
        ((8, 2, None, 4), (1, 4)),
        ((16, 2, 4, 2), (4, 2)),
    ],
)
def test_an_update_is_of_as_many_blocks_on_any_number_of_devices(given, expected):
    assert split_batch(*given) == expected


def test_a_batch_that_does_not_divide_is_refused(tmp_path):
    with pytest.raises(HyperfitError, match="--batch_size 8: not a multiple of 3 devices x 1 per device x 1 acc"):
        split_batch(8, 3)
    with pytest.raises(HyperfitError, match="--batch_size 8: not 1 devices x 8 per device x 2 accumulated = 16"):
        split_batch(8, 1, 8, 2)
    with pytest.raises(HyperfitError, match="--batch_size 8: not a multiple of 1 devices x 3 per device"):
        RecipeArguments(output_dir=str(tmp_path), per_device_train_batch_size=3)
    with pytest.raises(HyperfitError, match="--auto_find_batch_size changes how many blocks"):
        RecipeArguments(output_dir=str(tmp_path), auto_find_batch_size=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"report_to": "wandb"}, r"--report_to wandb needs its package: pip install wandb$"),
        ({"report_to": "azure_ml"}, r"--report_to azure_ml needs its package: pip install azureml-mlflow$"),
        (
            {"report_to": "wandbb"},
            r"--report_to wandbb: no such tracker \(did you mean wandb\?\); expected none or of ",
        ),
        (
            {"report_to": "none", "optim": "adamw_8bit"},
            r"--optim adamw_8bit needs a package: pip install bitsandbytes$",
        ),
        ({"report_to": "none", "optim": "galore_adamw"}, r"--optim galore_adamw needs a package: pip install galore-"),
    ],
)
def test_a_missing_package_is_named_before_anything_is_loaded(tmp_path, given, message):
    with pytest.raises(HyperfitError, match=message):
        RecipeArguments(output_dir=str(tmp_path / "run"), **given)


def test_every_optimizer_that_transformers_cannot_run_alone_has_its_package():
    alone = {
        "adamw_torch",
        "adamw_torch_fused",
        "adamw_torch_xla",
        "adamw_torch_npu_fused",
        "adafactor",
        "sgd",
        "adagrad",
    }
    alone |= {"rmsprop"}
    for name in {str(each.value) for each in OptimizerNames} - alone:
        assert any(part in name for part in OPTIMIZER_PACKAGES), name
    for name in alone:
        require_optimizer(name)
