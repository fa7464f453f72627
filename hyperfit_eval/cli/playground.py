"""`hyperfit playground`: models continue a text side by side, on a local page."""

from typing import Annotated

import typer

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
    from ..web.local import require_token

    require_token(host, token, TOKEN_VARIABLE)
    from ..playground.columns import open_columns
    from ..terminal import hide_weight_bars

    hide_weight_bars()
    columns = open_columns(
        models or [], device
    )  # before gradio, whose import takes seconds: what is wrong is said first
    from ..playground.page import serve

    serve(columns, host, port, token)
