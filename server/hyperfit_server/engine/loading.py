"""From a checkpoint's name to a running engine."""

from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM

from hyperfit_eval import checkpoints
from hyperfit_eval.checkpoint_files import INDEX_FILE, find_checkpoint_file
from hyperfit_eval.citation import CitationIndex
from hyperfit_eval.citation.corpus import read_sequences
from hyperfit_eval.demo.location import demo_model_dir
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.machine import default_device
from hyperfit_eval.texts.contexts import demo_corpus_path

from .embedded import TransformersEngine


def load_engine(
    model: str | Path | None = None,
    index: str | Path | None = None,
    *,
    without_index: bool = False,
    device: str | None = None,
    dtype: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    model_id: str | None = None,
    **limits: Any,
) -> TransformersEngine:
    """Load a model, its tokenizer and its citation index, and start an engine on them.

    Args:
        model: folder or Hub id of a causal LM; the demo model that ships with the package unless given.
        index: a citation index; by default the one in the checkpoint, and for the demo model one of the demo
            corpus, which is built in a moment.
        without_index: serve without the citation blocker.
        device: cpu, cuda, cuda:1, ...; by default the first GPU, else the CPU.
        dtype: auto (as in the checkpoint), float32, bfloat16 or float16.
        model_id: what clients are told; by default the name as given.
        limits: of `TransformersEngine`.
    Raises:
        HyperfitError: nothing that can be loaded, or no index where one is expected.
    """
    source = str(model) if model is not None else str(demo_model_dir())
    if device is None:
        device = default_device()
    if dtype != "auto" and dtype not in ("float32", "bfloat16", "float16"):
        raise HyperfitError(f"dtype={dtype}: expected auto, float32, bfloat16 or float16")
    tokenizer = checkpoints.load_tokenizer(source, revision, trust_remote_code=trust_remote_code)
    citation_index = None if without_index else load_index(source, index, tokenizer, revision)
    loaded = checkpoints.load_model(
        AutoModelForCausalLM, source, revision, trust_remote_code=trust_remote_code, dtype=dtype
    )
    try:
        loaded.to(device)
    except (RuntimeError, AssertionError) as error:
        raise HyperfitError(f"device={device}: {_first_line(error)}; give a device that is there, like cpu") from error
    name = model_id or (Path(source).name if Path(source).is_dir() else source)
    if model is None and model_id is None:
        name = "hyperfit-demo"
    return TransformersEngine(loaded.eval(), tokenizer, citation_index, model_id=name, **limits)


def load_index(
    model: str | Path, index: str | Path | None, tokenizer: Any, revision: str | None = None
) -> CitationIndex:
    """The index given, or the one of the checkpoint.

    Raises:
        HyperfitError: there is none, or it belongs to another tokenizer.
    """
    if index is not None:
        return CitationIndex.load(index, tokenizer)
    source = str(model)
    own = find_checkpoint_file(source, INDEX_FILE, revision)
    if own is not None:
        return CitationIndex.load(own, tokenizer)
    if Path(source).is_dir() and Path(source).resolve() == demo_model_dir():
        return CitationIndex.build(read_sequences(demo_corpus_path(), tokenizer), tokenizer)
    raise HyperfitError(
        f"{source}: no {INDEX_FILE} to block citations by; build it with `hyperfit index build`, give one with "
        "--index FILE, or serve without the blocker: --no-blocking"
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".: ")
