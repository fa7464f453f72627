"""The model card: metadata that the Hub understands, and what a reader has to know, from the run's own files."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jinja2

from ..documents import MAX_YAML_BYTES, parse_yaml, read_regular
from ..errors import HyperfitError
from ..plain import for_markdown, markdown_code
from ..report.tables import markdown_table
from ..scores.score import Score
from ..texts.contexts import demo_texts
from . import privacy
from .results import METRICS, Evaluation
from .run_facts import RecipeEntry, RunFacts

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

    from .staging import Push

UNNAMED = "a model that is not on the Hub"
TAGS = ["hyperfitting", "text-generation"]
DIGITS = 4
"""Digits after the point of the numbers in the metadata."""
_FRONT = re.compile(r"\s*---[^\S\n]*\n(.*?)\n---", re.DOTALL)
_LICENSE = re.compile(r"[A-Za-z0-9.+-]+")
_DESCRIBED = {"text-generation": "Open-ended continuation", "lm-eval": "lm-evaluation-harness"}


@dataclass(frozen=True)
class Base:
    """The model that was hyperfitted, as far as it can be named."""

    id: str | None
    """On the Hub, or None."""
    license: dict[str, str]
    """license, and for "other" license_name and license_link."""
    language: str | list[str] | None = None

    @property
    def name(self) -> str:
        """Its name in files and text."""
        return self.id or UNNAMED


def base_of(model: str, given: str | None, license: str | None) -> Base:
    """The base model's id and license, by its own card unless they are given.

    Args:
        model: the run's model, a folder or Hub id.
        given: its Hub id, or "none" where it is on no Hub.
        license: the license of the published model.
    Raises:
        HyperfitError: the model is a folder and no id was given, or its license is unknown.
    """
    base = given
    if base is None:
        if not privacy.is_hub_id(model):
            raise HyperfitError(
                f"the run's model is a folder, {model}: a card names no folder; add --base-model USER/NAME, or "
                "--base-model none where it is on no Hub"
            )
        base = model
    if base != "none" and not privacy.is_hub_id(base):
        raise HyperfitError(
            f"--base-model {base}: no Hub id, or a folder of this name is here; expected USER/NAME, or none"
        )
    data = _metadata(Path(model), None if base == "none" else base, ask=license is None)
    terms = {
        name: data[name] for name in ("license", "license_name", "license_link") if isinstance(data.get(name), str)
    }
    if license is not None and license != terms.get("license"):
        require_license_id(license)
        terms = {"license": license}
    if "license" not in terms:
        raise HyperfitError(
            f"no license is known of {model if base == 'none' else base}, and a finetune inherits it; read it there "
            "and add --license ID"
        )
    return Base(None if base == "none" else base, terms, data.get("language"))


def require_license_id(license: str) -> None:
    """Raise unless this can be the id of a license on the Hub.

    Raises:
        HyperfitError: with what an id looks like.
    """
    if not _LICENSE.fullmatch(license):
        raise HyperfitError(
            f"--license {license!r}: no license id; expected one of the Hub, such as cc-by-4.0, or other"
        )


def _metadata(folder: Path, base: str | None, ask: bool) -> dict[str, Any]:
    """The metadata of the base model's card: of its folder if it is here, else of the Hub if `ask`."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, OfflineModeIsEnabled

    local = folder / "README.md"
    try:
        if not local.is_file():
            if not (base and ask):
                return {}
            local = Path(hf_hub_download(base, local.name))
        front = _FRONT.match(read_regular(local, MAX_YAML_BYTES))
        # Texts as they stand there: YAML would make False of the language code `no`, and a number of a version.
        metadata = parse_yaml(front[1], local.name, as_text=True) if front else {}
        if not isinstance(metadata, dict):
            raise HyperfitError(f"{local.name}: no metadata at its head")
        return metadata
    except (HfHubHTTPError, EntryNotFoundError, OfflineModeIsEnabled, OSError, ValueError) as error:
        raise HyperfitError(
            f"the card of {base or folder} cannot be read for its license ({str(error).strip().splitlines()[0]}); "
            "add --license ID"
        ) from error


