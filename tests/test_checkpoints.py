"""Checkpoints from elsewhere are data: what would lead to code or to files elsewhere is refused in one line."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from hyperfit_eval.checkpoints import CheckpointError, check_folder, load_model, load_tokenizer
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.publish.rerun import require_plain_name
from hyperfit_eval.publish.staging import _require_own


@pytest.fixture
def folder(tiny_checkpoint, tmp_path):
    return shutil.copytree(tiny_checkpoint, tmp_path / "model")


def changed(folder, file, **settings):
    document = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    (folder / file).write_text(json.dumps(document | settings))


def test_a_whole_checkpoint_loads(folder):
    from transformers import AutoModelForCausalLM

    assert len(load_tokenizer(str(folder))) == 23
    assert load_model(AutoModelForCausalLM, str(folder)).config.vocab_size == 50


@pytest.mark.parametrize("shard", ["../../secret.safetensors", "/etc/passwd", "model.bin", "a\\b.safetensors", ""])
def test_weights_outside_the_folder(folder, shard):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": shard}}))
    with pytest.raises(CheckpointError, match=r"lm_head.weight is in .*, expected a safetensors file beside it"):
        check_folder(folder)


@pytest.mark.parametrize(
    ("file", "settings", "line"),
    [
        ("config.json", {"attn_implementation": "eve/kernel"}, "kernels from elsewhere are code"),
        ("config.json", {"text_config": {"_attn_implementation": "eve/kernel:run"}}, "kernels from elsewhere are code"),
        ("config.json", {"transformers_weights": "../x.safetensors"}, "expected the name of a file in the same folder"),
        ("tokenizer_config.json", {"vocab_file": "/etc/passwd"}, "expected the name of a file in the same folder"),
        ("adapter_config.json", {"base_model_name_or_path": "/elsewhere"}, "an adapter, whose base model is elsewhere"),
    ],
)
def test_settings_that_lead_elsewhere(folder, file, settings, line):
    changed(folder, file, **settings)
    with pytest.raises(CheckpointError, match=line):
        load_tokenizer(str(folder))


def test_pipes_and_loops_are_not_opened(folder):
    os.mkfifo(folder / "chat_template.jinja")
    with pytest.raises(CheckpointError, match=r"chat_template.jinja: cannot be read \(a pipe, socket or device"):
        check_folder(folder)
    (folder / "chat_template.jinja").unlink()
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").symlink_to("tokenizer.json")
    with pytest.raises(CheckpointError, match=r"tokenizer.json: cannot be read \(Too many levels of symbolic links\)"):
        check_folder(folder)


def test_pickles(folder):
    from transformers import AutoModelForCausalLM

    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"its weights are pytorch_model.bin, a format that can hold code"):
        load_model(AutoModelForCausalLM, str(folder))


def test_weights_that_are_missing_are_not_drawn_at_random(folder):
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM

    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"no weights of model.norm.weight"):
        load_model(AutoModelForCausalLM, str(folder))


@pytest.mark.slow
def test_code_of_a_repository_neither_runs_nor_asks(folder):
    """In a process of its own, with a terminal's answer at hand that would say yes."""
    ran = folder.parent / "ran"
    code = f"open({str(ran)!r}, 'w')\n"
    (folder / "evil.py").write_text(code)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    program = "import sys; from hyperfit_eval.checkpoints import load_config; load_config(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], input="y\n", capture_output=True, text=True, check=False
    )
    assert "no model can be loaded (" in done.stderr and "[y/N]" not in done.stdout + done.stderr
    assert not ran.exists()


@pytest.mark.parametrize("task", ["mm[l]u", "m*", "./evil", "../evil.yaml", "/tmp/evil.yaml", "a,b", "mml?"])
def test_a_task_is_named_plainly(task):
    with pytest.raises(HyperfitError, match=r"no task named .* comes with lm-eval"):
        require_plain_name(task)


def test_what_a_link_leads_to_elsewhere_is_not_published(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "secret").write_text("secret")
    (run / "vocab.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(HyperfitError, match=r"vocab.txt: a link to .*secret, outside the run's folder"):
        _require_own(run, run / "vocab.txt")
    (run / "real.txt").write_text("x")
    _require_own(run, run / "real.txt")
