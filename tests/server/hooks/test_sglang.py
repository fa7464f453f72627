"""SGLang's hooks, on stand-ins with the shapes of its classes; tests/engines/sglang runs the real ones."""

import ast
import subprocess
import sys
import tomllib
from array import array
from pathlib import Path
from types import ModuleType, SimpleNamespace

import citation_tokenizers as kinds
import pytest
import torch
from hyperfit_server.hooks import sglang, sglang_plugin
from hyperfit_server.hooks.environment import INDEX, BlockerSettings

from hyperfit_eval.blocking.windows import WindowBlocker
from hyperfit_eval.citation import CitationIndex
from hyperfit_eval.errors import HyperfitError

INF = float("inf")


def request(output_ids, custom_params=None):
    return SimpleNamespace(
        output_ids=array("q", output_ids), sampling_params=SimpleNamespace(custom_params=custom_params)
    )


def test_rows_are_blocked_by_their_requests():
    tokenizer = kinds.byte_level()
    the, t, he, dog = tokenizer.convert_tokens_to_ids(["The", "Ġt", "he", "Ġdog"])
    hook = sglang.Hooks(BlockerSettings("index", None, False))
    logits = torch.zeros(5, len(tokenizer))
    requests = [
        request([9, the, t, he]),
        request([the, t, he], {"hyperfit_blocking": "off"}),
        request([]),
        request([the, t, he], {"hyperfit_blocking": True}),
        request([the, t, he], {"hyperfit_blocking": "a bad value must not end the others' requests"}),
    ]
    batch = SimpleNamespace(reqs=requests)
    info = SimpleNamespace(penalizer_orchestrator=SimpleNamespace(batch=batch))

    def original(sampler, logits, sampling_info):
        return logits

    with pytest.raises(HyperfitError, match="--disable-overlap-schedule"):  # its sampler was never started
        hook.preprocess_logits(original, None, logits, info)
    hook._blocker = WindowBlocker(CitationIndex.build([[the, t, he, dog]], tokenizer, ngram=3))
    assert (hook.preprocess_logits(original, None, logits, info) == -INF).nonzero().tolist() == [
        [0, dog],
        [3, dog],
        [4, dog],
    ]
    # Overlap scheduling hands on a copy without its requests, speculation several rows for each.
    for shown in (None, SimpleNamespace(batch=None), SimpleNamespace(batch=SimpleNamespace(reqs=requests[:2]))):
        with pytest.raises(HyperfitError, match="which request each row is for"):
            hook.preprocess_logits(original, None, logits, SimpleNamespace(penalizer_orchestrator=shown))


@pytest.fixture
def stand_ins(monkeypatch):
    """The two modules of SGLang that `refuse_bypasses` reads."""
    envs = SimpleNamespace(SGLANG_USE_MLX=SimpleNamespace(get=lambda: False))
    choices = {"BUILT_IN_SAMPLING_BACKENDS": {"flashinfer", "pytorch"}}
    for name, values in {"srt.environ": {"envs": envs}, "srt.arg_groups.choices": choices}.items():
        parts = f"sglang.{name}".split(".")
        for end in range(1, len(parts) + 1):
            monkeypatch.setitem(sys.modules, ".".join(parts[:end]), ModuleType(parts[end - 1]))
        vars(sys.modules[f"sglang.{name}"]).update(values)
    return envs


ARGUMENTS = {
    "disable_overlap_schedule": True, "enable_custom_logit_processor": False, "speculative_algorithm": None,
    "dllm_algorithm": None, "sampling_backend": "pytorch",
}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"disable_overlap_schedule": False}, "add --disable-overlap-schedule"),
        ({"speculative_algorithm": "EAGLE"}, "--speculative-algorithm EAGLE: it chooses tokens past the citation"),
        ({"dllm_algorithm": "LowConfidence"}, "--dllm-algorithm LowConfidence: it chooses tokens past the citation"),
        ({"enable_custom_logit_processor": True}, "pickled code out of requests"),
        ({"sampling_backend": "oracle"}, "--sampling-backend oracle: .* use one of flashinfer, pytorch"),
    ],
)
def test_refuses_what_goes_around(stand_ins, arguments, message):
    sglang.refuse_bypasses(ARGUMENTS)
    with pytest.raises(HyperfitError, match=message):
        sglang.refuse_bypasses(ARGUMENTS | arguments)
    with pytest.raises(KeyError):  # another version of SGLang: nothing is taken for granted
        sglang.refuse_bypasses({"disable_overlap_schedule": True})


