"""Measure again what a card says, from nothing but the published folder."""

import re
import tempfile
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .. import files
from ..blocking import CitationBlocker
from ..checkpoint_files import INDEX_FILE
from ..checkpoints import DTYPES, CheckpointError, check_folder, load_tokenizer, require_safetensors
from ..citation import CitationIndex
from ..documents import Value
from ..errors import HyperfitError
from ..generation import Decoding, continue_texts, score_ids
from ..harness.suite import Suite, run_suite
from ..machine import default_device
from ..records import Continuation
from ..scores.measure import TrainingSet
from ..scores.predictions import prediction_scores
from ..scores.tables import score_records
from ..terminal import bar
from ..texts.contexts import Passage, demo_texts, select_texts
from ..tokenizers import bos_ids, has_fingerprint, tokenizer_fingerprint
from ..training.loading import load_model
from .harness_results import of_harness
from .results import Evaluation, TaskSettings, open_ended

_BLOCK = re.compile(r"(?P<ngram>\d{1,4})(?P<prompt>\+prompt)?(?:\+cap(?P<cap>\d{1,9}))?")


class Rerun:
    """The published folder, and what has been loaded of it.

    Args:
        folder: weights, tokenizer and, for blocking and for everything about copies, the citation index.
        device: by default the accelerator at hand, or the CPU.
        batch_size: texts at a time.
    """

    def __init__(self, folder: Path, device: str | None = None, batch_size: int = 32) -> None:
        self.folder, self.device, self.batch_size = folder, device or default_device(), batch_size
        check_folder(folder)
        require_safetensors(folder)
        self.tokenizer = load_tokenizer(str(folder))
        self._models: dict[str, Any] = {}

    def repeat(self, evaluation: Evaluation) -> Evaluation:
        """The same evaluation, measured now.

        Raises:
            CheckpointError: weights, tokenizer or index of the folder cannot be loaded.
            HyperfitError: what it needs is not here: the texts, the index, a dataset.
        """
        return self._task(evaluation.title, evaluation.task) if evaluation.task else self._open_ended(evaluation)

    @cached_property
    def index(self) -> CitationIndex:
        """The citation index, which holds the training blocks too."""
        path = self.folder / INDEX_FILE
        if not path.exists():
            raise HyperfitError(f"no {INDEX_FILE} was published")
        try:
            return CitationIndex.load(path, self.tokenizer)
        except HyperfitError as error:
            raise CheckpointError(str(error)) from error

    @cached_property
    def training(self) -> TrainingSet | None:
        """The training blocks as the index holds them, in order."""
        if not (self.folder / INDEX_FILE).exists():
            return None
        rows = [row.astype(np.int64) for row in self.index.sequences()]
        texts = [self.tokenizer.decode(row.tolist(), clean_up_tokenization_spaces=False) for row in rows]
        fingerprint = files.fingerprint(sorted(row.astype("<i8").tobytes() for row in rows))
        return TrainingSet(rows, texts, tokenizer_fingerprint(self.tokenizer), fingerprint)

    def _open_ended(self, evaluation: Evaluation) -> Evaluation:
        settings = evaluation.settings
        if not has_fingerprint(self.tokenizer, settings["tok_hash"]):
            raise HyperfitError(f"measured with tokenizer {settings['tok_hash']}, the folder's is another")
        passages = _passages(settings["texts"], _count(settings["N"]))
        blocker, decoding, model = self._blocker(settings), decoding_of(settings), self._model(settings["dtype"])
        with bar(len(passages), evaluation.title) as shown:
            generation, records = continue_texts(
                model,
                self.tokenizer,
                passages,
                decoding,
                name=str(self.folder),
                texts=settings["texts"],
                prefix=self._prefix(settings),
                blocker=blocker,
                batch_size=self.batch_size,
                progress=shown.update,
            )
        # The card may name the tokenizer by the fingerprint of an earlier version.
        generation = replace(generation, tokenizer=settings["tok_hash"])
        tables = Value(score_records(generation, records, training=self.training), "scores")
        predictions = self._distributions(model, records, settings)
        return open_ended(tables, Value(predictions, "predictions"), settings)

    def _prefix(self, settings: dict[str, str]) -> list[int]:
        return [] if settings.get("bos") == "no" else bos_ids(self.tokenizer)

    def _task(self, title: str, settings: TaskSettings) -> Evaluation:
        require_plain_name(settings.task)
        with tempfile.TemporaryDirectory(prefix="hyperfit-verify-") as output:
            results = run_suite(
                Suite(
                    str(self.folder),
                    [settings.task],
                    Path(output),
                    {"dtype": _dtype(settings.dtype or "auto"), "trust_remote_code": False},
                    num_fewshot=settings.num_fewshot,
                    limit=settings.limit,
                    device=self.device,
                )
            )
        repeated = [other for other in of_harness(Value(results, "lm-eval's results")) if other.title == title]
        if not repeated:
            raise HyperfitError(f"lm-eval gave no results of {title}")
        return repeated[0]

    def _model(self, dtype: str) -> Any:
        if dtype not in self._models:
            self._models = {dtype: load_model(str(self.folder), dtype).eval().to(self.device)}
        return self._models[dtype]

    def _blocker(self, settings: dict[str, str]) -> CitationBlocker | None:
        if settings["block"] == "none":
            return None
        rule = _BLOCK.fullmatch(settings["block"])
        if rule is None or int(rule["ngram"]) != self.index.ngram:
            raise HyperfitError(
                f"blocked by the rule '{settings['block']}', the index is for {self.index.ngram} tokens"
            )
        cap = int(rule["cap"]) if rule["cap"] else None
        return CitationBlocker(self.index, include_prompt=bool(rule["prompt"]), max_overlap_tokens=cap)

    def _distributions(self, model: Any, records: list[Continuation], settings: dict[str, str]) -> dict[str, object]:
        """The model's predictions along the original texts (paper, Tables 1 and 3)."""
        prefix = self._prefix(settings)
        rows = [record.context_ids + record.original_ids for record in records]
        with bar(len(rows), "original texts") as shown:
            scores = score_ids(model, rows, prefix=prefix, batch_size=self.batch_size, progress=shown.update)
        nll, entropy_bits, top_mass = (
            np.stack([getattr(score, name) for score in scores]) for name in ("nll", "entropy_bits", "top_mass")
        )
        recipe = {name: settings[name] for name in ("dtype", "texts", "tok_hash")}
        predicted = prediction_scores(nll, entropy_bits, top_mass, scores[0].first_scored, **recipe)
        return {name: score.to_json() for name, score in predicted.items()}


