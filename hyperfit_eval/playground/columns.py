"""Models side by side, with and without citation blocking, and their continuations as they grow."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hyperfit_server.engine.embedded import TransformersEngine
from hyperfit_server.engine.loading import load_engine
from hyperfit_server.engine.requests import Finished, Request, Sampling

from ..checkpoint_files import INDEX_FILE, find_checkpoint_file
from ..citation import CitationIndex
from ..demo.location import demo_model_dir
from ..errors import HyperfitError
from ..tokenizers import bos_ids, plain_ids, tokenizer_fingerprint
from ..training.folder import RUN, read_run

DEMO = Path("runs/demo/hyperfitted")
REFRESH_SECONDS = 0.15


@dataclass(frozen=True)
class Column:
    """One column of the page: a model with or without the citation blocker."""

    title: str
    engine: TransformersEngine
    blocking: bool = False
    sources: CitationIndex | None = None
    """Index of the training set that copies are looked for in; None marks none."""


@dataclass
class Progress:
    """A continuation so far."""

    column: Column
    context_ids: list[int]
    """Without BOS."""
    ids: list[int] = field(default_factory=list)
    top_1: list[float] = field(default_factory=list)
    """Probability of the likeliest token at each position, before temperature and blocking."""
    blocked: list[int] = field(default_factory=list)
    """Positions in `ids` at which the blocker banned a token."""


def open_columns(models: Sequence[str], device: str | None = None, say: Callable[[str], None] = print) -> list[Column]:
    """Load the models and lay them side by side.

    A model with a citation index gets a second column with the blocker. One folder of `hyperfit train` alone
    gets its base model beside it, if that can be loaded.

    Args:
        models: folders or Hub ids; the demo's if there are none.
        say: told what is missing.
    Raises:
        HyperfitError: a model that cannot be loaded, or no demo was run.
    """
    names = list(models) or _demo_models()
    base = _base_of(names[0], say) if len(names) == 1 else None
    if base is not None:
        names = [base, *names]
    titles = [_title(name) for name in names]
    engines: list[TransformersEngine] = []
    try:
        for name in names:
            title = _title(name) if titles.count(_title(name)) == 1 else name
            try:
                engines.append(_loaded(name, title, device))
            except HyperfitError as error:
                if name != base:
                    raise
                # Nobody named it: its folder may be relative to another working directory, or the Hub out of reach.
                say(_without_base(names[-1], str(error).partition(";")[0]))
    except HyperfitError:
        for engine in engines:
            engine.close()
        raise
    columns = []
    for engine in engines:
        columns.append(Column(engine.model_id, engine, sources=engine.index or _shared_index(engine, engines)))
        if columns[-1].sources is None:
            say(
                f"{engine.model_id}: no {INDEX_FILE}, so copies are not marked and nothing is blocked; "
                "build one with `hyperfit index build`"
            )
        if engine.index is not None:
            columns.append(replace(columns[-1], title=f"{engine.model_id}, citation blocking", blocking=True))
    return columns


async def continue_side_by_side(
    columns: Sequence[Column], context: str, sampling: Sampling
) -> AsyncIterator[list[Progress]]:
    """Continue a text in all columns at once; yields what there is, again and again, and last the whole.

    Raises:
        HyperfitError: a text or settings that cannot be used. Overloaded, Failed: see `serving.requests`.
    """
    if not context.strip():
        raise HyperfitError("the context is empty; type or choose one")
    all_progress, generations = [], []
    try:
        for column in columns:
            tokenizer = column.engine.tokenizer
            ids = plain_ids(tokenizer, context)
            request = Request((*bos_ids(tokenizer), *ids), sampling, blocking=column.blocking, top_n_tokens=1)
            generations.append(column.engine.submit(request))
            all_progress.append(Progress(column, ids))
        running = {asyncio.ensure_future(_follow(*pair)) for pair in zip(generations, all_progress, strict=True)}
        for task in running:
            # When a reader leaves, nobody asks for what the others end with.
            task.add_done_callback(lambda task: task.cancelled() or task.exception())
        while running:
            done, running = await asyncio.wait(running, timeout=REFRESH_SECONDS)
            for task in done:
                task.result()
            yield all_progress
    finally:
        for generation in generations:
            generation.cancel()


async def _follow(generation: Any, progress: Progress) -> None:
    async for event in generation:
        if isinstance(event, Finished):
            return
        if event.blocked:
            progress.blocked.append(len(progress.ids))
        progress.ids.append(event.scored.id)
        progress.top_1.append(math.exp(event.top[0].logprob))


def _demo_models() -> list[str]:
    if not (DEMO / "config.json").is_file():
        raise HyperfitError(
            f"{DEMO}: no hyperfitted demo model here yet; make it with `hyperfit demo` (some minutes), or name models: "
            "hyperfit playground MODEL"
        )
    return [str(demo_model_dir()), str(DEMO)]


def _base_of(model: str, say: Callable[[str], None]) -> str | None:
    """The model that a folder of `hyperfit train` started from, if it is still to be found."""
    if not (Path(model) / RUN).is_file():
        return None
    base = read_run(Path(model)).get("arguments", {}).get("hyperfitting", {}).get("model")
    if not isinstance(base, str) or (Path(base).is_absolute() and not Path(base).is_dir()):
        say(_without_base(model, f"{base}: no such folder"))
        return None
    return base


def _without_base(model: str, reason: str) -> str:
    """The line that says why a run is shown alone."""
    return f"{model}: shown without its base model ({reason}); to see it, name it: hyperfit playground BASE {model}"


def _loaded(name: str, title: str, device: str | None) -> TransformersEngine:
    """The engine of a model, with its citation index if it has one."""
    has_index = find_checkpoint_file(name, INDEX_FILE) is not None
    return load_engine(name, without_index=not has_index, device=device, model_id=title)


def _title(name: str) -> str:
    path = Path(name)
    if path.is_dir() and path.resolve() == demo_model_dir():
        return "base (demo)"
    return (path.name or path.resolve().name) if path.is_dir() else name


def _shared_index(engine: TransformersEngine, engines: Sequence[TransformersEngine]) -> CitationIndex | None:
    """Another model's index, if it is of the same tokenizer: a base model is compared with the same texts."""
    own = tokenizer_fingerprint(engine.tokenizer)
    return next((e.index for e in engines if e.index and tokenizer_fingerprint(e.tokenizer) == own), None)
