"""A model's repository, whole and checked, in a folder: what is pushed, and what --dry-run shows."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from .. import files
from ..checkpoint_files import BLOCKS_FILE, INDEX_FILE
from ..checkpoints import WEIGHTS_INDEX
from ..citation import CitationIndex
from ..documents import Value, parse_yaml, read_document, read_regular, regular_size
from ..errors import HyperfitError
from ..scores.training_set import training_set_of
from ..texts.blocks import TrainingBlocks, read_blocks, write_blocks
from ..tokenizers import has_fingerprint, tokenizer_fingerprint
from ..training import folder as run_folder
from ..training.recipe_files import read_recipe
from . import card, privacy
from .collect import collect
from .results import FILE, Evaluation, write_results
from .run_facts import RunFacts

CARD = "README.md"
FINGERPRINTS = "training_block_fingerprints.jsonl"
EVAL_RESULTS = ".eval_results/hyperfit.yaml"
COPIED = (
    "config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    "vocab.json", "vocab.txt", "merges.txt", "*.model", "preprocessor_config.json",
    INDEX_FILE, run_folder.HISTORY, run_folder.PLOT,
)  # fmt: skip
"""What of a run's folder is published as it is. Nothing else is: no optimizer, trainer state, arguments or logs."""


@dataclass(frozen=True)
class Push:
    """A run to be published and its description; the fields are options of `hyperfit push`."""

    run: Path
    repo: str
    base_model: str | None = None
    """Hub id; "none" where the base model is on no Hub; by default the model of the run."""
    dataset: str | None = None
    """Hub id of the training corpus; by default that of the run, where it came from the Hub."""
    license: str | None = None
    """By default that of the base model's card."""
    results: tuple[Path, ...] = ()
    """By default the results in the run's folder."""
    include_blocks: bool = False
    blocks_license: str | None = None
    include_index: bool = True
    eval_results: str | None = None
    """Hub id of a benchmark dataset under which the numbers are also written to `.eval_results`."""
    blocker: str | None = None
    """Repository of the citation blocker (`hyperfit push-blocker`), for the card's example."""


def stage(push: Push, folder: Path, *, link: bool = False, say: Callable[[str], None] = print) -> list[Evaluation]:
    """Write everything that is published into an empty folder, and check it.

    Args:
        link: link to the run's large files in place of copying them.
        say: told which results are no numbers.
    Returns:
        The evaluations that the card shows.
    Raises:
        HyperfitError: an unfinished or damaged run, something unknown that the card must say, or a path of
            this machine in a file.
    """
    document = _finished(push.run)
    _require_license_for_blocks(push)
    blocks = read_blocks(push.run / BLOCKS_FILE)
    model = Value(document, run_folder.RUN)["model"].text()
    local = {name for name in (model, blocks.corpus) if not privacy.is_hub_id(name)}
    base = card.base_of(model, push.base_model, push.license)
    dataset = push.dataset or (None if blocks.corpus in local else blocks.corpus)
    replacements = {model: base.name, blocks.corpus: dataset or Path(blocks.corpus).name}
    blocks = replace(blocks, corpus=replacements[blocks.corpus])
    results = push.results or tuple(sorted({*push.run.glob("results*.json"), *push.run.glob("scores*.json")}))
    found = collect(results, training_set_of(blocks), push.run)
    for reason in (reason for evaluation in found for reason in evaluation.left_out):
        say(f"Left out: {reason}.")
    evaluations = [evaluation for evaluation in found if evaluation.numbers]

    _copy(push, folder, _linked if link else shutil.copy2)
    clean = privacy.without_paths(document, replacements)
    facts = RunFacts.from_json(Value(clean, run_folder.RUN))
    if (push.run / run_folder.RECIPE).exists():
        read_recipe(str(push.run / run_folder.RECIPE))  # refused unless it is one
        recipe = parse_yaml(read_regular(push.run / run_folder.RECIPE), run_folder.RECIPE)
        text = yaml.safe_dump(
            privacy.without_paths(recipe, replacements), sort_keys=False, allow_unicode=True, width=110
        )
        files.write_text(folder / run_folder.RECIPE, text)
    run_folder.write_run(folder, {name: clean[name] for name in clean if name not in ("format", "version")})
    _write_fingerprints(folder / FINGERPRINTS, blocks)
    if push.include_blocks:
        write_blocks(folder / BLOCKS_FILE, blocks)
    if evaluations:
        write_results(folder / FILE, evaluations)
    files.write_text(folder / CARD, card.render(push, facts, base, dataset, evaluations))
    if push.eval_results:
        text = yaml.safe_dump(card.eval_results(push.eval_results, evaluations), sort_keys=False, width=1000)
        files.write_text(folder / EVAL_RESULTS, text)
    check(folder, blocks.tokenizer)
    privacy.refuse_local_paths(folder, str(push.run.resolve()), *(name for name in local if Path(name).is_absolute()))
    return evaluations


