"""Request bodies within limits, read only after the key has been checked. Knows no route."""

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import BinaryIO, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.ingress.problems import problem
from storage.errors import InvalidInput, TooLarge

FORM_BYTES = 64 * 2**10
"""What a form may hold beside the file."""
_JSON_BYTES = 2**20
_PIECE = 2**20
M = TypeVar("M", bound=BaseModel)


class BodyLimit:
    """Middleware that refuses bodies over a limit: by Content-Length before reading, else by counting what comes.

    Args:
        app: what it wraps.
        max_bytes: largest body.
        others: addresses, as regular expressions of the whole path, that have a limit of their own.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, others: Mapping[str, int] | None = None) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._others = [(re.compile(path), limit) for path, limit in (others or {}).items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 400 or 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        own = [limit for path, limit in self._others if path.fullmatch(scope["path"])]
        most = own[0] if own else self._max_bytes
        reason = f"the request has more than {most} bytes"
        for name, value in scope["headers"]:
            if name != b"content-length":
                continue
            if not value.isdigit():
                await problem(400, "Content-Length is not a number")(scope, receive, send)
                return
            if len(value) > 18 or int(value) > most:
                await problem(413, reason, kind="too-large")(scope, receive, send)
                return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > most:
                    raise TooLarge(reason)
            return message

        await self._app(scope, counted, send)


@asynccontextmanager
async def read_form(request: Request) -> AsyncIterator[FormData]:
    """The form; its temporary files are closed at the end.

    Raises:
        InvalidInput: it is malformed.
        TooLarge: see ``BodyLimit``.
    """
    try:
        form = await request.form(max_files=16, max_fields=256, max_part_size=FORM_BYTES)
    except HTTPException as error:
        raise InvalidInput(f"the form cannot be read: {error.detail}") from error
    try:
        yield form
    finally:
        await form.close()


@asynccontextmanager
async def read_file(request: Request) -> AsyncIterator[BinaryIO]:
    """The body as a file that is deleted at the end; a piece at a time is held in memory.

    Raises:
        TooLarge: see ``BodyLimit``.
    """
    file = await asyncio.to_thread(tempfile.TemporaryFile)
    try:
        piece = bytearray()
        async for chunk in request.stream():
            piece += chunk
            if len(piece) >= _PIECE:
                await asyncio.to_thread(file.write, piece)
                piece = bytearray()
        await asyncio.to_thread(file.write, piece)
        yield file
    finally:
        await asyncio.to_thread(file.close)


async def read_json(request: Request, model: type[M], *, optional: bool = False) -> M:
    """The body as ``model``.

    Args:
        optional: no body is an empty object.
    Raises:
        RequestValidationError: it is not JSON, or not of that form.
        TooLarge: over 1 MiB.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _JSON_BYTES:
            raise TooLarge(f"the JSON has more than {_JSON_BYTES} bytes")
    if optional and not body:
        body += b"{}"
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        raise RequestValidationError(
            [{**one, "loc": one["loc"] or ("body",)} for one in error.errors(include_input=False, include_url=False)]
        ) from error


def check(model: type[M], values: dict[str, object]) -> M:
    """``values`` as ``model``.

    Raises:
        RequestValidationError: they are not of that form.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_input=False, include_url=False)) from error
