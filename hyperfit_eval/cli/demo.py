"""`hyperfit demo`: the whole path on what ships with the package."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    output: Annotated[Path, typer.Option(help="Folder for everything that is made.")] = Path("runs/demo"),
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of hyperfitting.")] = 16,
) -> None:
    """Hyperfit the small model that ships with the package, and show what that changes.

    Example: `hyperfit demo --output runs/demo`
    """
    from ..demo.report import write_report
    from ..demo.run import run_demo
    from ..terminal import hide_weight_bars

    hide_weight_bars()
    result = run_demo(output, epochs)
    print(write_report(result))
