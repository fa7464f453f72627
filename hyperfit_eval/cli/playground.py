"""`hyperfit playground`: models continue a text side by side, on a local page."""

from typing import Annotated

import typer

from ..errors import HyperfitError
from ..extras import require_extra

TOKEN_VARIABLE = "HYPERFIT_PLAYGROUND_TOKEN"


def playground(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="Folders or Hub ids; by default those of `hyperfit demo`."),
    ] = None,
    host: Annotated[str, typer.Option(help="Any but a loopback address needs --token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any that is free.")] = 7861,
    token: Annotated[
        str | None, typer.Option(envvar=TOKEN_VARIABLE, help="Password of the page. Default on loopback: none.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, ...; by default a GPU if there is one.")
    ] = None,
) -> None:
    """Watch base, hyperfitted and hyperfitted + blocked models continue a text side by side.

    A model with a citation index is shown with and without the blocker, and a folder of `hyperfit train` beside
    its base model.

    Example: `hyperfit playground runs/book`
    """
    require_extra("playground", "the playground", "gradio")
    _require_token(host, token)
    from ..playground.columns import open_columns
    from ..terminal import hide_weight_bars

    hide_weight_bars()
    columns = open_columns(
        models or [], device
    )  # before gradio, whose import takes seconds: what is wrong is said first
    from ..playground.page import serve

    serve(columns, host, port, token)


def _require_token(host: str, token: str | None) -> None:
    """The same rules as those of the annotation page."""
    from hyperfit_annotate.access import MIN_TOKEN_CHARACTERS

    from ..web.local import is_loopback

    if token is None and not is_loopback(host):
        raise HyperfitError(
            f"--host {host}: others can reach it, so a secret is needed: add --token, or set {TOKEN_VARIABLE}"
        )
    if token is not None and len(token) < MIN_TOKEN_CHARACTERS:
        raise HyperfitError(f"--token: {len(token)} characters, expected {MIN_TOKEN_CHARACTERS} or more, hard to guess")
