"""`generate` with citation blocking, for a repository on the Hub (its folder `custom_generate`).

In the repository of a model, beside `citation_index.safetensors`, it replaces the model's own `generate`:

    model = AutoModelForCausalLM.from_pretrained(REPO, trust_remote_code=True)
    model.generate(**inputs)

In a repository of its own it is called for each generation, and blocks by the index of the model:

    model.generate(**inputs, custom_generate=REPO, trust_remote_code=True)

Without `trust_remote_code=True` the first form generates without blocking and says nothing.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from hyperfit_eval.citation import CitationBlocker, CitationIndex
from hyperfit_eval.errors import HyperfitError

INDEX_FILE = "citation_index.safetensors"


def generate(
    inputs: Any = None,
    generation_config: Any = None,
    logits_processor: Any = None,
    *,
    model: Any,
    block_citations: bool = True,
    include_prompt: bool = False,
    max_overlap_tokens: int | None = None,
    citation_index: str | Path | None = None,
    **kwargs: Any,
) -> Any:
    """The model's `generate`, with a `CitationBlocker` among its logits processors.

    Args:
        inputs, generation_config, logits_processor, kwargs: as for `GenerationMixin.generate`. `model` comes
            last: it is bound by name, and `model.generate(ids)` must find `inputs` first.
        block_citations: False generates as without this file.
        include_prompt, max_overlap_tokens: as for `CitationBlocker`.
        citation_index: a file, by default `citation_index.safetensors` in the model's folder or repository.
    Raises:
        HyperfitError: no index to block by, or one of another model.
    """
    processors = list(logits_processor or [])
    if block_citations:
        index = _load(str(citation_index or _index_of(model)))
        settings = generation_config or model.generation_config
        in_place = not kwargs.get("output_logits", settings.output_logits)
        processors.insert(0, CitationBlocker(index, None, include_prompt, max_overlap_tokens, in_place))
    # The class's own method: the attribute `generate` of the model may be this function.
    return type(model).generate(
        model, inputs, generation_config=generation_config, logits_processor=processors, **kwargs
    )


def _index_of(model: Any) -> str | None:
    """The index file of the folder or repository, and of the revision, that the model was loaded from."""
    source, revision = model.name_or_path, getattr(model.config, "_commit_hash", None)
    try:
        return cached_file(source, INDEX_FILE, revision=revision)
    except OSError as error:
        raise HyperfitError(
            f"{source or 'a model loaded from nowhere'}: no {INDEX_FILE} to block citations by; build it with "
            "`hyperfit index build`, or pass citation_index=FILE, or block_citations=False"
        ) from error


@lru_cache(maxsize=4)
def _load(path: str) -> CitationIndex:
    return CitationIndex.load(path)
