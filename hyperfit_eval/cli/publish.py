"""`hyperfit push`, `push-blocker`, `push-dataset` and `verify`: what goes to the Hub, and whether it is true."""

from pathlib import Path
from typing import Annotated

import typer

from ..extras import require_extra
from ..plain import for_terminal

Repo = Annotated[str, typer.Option(help="Repository on the Hub, USER/NAME; made if it is not there.")]
DryRun = Annotated[Path | None, typer.Option(help="Write everything to this empty folder and upload nothing.")]
Private = Annotated[bool, typer.Option("--private", help="Make the repository private.")]
Revision = Annotated[str | None, typer.Option(help="Branch to commit to; made if it is not there. Default: main.")]
CreatePr = Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead of committing to main.")]


def push(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run of `hyperfit train`.")],
    repo: Repo,
    results: Annotated[
        list[Path] | None,
        typer.Option(help="Results or continuation records of this model; again for more. Default: those in RUN."),
    ] = None,
    base_model: Annotated[
        str | None, typer.Option(help="Hub id of the base model, if RUN says a folder; none if it is on no Hub.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Hub id of the corpus, if RUN says a file.")] = None,
    license: Annotated[str | None, typer.Option(help="License of the model. Default: that of the base model.")] = None,
    include_blocks: Annotated[
        bool, typer.Option("--include-blocks", help="Publish the training passages too, as text.")
    ] = False,
    blocks_license: Annotated[str | None, typer.Option(help="License of the training passages.")] = None,
    no_index: Annotated[
        bool, typer.Option("--no-index", help="Leave out the citation index: it holds the passages as token ids.")
    ] = False,
    eval_results: Annotated[
        str | None, typer.Option(help="Also write .eval_results, under this benchmark dataset of the Hub.")
    ] = None,
    blocker: Annotated[str | None, typer.Option(help="Repository of `hyperfit push-blocker`, for the card.")] = None,
    private: Private = False,
    revision: Revision = None,
    create_pr: CreatePr = False,
    message: Annotated[str, typer.Option(help="Of the commit.")] = "Upload a hyperfitted model",
    dry_run: DryRun = None,
) -> None:
    """Publish a hyperfitted model with a model card made from its run and its results.

    Example: `hyperfit push runs/my-run --repo USER/NAME --dry-run out`
    """
    require_extra("reports", "hyperfit push", "jinja2")
    from ..publish.model import push_model
    from ..publish.staging import Push
    from ..publish.upload import Destination

    push_model(
        Push(
            run=run,
            repo=repo,
            base_model=base_model,
            dataset=dataset,
            license=license,
            results=tuple(results or ()),
            include_blocks=include_blocks,
            blocks_license=blocks_license,
            include_index=not no_index,
            eval_results=eval_results,
            blocker=blocker,
        ),
        Destination(repo, private, revision, create_pr, message),
        dry_run,
    )


def push_blocker(
    repo: Repo,
    private: Private = False,
    revision: Revision = None,
    create_pr: CreatePr = False,
    message: Annotated[str, typer.Option(help="Of the commit.")] = "Upload the citation blocker",
    dry_run: DryRun = None,
) -> None:
    """Publish the citation blocker as a custom_generate repository, for models without code of their own.

    Example: `hyperfit push-blocker --repo USER/NAME --dry-run out`
    """
    require_extra("reports", "hyperfit push-blocker", "jinja2")
    from ..publish.blocker import push_blocker as publish
    from ..publish.upload import Destination

    publish(Destination(repo, private, revision, create_pr, message), dry_run)


def push_dataset(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a study that people have annotated.")],
    repo: Repo,
    license: Annotated[
        str, typer.Option(help="License of the texts, an id of the Hub such as cc-by-4.0; or unknown, or other.")
    ],
    private: Private = False,
    revision: Revision = None,
    create_pr: CreatePr = False,
    message: Annotated[str, typer.Option(help="Of the commit.")] = "Upload preference annotations",
    dry_run: DryRun = None,
) -> None:
    """Publish the annotations of a preference study as a dataset with a card; annotators are numbers in it.

    Example: `hyperfit push-dataset runs/study --repo USER/NAME --license cc0-1.0 --dry-run out`
    """
    require_extra("reports", "hyperfit push-dataset", "jinja2")
    from ..publish.dataset import push_dataset as publish
    from ..publish.upload import Destination

    publish(study, Destination(repo, private, revision, create_pr, message, "dataset"), license, dry_run)


def verify(
    source: Annotated[str, typer.Argument(help="A model published by `hyperfit push`: a repository or a folder.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of the repository.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Repeat this evaluation only, such as greedy or mmlu; again for more.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts at a time.")] = 32,
    json: Annotated[Path | None, typer.Option(help="Write all of it here.")] = None,
) -> None:
    """Repeat the evaluations of a model card and say for each of its numbers whether it holds.

    The exit status is 1 if one does not, 2 if the model is damaged, 3 if none could be checked.

    Example: `hyperfit verify USER/NAME`
    """
    require_extra("reports", "hyperfit verify", "jinja2")
    from ..files import write_json
    from ..publish import verify as verification
    from ..report.tables import plain_table
    from ..terminal import hide_weight_bars

    hide_weight_bars()
    rows = verification.verify(source, revision=revision, titles=only or (), device=device, batch_size=batch_size)
    table = [
        [row.evaluation, row.metric, _number(row.card), _interval(row.low, row.high), _number(row.again), row.verdict]
        for row in rows
    ]
    print(plain_table(["evaluation", "number", "card", "95%", "now", ""], table))
    for why in dict.fromkeys(f"{row.verdict}: {row.evaluation}, {row.metric}: {row.why}" for row in rows if row.why):
        print(for_terminal(why))
    if json is not None:
        write_json(json, "verification", 1, verification.as_json(source, rows))
        print(f"written to {json}")
    counts = {
        verdict: sum(row.verdict == verdict for row in rows) for verdict in dict.fromkeys(r.verdict for r in rows)
    }
    print(f"{len(rows)} numbers: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    if status := verification.status(rows):
        raise typer.Exit(status)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _interval(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"[{low:.2f}, {high:.2f}]"