def test_refuses_mlx(stand_ins):
    stand_ins.SGLANG_USE_MLX.get = lambda: True
    with pytest.raises(HyperfitError, match="SGLANG_USE_MLX=1: MLX chooses tokens past the citation blocker; unset it"):
        sglang.refuse_bypasses(ARGUMENTS)


def parameters(**values):
    nothing = dict.fromkeys(["custom_params", "beam_width", "json_schema", "regex", "ebnf", "structural_tag"])
    return SimpleNamespace(**nothing | values)


@pytest.mark.parametrize(
    ("values", "forced", "message"),
    [
        (
            {"custom_params": [1]},
            False,
            r"arguments \[1\]: expected an object such as {'hyperfit_blocking': 'off'}",
        ),
        ({"custom_params": "off"}, False, "extra arguments 'off': expected an object"),
        ({"custom_params": {"hyperfit_blocking": "maybe"}}, False, "expected on or off"),
        ({"custom_params": {"hyperfit_blocking": "off"}}, True, "does not let requests switch the citation blocker"),
        ({"beam_width": 4}, False, "beam_width=4: beams are chosen past the citation blocker; leave it out"),
        ({"regex": "The quick.*"}, True, "regex: it can leave a citation as the only choice"),
        ({"structural_tag": "{}"}, True, "structural_tag: it can leave a citation as the only choice"),
    ],
)
def test_bad_requests_are_refused_as_they_arrive(values, forced, message):
    verified = []
    hooks = sglang.Hooks(BlockerSettings("index", None, forced))
    with pytest.raises(HyperfitError, match=message):
        hooks.verify_parameters(lambda *args: verified.append(args), parameters(**values), 400)
    assert not verified


def test_good_requests_go_on_to_sglangs_own_check():
    verified = []
    hooks = sglang.Hooks(BlockerSettings("index", None, False))
    off = {"custom_params": {"hyperfit_blocking": "off"}}
    good = [parameters(beam_width=1), parameters(regex="a"), parameters(beam_width=4, **off), parameters(**off)]
    for one in good:
        hooks.verify_parameters(lambda *args: verified.append(args), one, 400)
    assert verified == [(one, 400) for one in good]


def test_does_nothing_where_no_index_is_named(monkeypatch):
    monkeypatch.delenv(INDEX, raising=False)
    sglang_plugin.register()


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        (None, "ModuleNotFoundError: No module named 'hyperfit_server'"),
        ("raise ImportError('no such symbol')", "ImportError: no such symbol"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("this is no Python", "SyntaxError: invalid syntax"),
    ],
)
def test_an_error_in_this_package_ends_the_process(tmp_path, breaks, message):
    """In a process of its own, as SGLang loads an entry point: it would log any other exception, and go on."""
    if breaks:
        (tmp_path / "hyperfit_server" / "hooks").mkdir(parents=True)
        (tmp_path / "hyperfit_server" / "hooks" / "sglang.py").write_text(breaks)
    (tmp_path / "_hyperfit_eval_sglang.py").write_text(Path(sglang_plugin.__file__).read_text())
    load = "from _hyperfit_eval_sglang import register\ntry: register()\nexcept Exception: pass\nprint('unblocked')"
    environment = {INDEX: "index", "PYTHONPATH": str(tmp_path)}
    line = [sys.executable, "-S", "-c", load]  # -S: without the installed package
    ended = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith(f"error: SGLang ends, since citations would not be blocked: {message}")
    assert ended.stderr.count("\n") == 1


def test_the_entry_point_is_a_file_of_its_own_that_imports_the_standard_library_alone():
    file = Path(sglang_plugin.__file__)
    imports = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports}
    assert names <= sys.stdlib_module_names
    project = tomllib.loads((file.parents[3] / "pyproject.toml").read_text())
    [entry] = project["project"]["entry-points"]["sglang.srt.plugins"].values()
    assert entry == "_hyperfit_eval_sglang:register"
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included[str(file.relative_to(file.parents[3]))] == "_hyperfit_eval_sglang.py"