def check(folder: Path, tokenizer: str) -> None:
    """Raise unless card, weights and tokenizer of a folder are whole and belong together.

    Args:
        tokenizer: fingerprint of the one that the blocks were cut with.
    """
    card.check(folder / CARD)
    _check_weights(folder)
    loaded = _tokenizer(folder)
    if not has_fingerprint(loaded, tokenizer):
        raise HyperfitError(
            f"the folder's tokenizer is {tokenizer_fingerprint(loaded)}, the run was trained with {tokenizer}; restore "
            "its files"
        )
    if (folder / INDEX_FILE).exists():
        CitationIndex.load(folder / INDEX_FILE, loaded)


def _finished(run: Path) -> dict[str, Any]:
    if not run.is_dir():
        raise HyperfitError(f"{run}: no such folder; give the --output_dir of `hyperfit train`")
    document = run_folder.read_run(run)
    if document.get("status") != run_folder.FINISHED:
        raise HyperfitError(
            f"{run}: the run is not finished ({document.get('status')}); let the same command end first"
        )
    return document


def _require_license_for_blocks(push: Push) -> None:
    if push.include_blocks and not push.blocks_license:
        raise HyperfitError(
            "--include-blocks publishes the training text itself; say under which license, such as "
            "--blocks-license cc0-1.0"
        )
    if push.blocks_license and not push.include_blocks:
        raise HyperfitError(f"--blocks-license {push.blocks_license}: no blocks are published without --include-blocks")


def _copy(push: Push, folder: Path, copy: Callable[[Path, Path], Any]) -> None:
    wanted = [path for pattern in COPIED for path in sorted(push.run.glob(pattern))]
    for path in wanted:
        _require_own(push.run, path)
    names = {path.name for path in wanted}
    missing = [name for name in ("config.json", "generation_config.json", INDEX_FILE) if name not in names]
    if missing:
        raise HyperfitError(f"{push.run}: no {missing[0]}; is it the whole --output_dir of `hyperfit train`?")
    for path in wanted:
        if path.name != INDEX_FILE or push.include_index:
            copy(path, folder / path.name)


def _require_own(run: Path, path: Path) -> None:
    """Raise unless a file is one of the run's folder: what a link leads to elsewhere is not published.

    Raises:
        HyperfitError: a link out of the folder, a pipe, or a folder.
    """
    regular_size(path)
    if path.resolve().parent != run.resolve():
        raise HyperfitError(f"{path}: a link to {path.resolve()}, outside the run's folder; put the file itself there")


def _linked(source: Path, target: Path) -> None:
    target.symlink_to(source.resolve())


def _write_fingerprints(path: Path, blocks: TrainingBlocks) -> None:
    """A row for each block: what it was, without its text."""
    header = {
        "tokenizer": blocks.tokenizer,
        "corpus": blocks.corpus,
        "corpus_fingerprint": blocks.corpus_fingerprint,
        "seed": blocks.seed,
        "left_out": blocks.left_out,
        "fingerprint": blocks.fingerprint,
        "order_hash": blocks.order_hash,
    }
    rows = [
        {"part": part, "fingerprint": files.fingerprint_ids([ids])}
        for part, some in (("train", blocks.ids), ("validation", blocks.validation_ids))
        for ids in some
    ]
    files.write_jsonl(path, "block-fingerprints", 1, header, rows)


def _check_weights(folder: Path) -> None:
    """Open every weights file, and find every tensor that the index of a sharded checkpoint names."""
    from safetensors import SafetensorError, safe_open

    shards = sorted(path for path in folder.glob("*.safetensors") if path.name != INDEX_FILE)
    if not shards:
        raise HyperfitError(f"{folder}: no model.safetensors; is the run's checkpoint whole?")
    there: dict[str, set[str]] = {}
    for path in shards:
        try:
            with safe_open(path, framework="numpy") as tensors:
                there[path.name] = set(tensors.keys())
        except (SafetensorError, OSError) as error:
            raise HyperfitError(
                f"{path.name}: not a whole safetensors file ({error}); save the checkpoint again"
            ) from error
    index = folder / WEIGHTS_INDEX
    named = {"model.safetensors"}
    if index.exists():
        places = {tensor: shard.text() for tensor, shard in read_document(index)["weight_map"].items()}
        for tensor, shard in places.items():
            if tensor not in there.get(shard, ()):
                raise HyperfitError(f"{index.name}: {tensor} is not in {shard}; save the checkpoint again")
        named = set(places.values())
    if extra := sorted(there.keys() - named):
        raise HyperfitError(
            f"{extra[0]}: not one of the checkpoint's files {sorted(named)}; remove what is not the run's"
        )


def _tokenizer(folder: Path) -> Any:
    from ..checkpoints import load_tokenizer

    return load_tokenizer(str(folder))


def describe(folder: Path) -> list[str]:
    """A line for each file of a staged folder: size and name."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [f"{path.stat().st_size:>13,}  {path.relative_to(folder).as_posix()}" for path in paths]
