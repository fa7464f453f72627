"""Two CPU processes (gloo) started by `accelerate launch` train what one process trains."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from paths import ROOT
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from hyperfit_eval.cli.train import main
from hyperfit_eval.training.folder import read_run
from hyperfit_eval.training.monitor import read_history

CONFIGURATIONS = ROOT / "scripts" / "accelerate"
UPDATES = 10


@pytest.fixture(scope="module")
def arguments(tiny_checkpoint, tiny_tokenizer, tmp_path_factory):
    """The command line of a run that tells the loss of every update, without its output folder."""
    rng = np.random.default_rng(0)
    words = sorted(word for word in tiny_tokenizer.get_vocab() if word[0] != "<")  # its order is of the moment
    corpus = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": " ".join(rng.choice(words, 300))}) + "\n" for _ in range(4)))
    # Plain gradient descent: Adam would blow the rounding of a gradient near zero up to a whole step.
    return (
        f"--model {tiny_checkpoint} --corpus {corpus} --evaluation_texts none --num_train_samples 16 "
        f"--sequence_length 32 --num_validation_samples 0 --max_steps {UPDATES} --learning_rate 0.01 --optim sgd "
        "--bf16 false --use_cpu true --disable_tqdm true --eval_on_start false --eval_strategy steps --eval_steps 1 "
        f"--evaluation_share 1 --logging_strategy no --save_strategy steps --save_steps {UPDATES}"
    ).split()


@pytest.fixture(scope="module")
def alone(arguments, tmp_path_factory):
    """The folder of the same run by one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    main([*arguments, "--output_dir", str(folder)])
    return folder


def launch(configuration, script, arguments, folder):
    """`accelerate launch` with two processes of one thread each; no port is shared with other runs."""
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGURATIONS / configuration),
        "--num_processes", "2", "--main_process_port", "0", str(script), *arguments, "--output_dir", str(folder),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert read_run(folder)["machine"]["processes"] == 2


def assert_same_training(folder, alone):
    losses = [[row.train_loss for row in read_history(each / "history.jsonl")[0]] for each in (folder, alone)]
    assert len(losses[0]) == UPDATES and losses[0][-1] < losses[0][0]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert read_run(folder)["results"]["train_loss"] == pytest.approx(
        read_run(alone)["results"]["train_loss"], rel=1e-5
    )
    one, other = (load_file(each / "model.safetensors") for each in (folder, alone))
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_data_parallel(arguments, alone, tmp_path):
    launch("ddp.yaml", ROOT / "scripts" / "hyperfit.py", arguments, tmp_path / "run")
    assert_same_training(tmp_path / "run", alone)


@pytest.mark.slow
def test_fsdp2(arguments, alone, tmp_path):
    folder = tmp_path / "run"
    launch("fsdp2.yaml", ROOT / "tests" / "support" / "fsdp_on_cpu.py", arguments, folder)
    assert_same_training(folder, alone)
    # What only FSDP leaves: it was no data parallel run.
    assert list((folder / f"checkpoint-{UPDATES}").glob("pytorch_model_fsdp*"))
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.float32 and not any("DTensor" in type(p).__name__ for p in model.parameters())


@pytest.mark.parametrize("path", sorted(CONFIGURATIONS.glob("*.yaml")), ids=lambda path: path.stem)
def test_configurations_are_understood(path):
    # accelerate raises for keys that it does not know.
    configuration = load_config_from_file(str(path))
    written = yaml.safe_load(path.read_text())
    assert configuration.num_processes == written["num_processes"]
    assert configuration.distributed_type == written["distributed_type"]
    # float32 weights; autocast is the script's own argument.
    assert configuration.mixed_precision == "no"


def test_deepspeed_keeps_states_on_the_host():
    # Only read: DeepSpeed has no CPU wheel here.
    written = yaml.safe_load((CONFIGURATIONS / "deepspeed_zero3_offload.yaml").read_text())["deepspeed_config"]
    assert written == {
        "zero_stage": 3,
        "offload_optimizer_device": "cpu",
        "offload_param_device": "cpu",
        "zero3_init_flag": True,
        "zero3_save_16bit_model": True,
    }
