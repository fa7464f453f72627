"""`hyperfit playground`: models continue a text side by side, on a local page."""

import importlib.util
from typing import Annotated

import typer

from ..errors import HyperfitError


def playground(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="Folders or Hub ids; by default those of `hyperfit demo`."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; the page has no password.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any that is free.")] = 7861,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, ...; by default a GPU if there is one.")
    ] = None,
) -> None:
    """Watch base, hyperfitted and hyperfitted + blocked models continue a text side by side.

    A model with a citation index is shown with and without the blocker, and a folder of `hyperfit train` beside
    its base model.

    Example: `hyperfit playground runs/book`
    """
    if importlib.util.find_spec("gradio") is None:
        raise HyperfitError("the playground needs gradio: pip install 'hyperfit-eval[playground]'")
    from transformers.utils import logging

    from ..playground.lanes import open_lanes

    logging.disable_progress_bar()
    lanes = open_lanes(models or [], device)  # before gradio, whose import takes seconds: what is wrong is said first
    from ..playground.page import serve

    serve(lanes, host, port)
