"""Checkpoints that somebody else may have made, loaded as data: nothing in one is run, asked about or followed out.

The one way from a name to a tokenizer, a configuration or a model, for training, scoring, serving, pushing,
verifying and the index. Weights are safetensors, code of a repository is never run, and what the JSON files say
cannot lead to a file or a kernel elsewhere.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .documents import Value, read_document, regular_size
from .errors import HyperfitError

WEIGHTS_INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
DTYPES = ("auto", "float32", "bfloat16", "float16")
_SETTINGS = ("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json", ADAPTER)
_READ = (*_SETTINGS, WEIGHTS_INDEX, "*.json", "*.jinja", "*.txt", "*.model", "*.safetensors")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
_FILE_KEYS = {
    "tokenizer_file", "vocab_file", "merges_file", "spm_file", "source_spm", "target_spm", "emoji_file",
    "transformers_weights",
}  # fmt: skip
"""Settings whose file transformers opens in place of the folder's own."""
_IMPLEMENTATION = re.compile(r"_implementation(_internal)?$")


class CheckpointError(HyperfitError):
    """A checkpoint that is damaged, or that would lead to code or files elsewhere."""


def load_tokenizer(model: str, revision: str | None = None, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a model, a folder or a Hub id.

    Raises:
        CheckpointError: no such model, or one without a tokenizer that can be loaded as data.
    """
    from transformers import AutoTokenizer

    return _load("tokenizer", model, revision, trust_remote_code, AutoTokenizer.from_pretrained)


def load_config(model: str, revision: str | None = None, *, trust_remote_code: bool = False) -> Any:
    """The configuration of a model, a folder or a Hub id.

    Raises:
        CheckpointError: no such model.
    """
    from transformers import AutoConfig

    return _load("model", model, revision, trust_remote_code, AutoConfig.from_pretrained)


def load_model(
    loader: Any, model: str, revision: str | None = None, *, trust_remote_code: bool = False, **options: Any
) -> Any:
    """The model that a class of transformers makes of safetensors.

    Args:
        loader: AutoModelForCausalLM or another class with `from_pretrained`.
        options: of `from_pretrained`.
    Raises:
        CheckpointError: no such model, weights in another format, or weights that are not all there.
    """

    def load(source: str, **sources: Any) -> Any:
        options_ = {"use_safetensors": True, "output_loading_info": True} | options
        loaded, info = loader.from_pretrained(source, **sources, **options_)
        # transformers would go on with random numbers in their place.
        if missing := sorted(info["missing_keys"]):
            raise ValueError(f"no weights of {missing[0]}" + (f" and {len(missing) - 1} more" * (len(missing) > 1)))
        return loaded

    return _load("causal LM", model, revision, trust_remote_code, load)


def check_folder(folder: Path) -> None:
    """Raise where a folder holds something that must not be loaded; reads its JSON files, not its weights.

    Raises:
        CheckpointError: a pipe, a loop of links, weights that are not in the folder or not safetensors, an adapter, or
            a setting that names a file elsewhere.
    """
    try:
        for path in sorted({path for pattern in _READ for path in folder.glob(pattern)}):
            if not path.is_dir():
                regular_size(path, f"{folder}: {path.name}")
        for name in _SETTINGS:
            if (folder / name).exists():
                _check_settings(read_document(folder / name, f"{folder}: {name}"))
        if (folder / ADAPTER).exists():
            raise HyperfitError(
                f"{folder}: an adapter, whose base model is elsewhere; merge it and save the whole model"
            )
        if (folder / WEIGHTS_INDEX).exists():
            _check_index(folder, read_document(folder / WEIGHTS_INDEX, f"{folder}: {WEIGHTS_INDEX}"))
    except CheckpointError:
        raise
    except HyperfitError as error:
        raise CheckpointError(str(error)) from error


def _load(what: str, model: str, revision: str | None, trust_remote_code: bool, load: Callable[..., Any]) -> Any:
    try:
        folder = Path(model) if Path(model).is_dir() else None
    except (OSError, ValueError):
        folder = None
    if folder is not None:
        check_folder(folder)
        if what == "causal LM":
            require_safetensors(folder)
    else:
        revision = _check_hub(model, revision)
    try:
        return load(model, revision=revision, trust_remote_code=trust_remote_code)
    except HyperfitError:
        raise
    except Exception as error:  # whatever a stranger's numbers make transformers, torch or tokenizers raise
        reason = str(error).strip().partition("\n")[0].rstrip(".: ") or type(error).__name__
        hint = "a causal LM" + (" with its tokenizer" if what == "tokenizer" else "")
        raise CheckpointError(
            f"{model}: no {what} can be loaded ({reason}); give the folder or Hub id of {hint}"
        ) from error


def _check_hub(model: str, revision: str | None) -> str | None:
    """Check the JSON files of a repository; returns the commit that was checked, so that no other one is loaded."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(model, revision=revision, allow_patterns=[*_SETTINGS, WEIGHTS_INDEX]))
    except Exception:  # the loader says what is wrong with the name, the network or the permission
        return revision
    for name in _SETTINGS:
        if (folder / name).exists():
            _check_settings(read_document(folder / name, f"{model}: {name}"))
    return folder.name if re.fullmatch(r"[0-9a-f]{40}", folder.name) else revision


def _check_settings(document: Value) -> None:
    """Refuse what would make transformers read another file than the folder's, or load a kernel from the Hub."""
    document.names()
    todo = [document]
    while todo:
        value = todo.pop()
        if isinstance(value.content, list):
            todo += [entry for entry in value.elements() if isinstance(entry.content, dict | list)]
            continue
        for name, content in value.content.items():
            inner = Value(content, document.file, f"{value.field}.{name:.80}".lstrip("."))
            if isinstance(content, dict | list):
                todo.append(inner)
            elif isinstance(content, str) and _IMPLEMENTATION.search(name) and ("/" in content or ":" in content):
                raise inner.error("an implementation of transformers itself: kernels from elsewhere are code")
            elif isinstance(content, str) and name in _FILE_KEYS and Path(content).name != content:
                raise inner.error("the name of a file in the same folder")


def _check_index(folder: Path, document: Value) -> None:
    for tensor, shard in document["weight_map"].items():
        name = shard.text()
        if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
            raise HyperfitError(
                f"{document.file}: {tensor:.80} is in {name[:80]!r}, expected a safetensors file beside it"
            )
        if not (folder / name).is_file():
            raise HyperfitError(f"{document.file}: {tensor:.80} is in {name}, which is not in the folder")


def require_safetensors(folder: Path) -> None:
    """Raise where a folder has weights in formats that can hold code, and none as safetensors."""
    if any(folder.glob("*.safetensors")):
        return
    if pickle := next((path for pattern in _PICKLES for path in sorted(folder.glob(pattern))), None):
        raise CheckpointError(
            f"{folder}: its weights are {pickle.name}, a format that can hold code; save it as safetensors, with "
            "model.save_pretrained(FOLDER)"
        )
