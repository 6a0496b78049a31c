"""Look-backs through the API: begun once, seen, cancelled, tried again; malformed requests are told what is wrong."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.deployments.ingress.conftest import MakeClient, is_problem


@pytest.fixture
async def admin(make_client: MakeClient) -> httpx.AsyncClient:
    return await make_client("admin")


@pytest.fixture
async def bank(engine: AsyncEngine) -> AsyncIterator[int]:
    async with engine.begin() as connection:
        statement = text(
            "INSERT INTO bank (name, kind, relations, pdq_distance, created_by)"
            " VALUES (:name, 'unacceptable', '{exact,copy}', 31, 'test') RETURNING id"
        )
        made = int((await connection.execute(statement, {"name": f"банк {uuid4()}"})).scalar_one())
    yield made
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM bank WHERE id = :id"), {"id": made})


async def test_the_life_of_one(admin: httpx.AsyncClient, bank: int, engine: AsyncEngine) -> None:
    answer = await admin.post("/lookbacks", json={"bank_id": bank, "reason": "Проверка \"'"})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/api/v1/lookbacks/{made['id']}"
    assert (made["kind"], made["state"], made["bank_id"], made["progress"]) == ("bank", "waiting", bank, 0.0)
    assert made["cause"] == "Проверка \"'"
    again = await admin.post("/lookbacks", json={"bank_id": bank, "reason": "once more"})
    assert again.json() == made, "one that has not been begun is taken"
    assert (await admin.get(f"/lookbacks/{made['id']}")).json() == made
    listed = (await admin.get("/lookbacks", params={"state": "waiting", "limit": 1000})).json()
    assert made in listed and [one["id"] for one in listed] == sorted((one["id"] for one in listed), reverse=True)
    assert made not in (await admin.get("/lookbacks", params={"after": made["id"], "limit": 1000})).json()
    for action, state in (
        ("cancel", "cancelled"),
        ("cancel", "cancelled"),
        ("retry", "waiting"),
        ("cancel", "cancelled"),
    ):
        assert (await admin.post(f"/lookbacks/{made['id']}/{action}")).json()["state"] == state
    async with engine.begin() as connection:
        logged = await connection.execute(
            text("SELECT action FROM audit WHERE subject = :subject ORDER BY sequence"),
            {"subject": f"lookback/{made['id']}"},
        )
        assert list(logged.scalars()) == ["lookback.start", "lookback.cancel", "lookback.retry", "lookback.cancel"]
        await connection.execute(text("UPDATE look_back SET state = 'done' WHERE id = :id"), {"id": made["id"]})
    for action in ("cancel", "retry"):
        assert "is done" in is_problem(await admin.post(f"/lookbacks/{made['id']}/{action}"), 409)["detail"]


async def test_all_images_are_judged_without_a_bank(admin: httpx.AsyncClient) -> None:
    made = (await admin.post("/lookbacks", json={"reason": "after a repair"})).json()
    assert made["kind"] == "judge" and made["bank_id"] is None
    await admin.post(f"/lookbacks/{made['id']}/cancel")


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({}, "reason"),
        ({"reason": ""}, "reason"),
        ({"reason": "a\x00b"}, "reason"),
        ({"reason": "a" * 401}, "reason"),
        ({"reason": "a", "bank_id": 0}, "bank_id"),
        ({"reason": "a", "bank_id": 10**30}, "bank_id"),
        ({"reason": "a", "bank": 1}, "bank"),
        ([], ""),
    ],
)
async def test_malformed_requests_are_refused(admin: httpx.AsyncClient, sent: Any, said: str) -> None:
    assert said in str(is_problem(await admin.post("/lookbacks", json=sent), 422)["errors"])


async def test_what_is_not_there(admin: httpx.AsyncClient) -> None:
    missing = is_problem(await admin.post("/lookbacks", json={"reason": "a", "bank_id": 10**18}), 404)
    assert missing["detail"] == f"there is no bank {10**18}"
    is_problem(await admin.get(f"/lookbacks/{10**18}"), 404)
    is_problem(await admin.get(f"/lookbacks/{10**19}"), 422)
    for action in ("cancel", "retry"):
        is_problem(await admin.post(f"/lookbacks/{10**18}/{action}"), 404)
    is_problem(await admin.post(f"/lookbacks/{10**18}/eat"), 422)
    is_problem(await admin.get("/lookbacks", params={"state": "eaten"}), 422)
