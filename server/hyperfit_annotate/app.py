"""The annotation server as an ASGI application: the page's files, the annotators' calls, the admin's calls."""

import io
import socket
import sqlite3
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.preference.store import Annotator, Conflict, Offer, Store, Taken
from hyperfit_eval.web.local import LocalOnly
from hyperfit_eval.web.server import Server, Timeouts

from .access import Access, access_for

PAGE = Path(__file__).parent / "page"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
MAX_BODY_BYTES = 16 << 10
HEADERS = {
    # Scripts and styles come from here alone, and nothing inside a text can become one.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
TIMEOUTS = Timeouts(request=60, shutdown=10)
"""An answer takes milliseconds; who has not sent a request whole by then is cut off."""


class NewAnnotator(BaseModel):
    """An account to make."""

    name: str = Field(max_length=200)


class Registration(NewAnnotator):
    """An account that an annotator makes."""

    token: str | None = Field(None, pattern="^[0-9a-f]{32,64}$")
    """A random one of the page's: a call that is sent again makes no second account."""


class Judgement(BaseModel):
    """An annotator's choice."""

    pair: str = Field(max_length=64)
    choice: Literal["first", "second", "equal"]
    seconds: float | None = Field(None, ge=0, allow_inf_nan=False)


class Undo(BaseModel):
    """An answer to take back."""

    answer: int = Field(ge=1, lt=1 << 63)
    """"last" of an earlier reply: a call that is sent again takes no second answer back."""


def create_app(store: Store, access: Access) -> FastAPI:
    """Make the application.

    Args:
        store: of the study's answers.
        access: the access rules.
    """
    app = FastAPI(title="hyperfit annotate", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.store, app.state.access = store, access
    if access.loopback:
        app.add_middleware(LocalOnly)
    app.middleware("http")(_guarded)
    app.add_exception_handler(HyperfitError, lambda _, error: JSONResponse({"detail": str(error)}, 422))
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(sqlite3.Error, _not_stored)
    app.include_router(page)
    app.include_router(annotating)
    app.include_router(admin)
    return app


def serve(study: Path, *, host: str, port: int, token: str | None, lease_seconds: float) -> None:
    """Serve a study until SIGTERM or Ctrl-C; requests that have arrived are answered first.

    Raises:
        HyperfitError: no study, no token where one is needed, or an address that cannot be listened on.
    """
    access = access_for(host, token)
    store = Store(study, lease_seconds=lease_seconds)
    try:
        with _listener(host, port) as listener:
            # 0.0.0.0 listens on all addresses and is none that a link could have.
            name = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
            address = f"http://{name}:{listener.getsockname()[1]}"
            invitation = "" if access.loopback else f"/#join={access.invitation}"
            print(f"annotators: {address}{invitation}")
            # A token that was given is known to who gave it.
            print(f"admin page: {address}/admin#{access.token if token is None else 'TOKEN'}", flush=True)
            Server(create_app(store, access), TIMEOUTS).run(sockets=[listener])
    finally:
        store.close()


def _listener(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise HyperfitError(f"--host {host} --port {port}: cannot be listened on ({error.strerror})") from error


async def _guarded(request: Request, handle: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse bodies that no call of ours has, and send the headers that confine the page."""
    length = request.headers.get("content-length", "0")
    if (
        "transfer-encoding" in request.headers
        or len(length) > 9
        or not length.isdecimal()
        or int(length) > MAX_BODY_BYTES
    ):
        response: Response = JSONResponse({"detail": f"a body of at most {MAX_BODY_BYTES} bytes was expected"}, 413)
    else:
        response = await handle(request)
    response.headers.update(HEADERS)
    return response


def _not_valid(_: Request, error: Exception) -> Response:
    """One line about an invalid call; FastAPI's own answer repeats values that no JSON can hold: NaN."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return JSONResponse({"detail": "body: not JSON, an object was expected"}, 422)
    name, value = ".".join(map(str, first["loc"][1:])) or "body", first.get("input")
    shown = f" {value!a:.40}" if isinstance(value, str | int | float) else ""
    return JSONResponse({"detail": f"{name}{shown}: {first['msg'].replace('Input should be', 'expected')}"}, 422)


def _not_stored(_: Request, error: Exception) -> Response:
    """The page sends it again."""
    return JSONResponse({"detail": f"the answers cannot be stored at the moment ({error})"}, 503)


def _store(request: Request) -> Store:
    return request.app.state.store


def _token(request: Request) -> str:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token if kind.lower() == "bearer" else ""


def _annotator(store: Annotated[Store, Depends(_store)], token: Annotated[str, Depends(_token)]) -> Annotator:
    annotator = store.annotator(token)
    if annotator is None:
        raise HTTPException(401, "this link is not known here; ask for a new one")
    return annotator


def _admin(request: Request, token: Annotated[str, Depends(_token)]) -> None:
    if not request.app.state.access.is_admin(token):
        raise HTTPException(401, "the admin page needs the token that the server was started with")


StoreHere = Annotated[Store, Depends(_store)]
Me = Annotated[Annotator, Depends(_annotator)]

page = APIRouter()


@page.head("/", include_in_schema=False)
@page.get("/")
def index() -> Response:
    """The annotators' page."""
    return _file("index.html")


@page.head("/admin", include_in_schema=False)
@page.get("/admin")
def admin_page() -> Response:
    """The owner's page; it holds nothing before it has the token."""
    return _file("admin.html")


@page.head("/static/{name}", include_in_schema=False)
@page.get("/static/{name}")
def static(name: str) -> Response:
    """A file of the pages."""
    if name not in {path.name for path in PAGE.iterdir()}:
        raise HTTPException(404, "there is no such file")
    return _file(name)


annotating = APIRouter(prefix="/api")


@annotating.post("/join")
def join(
    body: Registration, request: Request, store: StoreHere, token: Annotated[str, Depends(_token)]
) -> dict[str, str]:
    """Make an account."""
    if not request.app.state.access.may_join(token):
        raise HTTPException(401, "an invitation is needed: ask who runs the study for the link")
    return {"token": store.add_annotator(body.name, body.token)}


@annotating.post("/next")
def next_pair(store: StoreHere, me: Me) -> dict[str, object]:
    """The pair to judge now."""
    return _work(store, me, store.next(me.id))


@annotating.post("/answer")
def answer(body: Judgement, store: StoreHere, me: Me) -> dict[str, object]:
    """Store a choice, which is on the disk when this returns, and give the next pair."""
    try:
        store.answer(me.id, body.pair, body.choice, body.seconds)
    except (Taken, Conflict) as error:
        return {"notice": f"Not counted: {error}."} | _work(store, me, store.next(me.id))
    return _work(store, me, store.next(me.id))


@annotating.post("/undo")
def undo(body: Undo, store: StoreHere, me: Me) -> dict[str, object]:
    """Take a choice back and show its pair again; one that was taken back before changes nothing."""
    pair = store.undo(me.id, body.answer)
    return _work(store, me, Offer(pair) if pair else store.next(me.id))


admin = APIRouter(prefix="/api/admin", dependencies=[Depends(_admin)])


@admin.get("/progress")
def admin_progress(request: Request, store: StoreHere) -> dict[str, object]:
    """How the study stands."""
    from hyperfit_eval.preference.progress import progress  # scipy, which annotators do not need

    access: Access = request.app.state.access
    return progress(store).to_json() | {"invitation": None if access.loopback else access.invitation}


@admin.post("/annotators")
def add_annotator(body: NewAnnotator, store: StoreHere) -> dict[str, str]:
    """Make an account to hand out."""
    return {"token": store.add_annotator(body.name)}


@admin.get("/export/{kind}")
def export(kind: Literal["csv", "jsonl", "dataset"], store: StoreHere) -> Response:
    """The annotations so far, as a file to save."""
    from hyperfit_eval.preference.export import annotation_rows, dataset_files, to_csv, to_jsonl

    answers = store.answers()
    if kind == "dataset":
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in dataset_files(store.study, answers).items():
                archive.writestr(name, text)
        return Response(content.getvalue(), media_type="application/zip")
    rows = list(annotation_rows(store.study, answers))
    text = to_csv(rows) if kind == "csv" else to_jsonl(rows)
    return Response(text, media_type=f"{'text/csv' if kind == 'csv' else 'application/jsonl'}; charset=utf-8")


def _work(store: Store, me: Annotator, offer: Offer) -> dict[str, object]:
    """The object that the page shows: a pair without anything that tells its sides apart, or why there is none."""
    body: dict[str, object] = {"name": me.name, "done": store.answered(me.id), "left": store.left_for(me.id)}
    body["last"] = store.last_answer(me.id)
    if offer.pair is None:
        return body | {"state": "finished" if offer.finished else "waiting"}
    pair = store.study.by_id[offer.pair]
    first, second = pair.shown
    shown = {"id": pair.id, "context": pair.context_text, "first": first, "second": second}
    return body | {"state": "pair", "pair": shown}


def _file(name: str) -> Response:
    path = PAGE / name
    return Response(path.read_bytes(), media_type=f"{TYPES[path.suffix]}; charset=utf-8")
