"""`hyperfit reproduce`: the paper's experiments on a model."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import HyperfitError


def reproduce(
    model: Annotated[str, typer.Option(help="Folder or Hub id of a base model, or demo for the one that ships here.")],
    corpus: Annotated[
        str | None, typer.Option(help="What it is hyperfitted on: a file or a Hub dataset id; not needed for demo.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the study; an interrupted one goes on in it.")] = Path(
        "runs/study"
    ),
    only: Annotated[str, typer.Option(help="Experiments with commas, such as table2,figure5_left.")] = "",
    quick: Annotated[
        bool, typer.Option("--quick", help="Smaller sizes (demo only): ten minutes on two cores.")
    ] = False,
    preference: Annotated[Path | None, typer.Option(help="Results of hyperfit preference, for Table 1.")] = None,
) -> None:
    """Run the paper's experiments and write report.md and report.html, the paper's numbers beside the measured ones.

    Example: `hyperfit reproduce --model demo --out runs/study --only table1,table3`
    """
    from ..study.reproduce import reproduce as run
    from ..study.setting import demo_setting, setting_of

    if model == "demo":
        if corpus is not None:
            raise HyperfitError(f"--corpus {corpus}: --model demo brings its own; leave it out or name another model")
        setting = demo_setting(quick)
    elif quick:
        raise HyperfitError("--quick is for --model demo; choose experiments with --only instead")
    elif corpus is None:
        raise HyperfitError(f"--model {model} needs --corpus: a text file or a Hub dataset id to hyperfit it on")
    else:
        setting = setting_of(model, corpus)
    report = run(setting, out, [name.strip() for name in only.split(",") if name.strip()], preference)
    print(f"written to {report} and {report.with_suffix('.html')}")
