"""The lm-eval task `hyperfit_openended` and its variants (paper, Sections 4 and 5)."""

import logging
from collections.abc import Callable
from typing import Any

import datasets
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

from ..checkpoint_files import BLOCKS_FILE, INDEX_FILE
from ..errors import HyperfitError
from ..texts.contexts import TextSet, demo_texts, select_texts
from . import columns
from .arguments import fraction, one_line_errors, positive, whole_number
from .checkpoint import checkpoint_file
from .requests import ContinueSettings, Doc, continue_request, score_request

NO_EFFECT = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}
"""Values of the sampling settings that change nothing."""

logger = logging.getLogger("lm_eval.tasks.hyperfit_openended")


class OpenEndedTask(ConfigurableTask):
    """Continue 32-token contexts by 224 tokens; score the continuations and the original texts.

    What the YAML's `metadata` says, and `--metadata '{...}'` or `--model_args` overrides:

    - texts: "hub" (300 texts of the paper's three datasets) or "demo" (60 texts of this package);
    - per_source: texts of each source, 100 by default ("hub" only);
    - block_citations: true for citation blocking; citation_index: its file, by default the checkpoint's own;
      max_overlap_tokens: also bound copies inside long words;
    - training_set: training blocks for Dataset BLEU and Overlap, by default the checkpoint's own;
    - seed: for sampling (`--gen_kwargs do_sample=True,temperature=0.7,top_p=0.9,top_k=50`).
    """

    def __init__(self, config: dict[str, Any]):
        # The YAML's `class` brought us here; it is no field of lm-eval's TaskConfig.
        config = {key: value for key, value in config.items() if key != "class"}
        config.setdefault("metric_list", [])
        one_line_errors()  # again: with --include_path alone nothing of ours was imported before
        self.settings: dict[str, Any] = dict(config["metadata"])
        super().__init__(config=config)

    def download(self, *args: Any, **kwargs: Any) -> None:
        """Choose the evaluation texts; `lm_eval` calls this where other tasks download a dataset."""
        self.texts = self._texts()
        rows = [{"id": p.id, "source": p.source, "text": p.text} for p in self.texts.passages]
        self.dataset = datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)})
        logger.info("%s: %d texts, fingerprint %s", self.config.task, len(rows), self.texts.fingerprint)
        self.config.metadata["texts_fingerprint"] = self.texts.fingerprint
        blocked = self.settings.get("block_citations")
        self.index_path = checkpoint_file(self.settings, "citation_index", INDEX_FILE) if blocked else None
        if blocked and self.index_path is None:
            raise HyperfitError(
                f"{self.settings.get('pretrained')}: no {INDEX_FILE} in the checkpoint for {self.config.task}; "
                f'build one with `hyperfit index build` and add --metadata \'{{"citation_index": "FILE"}}\''
            )
        self.columns = columns.Columns(self.texts, checkpoint_file(self.settings, "training_set", BLOCKS_FILE))

    def build_all_requests(self, *, limit: int | None = None, **kwargs: Any) -> None:
        """The requests of the first `limit` texts; lm-eval would answer 0 of them with a traceback."""
        if limit is not None and limit < 1:  # not the number typed: lm-eval has made texts of a share
            raise HyperfitError(
                f"--limit leaves no texts of {self.config.task}; expected a whole number of texts, or a share between "
                "0 and 1"
            )
        super().build_all_requests(limit=limit, **kwargs)

    def doc_to_text(self, doc: Doc, doc_to_text: Any = None) -> str:
        """The whole text; the model's side cuts it, with its own tokenizer."""
        return doc["text"]

    def doc_to_target(self, doc: Doc, doc_to_target: Any = None) -> str:
        """The same text: its tokens after the context are the original continuation."""
        return doc["text"]

    def fewshot_context(self, doc: Doc, *args: Any, apply_chat_template: bool = False, **kwargs: Any) -> str:
        """The text, never templated: instruct models too continue raw text in the paper (Appendix B.3)."""
        if apply_chat_template:
            logger.warning("%s: the chat template is not applied to open-ended contexts (paper, B.3)", self.config.task)
        return doc["text"]

    def construct_requests(self, doc: Doc, ctx: str, **kwargs: Any) -> list[Instance]:
        """One request to continue, one to score."""
        metadata = kwargs["metadata"]
        return [
            continue_request(doc, self._decoding(), metadata),
            score_request(doc, metadata),
        ]

    def process_results(self, doc: Doc, results: list[Any]) -> dict[str, Any]:
        """One value a metric for this text; see `columns`."""
        continuation, score = results
        return self.columns.of_text(doc, continuation, score)

    def aggregation(self) -> dict[str, Callable[..., Any]]:
        """From a metric's values over all texts to one number."""
        return self.columns.aggregations()

    def dump_config(self) -> dict[str, Any]:
        """The configuration that lm-eval stores, with the signatures of the numbers beside it."""
        self.config.metadata["signatures"] = self.columns.signatures
        return super().dump_config()

    def higher_is_better(self) -> dict[str, bool]:
        """Only where the paper says so: diversity up, copying down."""
        return columns.HIGHER_IS_BETTER

    def _texts(self) -> TextSet:
        kind = self.settings.get("texts", "hub")
        if kind == "demo":
            return demo_texts()
        if kind == "hub":
            return select_texts(whole_number("per_source", self.settings.get("per_source", 100), least=1))
        raise HyperfitError(f"texts '{kind}' in the metadata of {self.config.task}; expected 'hub' or 'demo'")

    def _decoding(self) -> ContinueSettings:
        known = {"do_sample", "temperature", "top_p", "top_k"}
        fixed = {"until", "max_gen_toks"}
        options = dict(self.config.generation_kwargs or {})
        unknown = set(options) - known - fixed
        if unknown:
            raise HyperfitError(
                f"--gen_kwargs {', '.join(sorted(unknown))}: not used by {self.config.task}; it takes "
                f"{', '.join(sorted(known))}"
            )
        if options.get("max_gen_toks", 224) != 224:
            raise HyperfitError(
                f"--gen_kwargs max_gen_toks={options['max_gen_toks']}: {self.config.task} always makes 224 new tokens "
                f"(paper, Section 4); leave it out"
            )
        sampling = options.get("do_sample", False)
        if not isinstance(sampling, bool):
            raise HyperfitError(f"--gen_kwargs do_sample={sampling}: expected True or False")
        if not sampling and any(options.get(name, off) not in (off, 0) for name, off in NO_EFFECT.items()):
            typed = ",".join(f"{name}={options[name]}" for name in NO_EFFECT if name in options)
            raise HyperfitError(f"--gen_kwargs {typed}: greedy decoding does not use it; add do_sample=True")
        limits = {"temperature": positive, "top_p": fraction, "top_k": whole_number}
        given = limits.keys() & options.keys() if sampling else ()
        numbers: dict[str, Any] = {name: limits[name](name, options[name]) for name in given}
        cap, blocked = self.settings.get("max_overlap_tokens"), self.index_path is not None
        return ContinueSettings(
            do_sample=sampling,
            **numbers,
            seed=whole_number("seed", self.settings.get("seed", 0)),
            citation_index=str(self.index_path) if self.index_path else None,
            max_overlap_tokens=whole_number("max_overlap_tokens", cap, least=1)
            if blocked and cap is not None
            else None,
        )