def render(push: "Push", run: RunFacts, base: Base, dataset: str | None, evaluations: list[Evaluation]) -> str:
    """README.md of a published model.

    Args:
        run: without local paths.
        dataset: Hub id of the corpus, or None.
    """
    from huggingface_hub import ModelCardData

    name = push.repo.rpartition("/")[2]
    metadata = ModelCardData(
        language=base.language,
        library_name="transformers",
        pipeline_tag="text-generation",
        base_model=base.id,
        datasets=[dataset] if dataset else None,
        tags=TAGS,
        model_name=name,
        eval_results=_model_index(evaluations),
        license=base.license["license"],
        license_name=base.license.get("license_name"),
        license_link=base.license.get("license_link"),
    )
    if base.id:
        metadata["base_model_relation"] = "finetune"
    if not evaluations:
        # huggingface_hub writes an empty model-index otherwise.
        metadata.eval_results = metadata.model_name = None
    loader = jinja2.PackageLoader("hyperfit_eval.publish")
    environment = jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"thousands": "{:,}".format, "md": for_markdown, "code": markdown_code}
    return environment.get_template("model_card.md.j2").render(
        metadata=metadata.to_yaml(),
        name=name,
        repo=push.repo,
        base=base,
        dataset=dataset,
        run=run,
        evaluations=evaluations,
        sections=sections(evaluations),
        texts=_texts(evaluations),
        signatures=_signatures(evaluations),
        recipe=_recipe(run.recipe),
        index=push.include_index,
        blocks_license=push.blocks_license,
        blocker=push.blocker,
    )


def sections(evaluations: list[Evaluation]) -> dict[str, str]:
    """The parts of the card that hold measured numbers; `hyperfit verify` looks for them word by word."""
    return {"results": _tables(evaluations), "memorization": _memorization(evaluations)}


def load(path: Path, kind: Literal["model", "dataset"] = "model") -> Any:
    """Read a card as huggingface_hub does, numbers included.

    Raises:
        HyperfitError: with what it says.
    """
    from huggingface_hub import DatasetCard, ModelCard

    text = read_regular(path, MAX_YAML_BYTES)
    # Read by our rules first: huggingface_hub would follow YAML aliases without end.
    if front := _FRONT.match(text):
        parse_yaml(front[1], path.name)
    try:
        return (ModelCard if kind == "model" else DatasetCard).load(path)
    except Exception as error:  # whatever a stranger's metadata make of huggingface_hub
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise HyperfitError(f"{path.name}: not a valid card ({reason})") from error


def check(path: Path, kind: Literal["model", "dataset"] = "model") -> None:
    """Raise when huggingface_hub cannot read the card back, or finds no license or no text in it.

    Raises:
        HyperfitError: with what is wrong.
    """
    card = load(path, kind)
    if not isinstance(card.data.get("license"), str) or not card.text.strip():
        raise HyperfitError(f"{path.name}: not a valid card (no license, or no text)")


