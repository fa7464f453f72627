"""`hyperfit pairs`, `annotate`, `judge` and `preference`: the study of human preference (paper, Section 4)."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import HyperfitError
from ..extras import require_extra

StudyFolder = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder made by `hyperfit pairs`.")]


def pairs(
    records: Annotated[
        list[str], typer.Argument(metavar="RECORDS...", help="Continuation files of the models, FILE or NAME=FILE.")
    ],
    out: Annotated[Path, typer.Option(metavar="STUDY", help="Folder of the new study.")],
    length: Annotated[
        list[int] | None, typer.Option(help="128 or 256 tokens with the context; again for both. Default: both.")
    ] = None,
    attention_rate: Annotated[
        float, typer.Option(help="Share of attention checks among what an annotator sees; 0 for none.")
    ] = 0.05,
    annotations: Annotated[int, typer.Option(min=1, help="Independent annotations for each pair.")] = 3,
    per_source: Annotated[int | None, typer.Option(min=1, help="Random contexts of each source. Default: all.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of side order, contexts and shuffled words. Default: a random one, logged.")
    ] = None,
) -> None:
    """Make a study: for each context the original continuation against each model's.

    Example: `hyperfit pairs runs/demo/continuations_*.jsonl --out runs/study --per-source 20`
    """
    from ..preference.pairs import make_study, read_runs
    from ..preference.study import STUDY_FILE, write_study
    from ..scores.measure import SCENARIOS

    if (out / STUDY_FILE).exists():
        raise HyperfitError(f"{out}: holds a study already, maybe with answers; give another --out")
    study = make_study(
        read_runs(records),
        scenarios=length or tuple(SCENARIOS),
        annotations=annotations,
        check_rate=attention_rate,
        per_source=per_source,
        seed=seed,
    )
    write_study(out, study)
    tokenizers = {model["tokenizer"] for model in study.models.values()}
    if len(tokenizers) > 1:
        print(f"{len(tokenizers)} tokenizers: each pair is cut by its own model's, both sides alike.")
    count, checks = study.count(checks=False), study.count(checks=True)
    print(
        f"{count} pairs of {len(study.models)} models and {checks} attention checks, seed {study.seed}; "
        f"{annotations * count} annotations make the study whole"
    )
    hours = study.reading_hours
    print(f"to read all of it: {hours:.1f} hours of one person, {hours / annotations:.1f} of each of {annotations}")
    print(f"written to {out}; next: hyperfit annotate {out}")


def annotate(
    study: StudyFolder,
    host: Annotated[str, typer.Option(help="Any but a loopback address needs --token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for a free one.")] = 7860,
    token: Annotated[
        str | None,
        typer.Option(envvar="HYPERFIT_ANNOTATE_TOKEN", help="Secret of the admin page. Default on loopback: random."),
    ] = None,
    lease_minutes: Annotated[
        float, typer.Option(min=0.1, max=1440, help="A pair left open for so long goes back to the others.")
    ] = 20,
) -> None:
    """Serve the annotation page and its admin page.

    Example: `hyperfit annotate runs/study`
    """
    require_extra("annotate", "the annotation page", "fastapi", "uvicorn", "jinja2")
    from hyperfit_annotate.app import serve

    serve(study, host=host, port=port, token=token, lease_seconds=60 * lease_minutes)


def judge(
    study: StudyFolder,
    base_url: Annotated[str, typer.Option(help="OpenAI-compatible endpoint, up to and with /v1.")],
    model: Annotated[str, typer.Option(help="What the endpoint calls the model.")],
    name: Annotated[str | None, typer.Option(help="Name of the judge in results. Default: the model's.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Judge so many pairs only.")] = None,
    body: Annotated[
        str | None, typer.Option(help="JSON object merged into the requests; null takes a field away.")
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Requests at a time.")] = 4,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for one request.")] = 120,
) -> None:
    """Let an LLM judge the pairs, each in both orders; run it again to go on.

    A key is read from the environment variable HYPERFIT_JUDGE_API_KEY and written nowhere.

    Example: `hyperfit judge runs/study --base-url http://127.0.0.1:8000/v1 --model NAME`
    """
    require_extra("judge", "the judge", "httpx")
    from ..preference.judge import judge_from, run_judge
    from ..terminal import bar

    settings = judge_from(base_url, model, name=name, body=body, parallel=parallel, timeout=timeout)
    with bar(None, "Judging", "answer") as shown:

        def report(done: int, total: int) -> None:
            shown.total, shown.n = total, done
            shown.update(0)

        counts = run_judge(
            study, settings, limit=limit, report=report, say=lambda line: shown.write(line, sys.stderr)
        ).counts()
    print(
        f"{counts.answers} answers: {counts.verdict} verdicts, {counts.unparsed} not parsed, "
        f"{counts.refused} refusals; {counts.pairs} pairs in both orders, {counts.contradictory} contradictory"
    )
    if counts.cut_off:
        print(
            f"{counts.cut_off} answers were cut off before a verdict; with another --name, give them more tokens: "
            "--body '{\"max_tokens\": 2000}'"
        )
    print(f"next: hyperfit preference {study}")


def preference(
    study: StudyFolder,
    out: Annotated[Path | None, typer.Option(help="Folder for the results. Default: the study's own.")] = None,
    max_failed: Annotated[
        float, typer.Option(help="Share of attention checks that an annotator may fail and be kept.")
    ] = 0.2,
) -> None:
    """Estimates, agreement, tests and ranking from all answers so far.

    Example: `hyperfit preference runs/study`
    """
    require_extra("reports", "hyperfit preference", "matplotlib")
    from ..files import write_text
    from ..preference.analysis import PREFERENCE_FILE, analyze, write_preference
    from ..preference.consensus import plot_consensus
    from ..preference.report import markdown, preference_rows
    from ..report.tables import plain_table

    folder = out or study
    results = analyze(study, max_failed=max_failed)
    figures = {}
    sets = {"human": results.human.attentive} | {name: judge.estimates for name, judge in results.judges.items()}
    for number, (name, estimates) in enumerate(sets.items()):
        if estimates and any(group.n for at in estimates.ttr_consensus.values() for group in at.groups.values()):
            figures[name] = "ttr_consensus.png" if name == "human" else f"ttr_consensus_judge_{number}.png"
            plot_consensus(folder / figures[name], estimates.ttr_consensus)
    for name, estimates in sets.items():
        if estimates:
            who = "people who passed the attention checks" if name == "human" else f"judge {name} (not human)"
            print(f"{who}: {estimates.annotations} judgements of {estimates.pairs} pairs, % preferred or equal [95%]")
            if estimates.annotations:
                print(plain_table(*preference_rows(estimates)))
                print(f"signature: {estimates.signature}")
    write_preference(folder / PREFERENCE_FILE, results)
    write_text(folder / "preference.md", markdown(results, figures))
    print(f"written to {folder / PREFERENCE_FILE} and preference.md")
