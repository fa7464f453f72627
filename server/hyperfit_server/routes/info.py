"""The routes that tell about the server: /info, /health, /metrics, /v1/models."""

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from ..errors import Refusal
from ..state import State, json_response, state_of

router = APIRouter()


@router.get("/info")
async def info(http: HttpRequest) -> Response:
    """The model, the limits and the blocker."""
    state = state_of(http)
    settings, limits = state.settings, state.settings.limits
    return json_response(
        {
            "model_id": state.engine.model_id,
            "model_sha": None,
            "model_dtype": f"torch.{state.dtype}",
            "model_device_type": state.compute_type,
            "model_pipeline_tag": "text-generation",
            "max_concurrent_requests": state.max_concurrent_requests,
            "max_best_of": limits.max_best_of,
            "max_stop_sequences": limits.max_stop_sequences,
            "max_input_tokens": limits.max_input_tokens,
            "max_new_tokens": limits.max_new_tokens,
            "max_total_tokens": limits.max_total_tokens,
            "max_top_n_tokens": limits.max_top_n_tokens,
            "max_client_batch_size": limits.max_prompts,
            "router": "hyperfit_server",
            "version": version("hyperfit-eval"),
            "sha": None,
            "docker_label": None,
            "blocking": {
                "default": settings.blocking,
                "forced": settings.force_blocking,
                "canary": state.canary,
                "index": state.index,
            },
        }
    )


@router.get("/health")
async def health(http: HttpRequest) -> Response:
    """Readiness: 200 once the canary has passed and while the engine runs."""
    state = state_of(http)
    state.check_ready()
    if not state.engine.alive:
        raise Refusal("unhealthy", "the engine has stopped; restart the server")
    return json_response({"status": "ok", "canary": state.canary})


@router.get("/health/live")
async def live() -> Response:
    """Liveness: 200 as long as the process answers."""
    return json_response({"status": "alive"})


@router.get("/metrics")
async def metrics(http: HttpRequest) -> Response:
    """Counters for Prometheus."""
    return Response(http.app.state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/v1/models")
async def models(http: HttpRequest) -> Response:
    """The one model that is served."""
    return json_response({"object": "list", "data": [_model(state_of(http))]})


@router.get("/v1/models/{model:path}")
async def model(http: HttpRequest, model: str) -> Response:
    """The model, by its name."""
    state = state_of(http)
    if model != state.engine.model_id:
        message = f"there is no model {model[:100]!r} here, only {state.engine.model_id!r}"
        raise Refusal("not_found", message, "model", "model_not_found", logged="there is no such model")
    return json_response(_model(state))


def _model(state: State) -> dict[str, Any]:
    return {
        "id": state.engine.model_id,
        "object": "model",
        "created": state.created,
        "owned_by": "hyperfit",
        "max_model_len": state.settings.limits.max_total_tokens,
    }
