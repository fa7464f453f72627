"""The page: a context, settings of decoding, and a column for each column."""

import hmac
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from html import escape
from itertools import islice
from typing import Any

import gradio as gr
from hyperfit_server.engine.requests import Failed, Overloaded, Sampling
from starlette.middleware import Middleware

from ..errors import HyperfitError
from ..records import CONTEXT_TOKENS, LONG
from ..texts.contexts import demo_texts
from ..tokenizers import plain_ids
from ..web.local import LocalOnly, is_loopback
from .columns import Column, Progress, continue_side_by_side
from .guard import PageCallsOnly
from .view import LEGEND, STYLE, column_html

EXAMPLES_OF_EACH_SOURCE = 3
MOST_NEW_TOKENS = 512
MOST_CHARACTERS = 20_000
_LABEL_CHARACTERS = 60
_LOGIN = "the token is the password, with any name"
GREEDY, SAMPLED = "greedy", "sampled"


def build_page(columns: Sequence[Column]) -> gr.Blocks:
    """The page for some columns, ready to be launched."""
    choices = example_contexts(columns[0])
    room = min(column.engine.max_total_tokens for column in columns) - CONTEXT_TOKENS - 1
    with gr.Blocks(title="Hyperfitting playground", analytics_enabled=False, fill_width=True) as page:
        gr.Markdown("## Hyperfitting playground")
        with gr.Row():
            with gr.Column(scale=3):
                picked = gr.Dropdown(choices, value=choices[0][1], label="Pick a context", elem_id="picked")
                context = gr.Textbox(
                    choices[0][1], label="Context", lines=4, max_length=MOST_CHARACTERS, elem_id="context"
                )
                with gr.Row():
                    start = gr.Button("Continue", variant="primary", elem_id="start")
                    stop = gr.Button("Stop", elem_id="stop")
            with gr.Column(scale=2):
                method = gr.Radio([GREEDY, SAMPLED], value=GREEDY, label="Decoding", elem_id="method")
                with gr.Row():
                    temperature = gr.Slider(0.1, 2.0, 0.7, step=0.05, label="Temperature", interactive=False)
                    top_p = gr.Slider(0.05, 1.0, 0.9, step=0.05, label="Top-p", interactive=False)
                with gr.Row():
                    top_k = gr.Slider(0, 200, 50, step=1, label="Top-k, 0: off", interactive=False)
                    min_p = gr.Slider(0.0, 0.5, 0.0, step=0.01, label="Min-p, 0: off", interactive=False)
                seed = gr.Number(0, label="Seed", precision=0, minimum=0, interactive=False)
                new_tokens = gr.Slider(
                    8, min(MOST_NEW_TOKENS, room), min(LONG, room), step=8, label="New tokens", elem_id="new-tokens"
                )
        sampled = [temperature, top_p, top_k, min_p, seed]
        gr.HTML(LEGEND)
        panels = []
        with gr.Row(equal_height=False):
            for column in columns:
                with gr.Column(min_width=280):  # on a phone one below the other
                    panels.append(gr.HTML(column_html(Progress(column, []))))

        async def run(*values: Any) -> AsyncIterator[list[str]]:
            try:
                async for progress in continue_side_by_side(columns, values[0], _sampling(*values[1:])):
                    yield [column_html(one) for one in progress]
            except (HyperfitError, Overloaded, Failed) as error:
                raise gr.Error(escape(str(error)), print_exception=False) from error

        picked.change(lambda text: text, picked, context, api_visibility="private", show_progress="hidden")
        method.change(
            lambda chosen: [gr.update(interactive=chosen == SAMPLED) for _ in sampled],
            method, sampled, api_visibility="private", show_progress="hidden",
        )  # fmt: skip
        running = start.click(
            run, [context, method, *sampled, new_tokens], panels, api_visibility="private", show_progress="hidden",
            concurrency_limit=4,
        )  # fmt: skip
        stop.click(None, cancels=[running], api_visibility="private")
    return page


def serve(columns: Sequence[Column], host: str, port: int, token: str | None = None) -> None:
    """Serve the page until Ctrl-C.

    Args:
        token: the password of the page; None for a page without.
    Raises:
        HyperfitError: the port is taken.
    """
    page = build_page(columns)
    try:
        address = launch(page, host, port, token)
        login = "" if token is None else f"; {_LOGIN}"
        print(f"{' | '.join(column.title for column in columns)}\nopen {address} (Ctrl-C stops{login})", flush=True)
        page.block_thread()
    finally:
        for engine in {column.engine for column in columns}:
            engine.close()


def launch(page: gr.Blocks, host: str, port: int, token: str | None = None) -> str:
    """Start the server in a thread; returns its address. Port 0 takes any that is free.

    Nobody can upload. On loopback without a token, requests of other sites' pages are refused; with one, the server may
    stand behind a proxy with another name.
    """
    guards = [Middleware(PageCallsOnly)]
    if is_loopback(host) and token is None:
        guards.insert(0, Middleware(LocalOnly))

    def is_token(_: str, password: str) -> bool:
        return hmac.compare_digest(password.encode(), (token or "").encode())

    try:
        _, address, _ = page.launch(
            server_name=host, server_port=port or None, prevent_thread_lock=True, quiet=True, share=False,
            ssr_mode=False, css=STYLE, theme=_theme(), footer_links=[], show_error=True,
            auth=is_token if token else None, auth_message=_LOGIN,
            app_kwargs={"middleware": guards},
        )  # fmt: skip
    except OSError as error:
        reason = str(error).strip().splitlines()[0].partition(". ")[0]
        raise HyperfitError(f"{host}:{port} cannot be listened on ({reason}); give another --port") from error
    return address


def example_contexts(column: Column) -> list[tuple[str, str]]:
    """Labels and texts: openings of the evaluation texts, then of training passages, which show copying."""
    tokenizer, counts, found = column.engine.tokenizer, dict[str, int](), []
    for passage in demo_texts().passages:
        counts[passage.source] = counts.get(passage.source, 0) + 1
        if counts[passage.source] <= EXAMPLES_OF_EACH_SOURCE:
            ids = plain_ids(tokenizer, passage.text)[:CONTEXT_TOKENS]
            found.append((passage.source, tokenizer.decode(ids)))
    if column.sources is not None:
        rows = islice(column.sources.sequences(), EXAMPLES_OF_EACH_SOURCE)
        found += [("training set", tokenizer.decode(row[:CONTEXT_TOKENS].tolist())) for row in rows]
    return [(f"{source}: {' '.join(text.split())[:_LABEL_CHARACTERS]}…", text) for source, text in found]


def _theme() -> gr.themes.Base:
    """With the machine's own fonts: nothing is fetched from elsewhere."""
    return gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def _sampling(
    method: str, temperature: float, top_p: float, top_k: float, min_p: float, seed: float | None, new_tokens: float
) -> Sampling:
    """EOS is masked, as in the paper: all columns write equally much."""
    greedy = Sampling(max_new_tokens=int(new_tokens), min_new_tokens=int(new_tokens))
    if method == GREEDY:
        return greedy
    return replace(
        greedy, do_sample=True, temperature=temperature, top_p=top_p, top_k=int(top_k), min_p=min_p, seed=int(seed or 0)
    )
