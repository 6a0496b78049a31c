"""Every error as a problem, without internal text."""

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.ingress import problems
from storage import errors
from tests.deployments.ingress.conftest import is_problem

SECRET = "SELECT secret FROM /work/place"


async def answer_to(error: Exception) -> httpx.Response:
    """What a route that raises this gives."""
    app = FastAPI()
    problems.install(app)

    @app.get("/")
    async def fail() -> None:
        raise error

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        return await client.get("/")


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (errors.NotFound("gone"), 404, "not-found"),
        (errors.Conflict("no"), 409, "conflict"),
        (errors.StaleClaim("late"), 409, "stale-claim"),
        (errors.InvalidInput("bad"), 422, "invalid-input"),
        (errors.TooLarge("big"), 413, "too-large"),
        (errors.UnsupportedImage("odd"), 415, "unsupported-image"),
        (errors.Unauthenticated("who"), 401, "unauthenticated"),
        (errors.Forbidden("not you"), 403, "forbidden"),
        (errors.RateLimited("slow down", 16.2), 429, "rate-limited"),
        (errors.QueueFull("many wait", 3.2), 503, "queue-full"),
        (errors.SearchesFull("many wait", 3.2), 503, "searches-full"),
        (errors.Crowded("many calls"), 503, "unavailable"),
        (errors.Unavailable("away"), 503, "unavailable"),
        (errors.FencedOut("replaced"), 503, "unavailable"),
        (errors.StorageFull("no room"), 507, "storage-full"),
    ],
)
async def test_our_errors(error: errors.SafeGuardError, status: int, kind: str) -> None:
    shown = is_problem(await answer_to(error), status)
    assert (shown["type"], shown["detail"]) == (f"urn:problem-type:{kind}", str(error))


async def test_a_database_that_has_no_room_is_507(engine: AsyncEngine) -> None:
    with pytest.raises(DBAPIError) as caught:
        async with engine.begin() as connection:
            await connection.execute(text("DO $$ BEGIN RAISE 'could not extend file' USING ERRCODE = '53100'; END $$"))
    shown = is_problem(await answer_to(caught.value), 507)
    assert shown["type"] == "urn:problem-type:storage-full" and "database" in shown["detail"]


def every_error(root: type[errors.SafeGuardError]) -> set[type[errors.SafeGuardError]]:
    """The tree below and with ``root``."""
    return {root}.union(*(every_error(kind) for kind in root.__subclasses__()))


def test_every_error_for_clients_has_a_status() -> None:
    inner = {errors.SafeGuardError, errors.NotNow, errors.ConfigurationError}
    named = {kind for kind in every_error(errors.SafeGuardError) if kind.__module__ == errors.__name__}
    assert {kind for kind in named if problems._kind(kind.__new__(kind)) is None} == inner


async def test_a_field_and_a_pause_are_told() -> None:
    shown = is_problem(await answer_to(errors.InvalidInput("too long", "name")), 422)
    assert shown["errors"] == [{"field": "name", "message": "too long"}]
    assert (await answer_to(errors.RateLimited("slow down", 16.2))).headers["retry-after"] == "17"
    assert (await answer_to(errors.RateLimited("slow down", 0.0))).headers["retry-after"] == "1"
    assert (await answer_to(errors.QueueFull("many wait", 41.5))).headers["retry-after"] == "42"


@pytest.mark.parametrize(
    "error",
    [
        OperationalError(SECRET, {}, Exception(SECRET)),
        DBAPIError(SECRET, {}, Exception(SECRET)),
        PoolTimeout(SECRET),
        asyncpg.CannotConnectNowError(SECRET),
        asyncpg.InterfaceError(SECRET),
        ConnectionRefusedError(SECRET),
        TimeoutError(SECRET),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_outages_are_503(error: Exception) -> None:
    answer = await answer_to(error)
    is_problem(answer, 503)
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    "error",
    [ValueError(SECRET), ProgrammingError(SECRET, {}, Exception(SECRET)), errors.ConfigurationError(SECRET)],
    ids=lambda error: type(error).__name__,
)
async def test_mistakes_of_ours_are_500_without_their_text(error: Exception) -> None:
    answer = await answer_to(error)
    is_problem(answer, 500)
    assert "secret" not in answer.text


async def test_unknown_addresses_and_methods(client: httpx.AsyncClient) -> None:
    for path in ("/nothing", "/image/", "/image/1/nothing", "/image/poll/a/b", "/../etc"):
        is_problem(await client.get(path), 404)
    answer = await client.request("PATCH", "/image/1")
    is_problem(answer, 405)
    assert answer.headers["allow"]
