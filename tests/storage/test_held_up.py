"""Why uploads wait is kept with the descriptor they wait for, and goes with it."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.generations import begin, drop_previous, ensure_live, switch
from storage.held_up import note, waiting


@pytest_asyncio.fixture
async def model(engine: AsyncEngine) -> AsyncIterator[str]:
    name = f"held-{uuid4().hex[:10]}"
    await ensure_live(engine, {name: "a@1"})
    await begin(engine, name, "b@1")
    yield name
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM generation WHERE model_name = :name"), {"name": name})


async def said(engine: AsyncEngine, model: str) -> list[str]:
    return [one for one in await waiting(engine) if model in one]


async def test_what_uploads_wait_for_is_told_until_they_do_not(engine: AsyncEngine, model: str) -> None:
    assert await said(engine, model) == []
    assert await note(engine, model, "b@1", "no weights")
    assert not await note(engine, model, "b@1", "no weights"), "no news"
    (one,) = await said(engine, model)
    assert "b@1 (building)" in one and "no weights" in one and "--abandon" in one
    assert await note(engine, model, "b@1", None)
    assert await said(engine, model) == []


async def test_a_live_descriptor_is_never_noted(engine: AsyncEngine, model: str) -> None:
    assert not await note(engine, model, "a@1", "no weights")
    await note(engine, model, "b@1", "no weights")
    await switch(engine, model)
    assert await said(engine, model) == []
    await note(engine, model, "a@1", "no weights")
    (one,) = await said(engine, model)
    assert "a@1 (previous)" in one and "--drop-previous" in one
    await drop_previous(engine, model)
    assert await said(engine, model) == []