def require_plain_name(task: str) -> None:
    """Raise unless this can be the name of a task or group that lm-eval or this package registers.

    lm-eval would take a pattern, or the path of a YAML file that names code to run, just as well; that a plain name is
    registered `run_suite` checks.

    Raises:
        HyperfitError: a pattern or a path.
    """
    if set(task) & set("*?[]/\\,"):
        raise HyperfitError(f"no task named {task!r} comes with lm-eval; `lm_eval ls tasks` lists them")


def _dtype(name: str) -> str:
    if name not in DTYPES:
        raise HyperfitError(f"measured in {name!r}, which is none of {', '.join(DTYPES)}")
    return name


def decoding_of(settings: dict[str, str]) -> Decoding:
    """The decoding that a signature's `dec` names.

    Raises:
        HyperfitError: one that this version does not know.
    Example:
        decoding_of({"dec": "sample(temperature=0.7,top_p=0.9,top_k=50,seed=0)"}) == Decoding.top_p_baseline()
    """
    method, _, rest = settings["dec"].partition("(")
    if method == "greedy" and not rest:
        return Decoding()
    given = dict(part.partition("=")[::2] for part in rest.rstrip(")").split(",") if "=" in part)
    kinds = {"temperature": float, "top_p": float, "top_k": int, "seed": int}
    try:
        if method != "sample" or any(len(value) > 30 for value in given.values()):
            raise ValueError
        return Decoding(do_sample=True, **{name: kinds[name](value) for name, value in given.items()})
    except (KeyError, ValueError) as error:
        raise HyperfitError(f"decoded by '{settings['dec']}', which this version cannot repeat") from error


def _passages(fingerprint: str, count: int) -> list[Passage]:
    """The first `count` of the texts with this fingerprint: those that ship here, or those of the Hub's datasets."""
    demo = demo_texts()
    if fingerprint == demo.fingerprint:
        return demo.passages[:count]
    for per_source in dict.fromkeys((100, max(1, count // 3))):
        chosen = select_texts(per_source)
        if chosen.fingerprint == fingerprint:
            return chosen.passages[:count]
    raise HyperfitError(
        f"measured on the texts {fingerprint}, which are neither those shipped nor those of the Hub today"
    )


def _count(texts: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,4}", texts):
        raise HyperfitError(f"measured on {texts!r} texts, expected a number from 1 to 99999")
    return int(texts)