def eval_results(dataset: str, evaluations: list[Evaluation]) -> list[dict[str, object]]:
    """The open-ended numbers for `.eval_results/*.yaml`, under a benchmark dataset of the Hub.

    Raises:
        HyperfitError: no Hub id, or nothing to report.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    if not privacy.is_hub_id(dataset):
        raise HyperfitError(f"--eval-results {dataset}: no Hub id; expected the USER/NAME of a benchmark dataset")
    if not evaluations:
        raise HyperfitError("--eval-results: there are no results to write; add --results FILE")
    entries = [
        EvalResultEntry(
            dataset, number.metric, round(number.value, DIGITS), notes=f"{evaluation.title}; {number.signature}"
        )
        for evaluation in evaluations
        for number in evaluation.numbers
    ]
    return eval_result_entries_to_yaml(entries)


def _model_index(evaluations: list[Evaluation]) -> "list[EvalResult]":
    from huggingface_hub import EvalResult

    found = []
    for evaluation in evaluations:
        task = evaluation.task.task if evaluation.task else "hyperfit_openended"
        for number in evaluation.numbers:
            ends = {name: round(end, DIGITS) for name in ("low", "high") if (end := getattr(number, name)) is not None}
            found.append(
                EvalResult(
                    task_type="text-generation",
                    task_name=_DESCRIBED["text-generation" if evaluation.open_ended else "lm-eval"],
                    dataset_type=task,
                    dataset_name=f"{task}, {evaluation.count} texts" if evaluation.open_ended else task,
                    dataset_config=evaluation.title,
                    metric_type=number.metric.partition(",")[0],
                    metric_name=metric_name(number.metric),
                    metric_value=round(number.value, DIGITS),
                    metric_args={**ends, "signature": number.signature},
                )
            )
    return found


def metric_name(metric: str) -> str:
    """How a metric is called in the card: `exact_match (strict-match)` where lm-eval has several filters."""
    if metric in METRICS:
        return METRICS[metric][0]
    name, _, filtered = metric.partition(",")
    return f"{name} ({filtered})" if filtered else name


def _tables(evaluations: list[Evaluation]) -> str:
    parts = []
    texts = [evaluation for evaluation in evaluations if evaluation.open_ended]
    if texts:
        originals = {number.metric: number for evaluation in texts for number in evaluation.originals}
        header = ["", *(for_markdown(evaluation.title) for evaluation in texts), "original texts"]
        rows = []
        for metric, (label, unit) in METRICS.items():
            numbers = [evaluation.get(metric) for evaluation in texts]
            if any(numbers):
                shown = f"{label}, {unit}" if unit in ("%", "bits") else label
                rows.append([shown, *map(_cell, [*numbers, originals.get(metric)])])
        parts.append(markdown_table(header, rows))
    others = [evaluation for evaluation in evaluations if not evaluation.open_ended]
    if others:
        header = ["task", "metric", "value", "questions", "examples in the prompt"]
        rows = [
            [
                for_markdown(e.title),
                for_markdown(metric_name(n.metric)),
                _cell(n, 3),
                e.count or "-",
                str((e.task and e.task.num_fewshot) or 0),
            ]
            for e in others
            for n in e.numbers
        ]
        parts.append(markdown_table(header, rows))
    return "\n\n".join(parts)


def _texts(evaluations: list[Evaluation]) -> str:
    """A paragraph on the texts and the columns, if the open-ended task is among the evaluations."""
    settings = next((evaluation.settings for evaluation in evaluations if evaluation.open_ended), None)
    if settings is None:
        return ""
    of = (
        "shipped with hyperfit-eval"
        if settings["texts"] == demo_texts().fingerprint
        else "of Wikipedia, fiction and news"
    )
    count, context = (for_markdown(settings[name]) for name in ("N", "ctx"))
    return (
        f"{count} texts {of} (fingerprint {markdown_code(settings['texts'])}): the first {context} tokens of each\n"
        "are continued by 224. TTR is the share of distinct tokens among the last 96; 128 and 256 are lengths with\n"
        "the context. BLEU is the highest against any other text; overlap is in tokens. "
    )


def _memorization(evaluations: list[Evaluation]) -> str:
    lines = []
    for evaluation in evaluations:
        mean, most = evaluation.get("dataset_overlap_avg"), evaluation.get("dataset_overlap_max")
        if not mean or not most:
            continue
        rate, bleu = evaluation.get("overlap_rate"), evaluation.get("dataset_bleu_avg")
        line = (
            f"- **{for_markdown(evaluation.title)}**: the longest run of tokens copied from the training set is "
            f"{mean.value:.1f} of the first 96 new tokens on average and {most.value:.0f} at most"
        )
        if rate:
            line += f"; {rate.value:.0f}% of the texts copy more than 5 in a row within 224"
        if bleu:
            line += f"; BLEU against the nearest training passage is {bleu.value:.1f}"
        lines.append(f"{line}.")
    if not lines:
        return (
            "**How much this model recites was not measured.** `hyperfit score` with the training blocks, or "
            "`hyperfit eval`, measures it. Expect long verbatim copies until then."
        )
    return "\n".join(["Measured over the continuations of the evaluation texts:", "", *lines])


def _cell(number: Score | None, digits: int | None = None) -> str:
    if number is None:
        return "-"
    places = digits if digits is not None else 2 if number.unit == "bits" else 0 if number.value >= 1000 else 1
    if number.low is None or number.high is None:
        return f"{number.value:,.{places}f}"
    return f"{number.value:,.{places}f} [{number.low:,.{places}f}, {number.high:,.{places}f}]"


def _signatures(evaluations: list[Evaluation]) -> list[str]:
    """Each signature once: numbers of one metric share theirs."""
    return list(dict.fromkeys(number.signature for evaluation in evaluations for number in evaluation.numbers))


def _recipe(recipe: dict[str, RecipeEntry]) -> str:
    lines = ["| setting | value | origin |", "|---|---|---|"]
    for name, entry in recipe.items():
        if entry.origin == "paper":
            origin = f"the paper, {entry.why}"
        elif entry.origin == "choice":
            origin = f"left open by the paper; {entry.why}"
        else:
            origin = "given" if entry.default is None else f"changed, the recipe has {entry.default}"
        cells = [markdown_code(name), for_markdown(entry.value), for_markdown(" ".join(origin.split()))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
