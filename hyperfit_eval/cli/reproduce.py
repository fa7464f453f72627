"""`hyperfit reproduce`: the paper's experiments on a model."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import HyperfitError
from ..extras import require_extra

DTYPES = ("float32", "bfloat16", "float16")
OWN = {
    "model": "use --model",
    "corpus": "use --corpus",
    "recipe": "use --recipe",
    "seed": "use --seeds",
    "max_steps": "use num_train_epochs",
    "shuffle": "figure5_left shuffles",
    "evaluation_texts": "no block may overlap any text of the study",
    "evaluation_share": "the first run is evaluated after each epoch",
    "output_dir": "use --out",
    "report_to": "trackers are for hyperfit train",
}
"""Arguments of hyperfit train that cannot be given here, and what to do instead."""
SIZES, MODELS = "Sizes", "Other models and data"


def reproduce(
    model: Annotated[str, typer.Option(help="Folder or Hub id of a base model, or demo for the one that ships here.")],
    corpus: Annotated[
        str | None, typer.Option(help="What it is hyperfitted on: a file or a Hub dataset id; demo brings its own.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the study; an interrupted one goes on in it.")] = Path(
        "runs/study"
    ),
    only: Annotated[str, typer.Option(help="Experiments with commas, such as table2,figure5.")] = "",
    quick: Annotated[
        bool, typer.Option("--quick", help="Smaller sizes (demo only): ten minutes on two cores.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="All questions of MMLU and GLUE, on CPU too.")] = False,
    preference: Annotated[
        Path | None, typer.Option(help="Results of hyperfit preference, for Tables 1 and 4 and Figure 9.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Of hyperfit train; paper, or demo for the demo model.")] = None,
    train: Annotated[
        list[str] | None,
        typer.Option(help="An argument of hyperfit train that differs from the recipe, as NAME=VALUE; repeatable."),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(help="Of hyperfitting, such as 0,1,2; the tables show the first.", rich_help_panel=SIZES),
    ] = None,
    per_source: Annotated[
        int | None,
        typer.Option(min=2, help="Evaluation texts of each of three sources; 100.", rich_help_panel=SIZES),
    ] = None,
    further: Annotated[int | None, typer.Option(min=0, help="Texts of Figure 3; 1000.", rich_help_panel=SIZES)] = None,
    quantities: Annotated[
        str | None, typer.Option(help="Numbers of samples of Figure 5, such as 8,64,2000.", rich_help_panel=SIZES)
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Questions of each subject of MMLU, ten times as many of each task of GLUE; 5 on CPU.",
            rich_help_panel=SIZES,
        ),
    ] = None,
    dtype: Annotated[
        str,
        typer.Option(help="Of all models as they write and answer: float32, bfloat16, float16.", rich_help_panel=SIZES),
    ] = "float32",
    batch_size: Annotated[int | None, typer.Option(min=1, help="Texts at a time.", rich_help_panel=SIZES)] = None,
    instruct: Annotated[
        str | None, typer.Option(help="The model's instruct variant, for Tables 6 and 7.", rich_help_panel=MODELS)
    ] = None,
    corpora: Annotated[
        str | None,
        typer.Option(help="Table 4's other corpora, such as wiki=FILE,news=HUB_ID.", rich_help_panel=MODELS),
    ] = None,
    image_model: Annotated[
        str | None, typer.Option(help="An ImageGPT, such as openai/imagegpt-large.", rich_help_panel=MODELS)
    ] = None,
    image_corpus: Annotated[
        str | None, typer.Option(help="Images, such as uoft-cs/cifar10 or a folder.", rich_help_panel=MODELS)
    ] = None,
    image_train: Annotated[
        list[str] | None,
        typer.Option(help="As --train, for the images, such as num_train_samples=96.", rich_help_panel=MODELS),
    ] = None,
    passage: Annotated[
        str | None, typer.Option(help="Text of Figure 4 and its first token, such as 7:64.", rich_help_panel=MODELS)
    ] = None,
) -> None:
    """Run the paper's experiments and write report.md and report.html, the paper's numbers beside the measured ones.

    Example: `hyperfit reproduce --model demo --out runs/study --only table1,table3`
    """
    require_extra("reports", "hyperfit reproduce", "matplotlib", "jinja2")
    from dataclasses import replace

    from ..reproduce.models import check_arguments
    from ..reproduce.pipeline import reproduce as run
    from ..reproduce.pipeline import select_experiments
    from ..reproduce.setting import demo_setting, setting_of

    names = select_experiments(only)
    if dtype not in DTYPES:
        raise HyperfitError(f"--dtype {dtype}: expected one of {', '.join(DTYPES)}")
    training = _training("--train", train or [])
    given: dict[str, Any] = {
        "recipe": recipe,
        "seeds": seeds and _numbers("--seeds", seeds, least=0),
        "quantities": quantities and _numbers("--quantities", quantities, least=1),
        "limit": limit,
        "batch_size": batch_size,
        "instruct": instruct,
        "corpora": corpora and _pairs("--corpora", corpora.split(",")),
        "image_model": image_model,
        "image_corpus": image_corpus,
        "image_training": image_train and _training("--image-train", image_train),
        "passage": passage and _passage(passage),
    }
    own_corpus = model == "demo" and corpus is None
    if quick and not own_corpus:
        raise HyperfitError("--quick is for --model demo with its own corpus; choose experiments with --only instead")
    if full and limit is not None:
        raise HyperfitError(f"--full asks all questions, --limit {limit} some of them: give one of the two")
    if own_corpus:
        if per_source is not None or further is not None:
            raise HyperfitError("--model demo has its own 60 texts; add --corpus to use those of the paper's sources")
        setting = demo_setting(quick)
    elif corpus is None:
        raise HyperfitError(f"--model {model} needs --corpus: a text file or a Hub dataset id to hyperfit it on")
    else:
        setting = setting_of(
            model,
            corpus,
            per_source=100 if per_source is None else per_source,
            further=1000 if further is None else further,
        )
    changes = {name: value for name, value in given.items() if value is not None} | {"dtype": dtype}
    if full:
        changes["limit"] = None
    setting = replace(setting, **changes, training={**setting.training, **training})
    check_arguments(setting)
    if quantities is None:
        setting = setting.within_samples()
    report = run(setting, out, names, preference)
    print(f"written to {report} and {report.with_suffix('.html')}")


def _numbers(option: str, text: str, least: int) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise HyperfitError(f"{option} {text}: expected whole numbers with commas, such as 0,1,2") from None
    if wrong := [number for number in numbers if number < least]:
        raise HyperfitError(f"{option} {text}: {wrong[0]} is too small, expected {least} or more")
    if len(set(numbers)) < len(numbers):
        raise HyperfitError(f"{option} {text}: each number once")
    return numbers


def _training(option: str, parts: list[str]) -> dict[str, str]:
    """Arguments of hyperfit train but those that the study gives itself."""
    pairs = _pairs(option, parts)
    for name in pairs:
        if name in OWN:
            raise HyperfitError(f"{option} {name}=...: that is the study's own; {OWN[name]}")
    return pairs


def _pairs(option: str, parts: list[str]) -> dict[str, str]:
    pairs = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if not (name and equals and value):
            raise HyperfitError(f"{option} {part}: expected NAME=VALUE")
        if name.strip() in pairs:
            raise HyperfitError(f"{option}: {name.strip()} is given twice")
        pairs[name.strip()] = value.strip()
    return pairs


def _passage(text: str) -> tuple[int, int]:
    number, _, start = text.partition(":")
    if not (number.isdecimal() and start.isdecimal() and int(start)):
        raise HyperfitError(f"--passage {text}: expected TEXT:TOKEN, texts from 0 and tokens from 1 on, such as 7:64")
    return int(number), int(start)
