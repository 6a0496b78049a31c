"""The one place where errors become HTTP: RFC 9457 problems without internal text. Knows no route."""

import logging
import math
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import asyncpg
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    NotSupportedError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from deployments.ingress.metering import turned_away
from storage.database import storage_full
from storage.errors import (
    Conflict,
    Crowded,
    Forbidden,
    InvalidInput,
    NotFound,
    NotNow,
    QueueFull,
    RateLimited,
    SafeGuardError,
    SearchesFull,
    StaleClaim,
    StorageFull,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedImage,
)

_log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2
"""Told to clients with a 503: about what a replica or a database connection needs to come back."""
_CLIENT_LEFT = 499

_STATUS: dict[type[SafeGuardError], int] = {
    NotFound: 404,
    Conflict: 409,
    StaleClaim: 409,
    InvalidInput: 422,
    TooLarge: 413,
    UnsupportedImage: 415,
    Unauthenticated: 401,
    Forbidden: 403,
    RateLimited: 429,
    QueueFull: 503,
    SearchesFull: 503,
    Unavailable: 503,
    StorageFull: 507,
}
_OUR_FAULT = (IntegrityError, ProgrammingError, DataError, NotSupportedError)
"""Statements that the database refused as such: trying again cannot help, so they are no 503."""


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str
    message: str


class Problem(BaseModel):
    """RFC 9457: what every error looks like."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="names the kind of problem; stable", examples=["urn:problem-type:not-found"])
    title: str = Field(description="the kind of problem in words", examples=["Not Found"])
    status: int = Field(ge=400, le=599, examples=[404])
    detail: str = Field(description="this one, for people", examples=["there is no image 7"])
    errors: list[FieldError] | None = Field(None, description="for invalid input: which fields, and why")


def problem(
    status: int,
    detail: str,
    *,
    kind: str | None = None,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, Any] | None = None,
) -> JSONResponse:
    """A problem response.

    Args:
        status: 400 to 599.
        detail: for the reader of the answer; nothing internal.
        kind: last part of ``type``; None takes the status's name.
        errors: fields at fault.
        headers: besides the content type.
        members: further members of the object.
    """
    title = HTTPStatus(status).phrase
    name = kind or re.sub(r"[^a-z]+", "-", title.lower()).strip("-")
    content: dict[str, Any] = {
        "type": f"urn:problem-type:{name}",
        "title": title,
        "status": status,
        "detail": detail,
        **(members or {}),
    }
    if errors:
        content["errors"] = [error.model_dump() for error in errors]
    extra = dict(headers or {})
    if status == 503:
        extra.setdefault("Retry-After", str(RETRY_AFTER_S))
    if status == 401:
        extra.setdefault("WWW-Authenticate", 'Bearer realm="safeguard"')
    return JSONResponse(content, status, extra, MEDIA_TYPE)


def _kind(error: SafeGuardError) -> type[SafeGuardError] | None:
    return next((kind for kind in type(error).__mro__ if kind in _STATUS), None)


async def _known(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SafeGuardError)
    kind = _kind(error)
    if kind is None:
        _log.error("an error that clients should never meet", exc_info=error)
        return problem(500, "an internal error; it has been logged")
    if issubclass(kind, Unavailable):
        # One line: an outage meets every request, and its cause names itself.
        _log.warning("unavailable: %s; cause: %s", error, type(error.__cause__).__name__)
    errors = []
    if isinstance(error, InvalidInput):
        errors = [FieldError(field=field, message=message) for field, message in error.errors]
    headers = {}
    if isinstance(error, NotNow):
        headers = {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
    if isinstance(error, Crowded) or (isinstance(error, NotNow) and _STATUS[kind] == 503):
        turned_away(request)
    name = re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()
    members: Mapping[str, Any] = getattr(error, "members", {})
    return problem(_STATUS[kind], str(error), kind=name, errors=errors, headers=headers, members=members)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = []
    for one in error.errors():
        place = [str(part) for part in one["loc"]]
        if len(place) > 1 and place[0] in ("body", "query", "path", "header"):
            place = place[1:]
        errors.append(FieldError(field=".".join(place), message=str(one["msg"]).removeprefix("Value error, ")))
    detail = "; ".join(f"{one.field}: {one.message}" for one in errors[:5])
    return problem(422, detail, kind="invalid-input", errors=errors[:100])


async def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    detail = {404: "there is nothing at this address", 405: "this address does not take this method"}.get(
        error.status_code, phrase
    )
    own = error.detail if error.detail and error.detail != phrase else detail
    return problem(error.status_code, own, headers=error.headers)


async def _outage(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, _OUR_FAULT):
        return await _unknown(request, error)
    if (full := storage_full(error)) is not None:
        return await _known(request, full)
    _log.warning("a part does not answer: %s", type(error).__name__)
    return problem(503, "a part of the service does not answer; try again", kind="unavailable")


async def _left(_: Request, error: Exception) -> JSONResponse:
    # Nobody reads this; the status keeps it apart in logs.
    return JSONResponse(None, _CLIENT_LEFT)


async def _unknown(_: Request, error: Exception) -> JSONResponse:
    _log.error("unexpected error", exc_info=error)
    return problem(500, "an internal error; it has been logged", kind="internal")


def install(app: FastAPI) -> None:
    """Makes every error of ``app`` a problem."""
    app.add_exception_handler(SafeGuardError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _left)
    outages = (DBAPIError, PoolTimeout, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
    for kind in outages:
        app.add_exception_handler(kind, _outage)
    app.add_exception_handler(Exception, _unknown)
