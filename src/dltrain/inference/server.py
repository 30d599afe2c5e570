"""A small HTTP server around a trained run: a page for people, JSON for programs.

What a request holds is an example and nothing else: a text is never taken for the path of a file
here, and images and sounds come as their bytes.
"""

from __future__ import annotations

import base64
import binascii
import threading
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import HTMLResponse, JSONResponse

from dltrain.contracts.data import Reader
from dltrain.inference.predictor import FIRST, Predictor

MEGABYTE = 1_000_000
MOST = 256
"""Examples of one request."""
FILES = ("image", "sound")
"""Examples that come as the bytes of a file."""
HEADERS = {
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class RefusedError(Exception):
    """A request that is not answered, and the status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def application(predictor: Predictor, hosts: Sequence[str], megabytes: float) -> FastAPI:
    """The server of one run.

    ``GET /`` is a page, ``GET /about`` says what the run reads, ``POST /predict`` answers: to an
    image as it is, or to JSON ``{"examples": […], "top": 3}`` with texts, rows as objects, arrays
    of numbers, or images in base64. Answers come as ``{"predictions": […]}``, refusals as
    ``{"error": "…"}``. Requests under another name than ``hosts`` are refused (a page of a stranger
    could point its own name here), and those of more than ``megabytes``.
    """
    app = FastAPI(title="dltrain", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    page = files("dltrain").joinpath("inference", "pages", "serve.html").read_text("utf-8")
    reader, one_at_a_time = predictor.reader, threading.Lock()

    @app.get("/")
    def index() -> HTMLResponse:
        return HTMLResponse(page, headers=HEADERS)

    @app.get("/about")
    def about() -> JSONResponse:
        found = {
            "run": str(predictor.path),
            "weights": predictor.weights,
            "example": reader.example,
            "columns": list(reader.columns),
            "classes": list(predictor.spec.class_names),
        }
        return JSONResponse(found, headers=HEADERS)

    @app.post("/predict")
    async def predict(request: Request) -> JSONResponse:
        try:
            body = await _body(request, megabytes)
            examples, top = await _asked(request, body, reader)
            rows = await run_in_threadpool(answer, examples, top)
        except RefusedError as error:
            return JSONResponse({"error": str(error)}, error.status, HEADERS)
        return JSONResponse({"predictions": rows}, headers=HEADERS)

    def answer(examples: list[Any], top: int | None) -> list[dict[str, Any]]:
        try:
            with one_at_a_time:
                batch = reader.read(examples)
                found = predictor.predict(batch, top)
        except ValueError as error:
            said = str(error)
            raise RefusedError(422, said if examples[1:] else FIRST.sub("this", said)) from error
        return [{name: _cell(value) for name, value in row.items()} for row in found]

    return app


async def _body(request: Request, megabytes: float) -> bytes:
    """The request's content, of which no more is read than is allowed."""
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > megabytes * MEGABYTE:
            raise RefusedError(413, f"a request has at most {megabytes:g} MB (--limit)")
    return bytes(found)


async def _asked(request: Request, body: bytes, reader: Reader) -> tuple[list[Any], int | None]:
    """The examples of a request, and how many classes of each are wanted."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        # A page of a stranger may send a form or plain text without asking the browser's leave.
        if kind != "application/octet-stream" and not kind.startswith(("image/", "audio/")):
            raise RefusedError(415, "send an image, a sound, or JSON as application/json")
        if reader.example not in FILES:
            raise RefusedError(415, f"this run reads a {reader.example}: send application/json")
        return [body], 3
    try:
        asked = _json(body)
    except ValueError as error:
        raise RefusedError(400, f"this is no JSON: {error}") from error
    if not isinstance(asked, Mapping) or not isinstance(asked.get("examples"), list):
        raise RefusedError(422, 'send {"examples": […]}')
    examples, top = asked["examples"], asked.get("top", 3)
    if not 1 <= len(examples) <= MOST:
        raise RefusedError(422, f"examples are 1 to {MOST}, got {len(examples)}")
    if top is not None and (not isinstance(top, int) or isinstance(top, bool) or top < 1):
        raise RefusedError(422, f"top is a whole number from 1, or null; got {top!r}")
    return [_example(one, number, reader) for number, one in enumerate(examples)], top


def _json(body: bytes) -> Any:
    import json

    try:
        return json.loads(body)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _example(one: Any, number: int, reader: Reader) -> Any:
    """An example that is surely none but that: no path, no name of anything here."""
    if reader.example in FILES:
        return _content(one, f"example {number} is no {reader.example} in base64")
    allowed: Mapping[str, tuple[type, ...]] = {"text": (str, dict), "row": (dict, list)}
    if not isinstance(one, allowed.get(reader.example, (list, int, float))):
        raise RefusedError(422, f"example {number} is no {reader.example}: {str(one)[:80]!r}")
    if not reader.file_columns or not isinstance(one, (dict, list)):
        return one
    row = one if isinstance(one, dict) else dict(zip(reader.columns, one, strict=False))
    files = {
        name: _content(row[name], f"example {number}: {name!r} is no file in base64")
        for name in reader.file_columns
        if row.get(name)
    }
    return row | files


def _content(cell: Any, what: str) -> bytes:
    try:
        return base64.b64decode(cell, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise RefusedError(422, what) from error


def _cell(value: Any) -> Any:
    """JSON has no word for numbers that are not finite."""
    return None if isinstance(value, float) and value - value != 0 else value
