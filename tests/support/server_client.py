"""Requests to a server's application, without a network."""

import asyncio
import json
from contextlib import asynccontextmanager
from functools import cache

import httpx
from hyperfit_server.app import create_app
from hyperfit_server.settings import Limits, Settings
from hyperfit_server.state import State
from server_engine import ScriptedEngine
from transformers import AutoTokenizer

from hyperfit_eval.demo.location import demo_model_dir

LIMITS = Limits(max_total_tokens=64, max_input_tokens=40, max_new_tokens=50, max_prompts=3, max_body_bytes=20_000)


@cache
def demo_tokenizer():
    return AutoTokenizer.from_pretrained(demo_model_dir())


def ready(engine=None, tokenizer=None, **settings):
    """A server's state, with the canary behind it."""
    settings.setdefault("limits", LIMITS)
    state = State(engine or ScriptedEngine(), tokenizer or demo_tokenizer(), Settings(**settings))
    state.unready, state.canary = None, "passed"
    return state


@asynccontextmanager
async def client_of(state, **options):
    transport = httpx.ASGITransport(create_app(state), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", **options) as client:
        yield client


def ask(state, path, body=None, method=None, **options):
    """One request; the response has been read whole."""

    async def request():
        async with client_of(state) as client:
            return await client.request(method or ("POST" if body is not None else "GET"), path, json=body, **options)

    return asyncio.run(request())


def events(response, prefix="data:"):
    lines = [line for line in response.text.split("\n\n") if line]
    assert all(line.startswith(prefix) for line in lines)
    return [json.loads(line.removeprefix(prefix)) for line in lines if line != "data: [DONE]"]


def generate(state, path="/generate", inputs="hello there", stream=None, headers=None, **parameters):
    body = {"inputs": inputs, "parameters": parameters}
    return ask(state, path, body if stream is None else {**body, "stream": stream}, headers=headers)
