"""`hyperfit demo`: the whole path on what ships with the package."""

from pathlib import Path
from typing import Annotated

import typer

from ..extras import require_extra


def demo(
    output: Annotated[
        Path, typer.Option(help="Folder for everything that is made; an interrupted demo goes on in it.")
    ] = Path("runs/demo"),
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of hyperfitting; those of the recipe demo unless given.")
    ] = None,
) -> None:
    """Hyperfit the small model that ships with the package, and show what that changes.

    Example: `hyperfit demo --output runs/demo`
    """
    require_extra("reports", "hyperfit demo", "matplotlib", "jinja2")
    from ..reproduce.demo import run_demo
    from ..terminal import hide_weight_bars

    hide_weight_bars()
    print(run_demo(output, epochs))
