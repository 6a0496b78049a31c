"""Request bodies within limits, read only after the key has been checked. Knows no route."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

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
M = TypeVar("M", bound=BaseModel)


class BodyLimit:
    """Middleware that refuses bodies over a limit: by Content-Length before reading, else by counting what comes.

    Args:
        app: what it wraps.
        max_bytes: largest body.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 400 or 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        for name, value in scope["headers"]:
            if name != b"content-length":
                continue
            if not value.isdigit():
                await problem(400, "Content-Length is not a number")(scope, receive, send)
                return
            if len(value) > 18 or int(value) > self._max_bytes:
                await problem(413, self._reason, kind="too-large")(scope, receive, send)
                return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > self._max_bytes:
                    raise TooLarge(self._reason)
            return message

        await self._app(scope, counted, send)

    @property
    def _reason(self) -> str:
        return f"the request has more than {self._max_bytes} bytes"


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


async def read_json(request: Request, model: type[M]) -> M:
    """The body as ``model``.

    Raises:
        RequestValidationError: it is not JSON, or not of that form.
        TooLarge: over 1 MiB.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _JSON_BYTES:
            raise TooLarge(f"the JSON has more than {_JSON_BYTES} bytes")
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
