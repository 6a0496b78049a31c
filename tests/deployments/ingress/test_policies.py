"""Policies and replays through the API: listed, checked, tried, applied, taken back; mistakes are 422 with their places."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from storage.bank_changes import change_banks
from storage.database import create_engine
from storage.policy_changes import SHIPPED, ensure_active
from tests.deployments.ingress.conftest import MakeApp, MakeClient, is_problem
from tests.storage.policy_rows import add_bank, add_images

STRICT = (
    "rules:\n"
    "  - {name: strict, action: block, severity: 7, reason: why, when: {unsafe: {min_score: 0.3}}}\n"
    "  - {name: scams, action: block, reason: a scam, when: {match: {banks: [scams]}}}\n"
)


@pytest_asyncio.fixture
async def engine(alone: Settings) -> AsyncIterator[AsyncEngine]:
    """A database of this module's own with the shipped policy and a bank named scams."""
    made = create_engine(alone, pool_size=4)
    async with made.begin() as connection:
        await connection.execute(text("TRUNCATE image, bank, decision, policy_version, look_back CASCADE"))
    await ensure_active(made, actor="tests")
    await add_bank(made, "scams")
    yield made
    await made.dispose()


@pytest.fixture
async def app(make_app: MakeApp, alone: Settings) -> FastAPI:
    return await make_app({"settings": alone})


@pytest.fixture
async def admin(make_client: MakeClient) -> httpx.AsyncClient:
    return await make_client("admin")


@pytest.fixture
async def moderator(make_client: MakeClient) -> httpx.AsyncClient:
    return await make_client("moderate")


async def apply(admin: httpx.AsyncClient, source: str = STRICT, **more: Any) -> dict[str, Any]:
    answer = await admin.post("/policies", json={"source": source, **more})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_apply_list_show_and_go_back(admin: httpx.AsyncClient, moderator: httpx.AsyncClient) -> None:
    (first,) = (await moderator.get("/policies")).json()
    assert (await moderator.get("/policies/active")).json() == {**first, "source": SHIPPED.read_text()}
    done = await apply(admin, note="строже")
    assert done["changed"] and done["look_back"] > 0
    again = await admin.post("/policies", json={"source": STRICT})
    assert (again.status_code, again.json()) == (200, {"id": done["id"], "changed": False, "look_back": None})
    newest, oldest = (await moderator.get("/policies")).json()
    assert (newest["id"], newest["active"], newest["note"]) == (done["id"], True, "строже")
    assert oldest == {**first, "active": False}
    assert (await moderator.get("/policies", params={"after": newest["id"], "limit": 1})).json() == [oldest]
    assert (await moderator.get(f"/policies/{done['id']}")).json() == {**newest, "source": STRICT}
    back = await admin.post(f"/policies/{first['id']}/rollback", json={"note": "too strict", "rejudge": False})
    assert back.json() == {"id": first["id"], "changed": True, "look_back": None}
    assert (await moderator.get("/policies/active")).json()["id"] == first["id"]


async def test_mistakes_have_their_places_and_the_old_policy_stays(
    admin: httpx.AsyncClient, moderator: httpx.AsyncClient
) -> None:
    broken = STRICT.replace("severity", "sevrity").replace("[scams]", "[scam, 'Ко\"т']")
    before = (await moderator.get("/policies/active")).json()
    for address, client in (("/policies", admin), ("/policies/check", moderator), ("/policies/test", moderator)):
        problem = is_problem(await client.post(address, json={"source": broken}), 422)
        assert problem["errors"] == [
            {
                "field": "rules.0.sevrity",
                "message": "line 2, column 35: unknown key 'sevrity'; did you mean 'severity'?",
            },
            {
                "field": "rules.1.when.match.banks.0",
                "message": "line 3, column 73: there is no bank 'scam'; did you mean 'scams'?",
            },
            {
                "field": "rules.1.when.match.banks.1",
                "message": "line 3, column 79: there is no bank 'Ко\"т'; there is scams",
            },
        ]
    assert (await moderator.get("/policies/active")).json() == before


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({}, "source"),
        ({"source": ""}, "source"),
        ({"source": "x", "sauce": 1}, "sauce"),
        ({"source": "a: \0"}, "U+0000"),
        ({"source": "rules: []", "note": "\0"}, "note"),
        ({"source": "rules: []", "note": "x" * 1001}, "note"),
        ({"source": "rules: []", "rejudge": "maybe"}, "rejudge"),
        ({"source": 5}, "source"),
        ({"source": "rules: [{name: a, action: block, reason: z, when: {object: {label: persona}}}]"}, "'person'"),
        ({"source": "rules: [{name: a, action: block, reason: z, when: {file: {models: [nope]}}}]"}, "'nope'"),
    ],
)
async def test_bad_input(admin: httpx.AsyncClient, sent: dict[str, Any], said: str) -> None:
    answer = await admin.post("/policies", json=sent)
    is_problem(answer, 422)
    assert said in answer.text
    assert len((await admin.get("/policies")).json()) == 1


async def test_bad_bodies_and_ids(admin: httpx.AsyncClient) -> None:
    is_problem(await admin.post("/policies", content=b"rules: []"), 422)
    is_problem(await admin.post("/policies", json={"source": "x" * 2**20}), 413)
    for number, status in ((0, 422), (10**18, 404), (2**63, 422), ("x", 422)):
        is_problem(await admin.get(f"/policies/{number}"), status)
        is_problem(await admin.post(f"/policies/{number}/rollback", json={}), status)
        is_problem(await admin.get(f"/decisions/{number}/replay"), status)
    for sent in ({"last": 0}, {"last": 10_001}, {"since": "yesterday"}, {"since": "2024-11-01T10:00:00"}):
        is_problem(await admin.post("/policies/test", json={"source": STRICT, **sent}), 422)
    is_problem(await admin.get("/policies?limit=0"), 422)


async def test_check_says_what_is_named(moderator: httpx.AsyncClient) -> None:
    answer = await moderator.post("/policies/check", json={"source": STRICT})
    assert answer.json() == {"rules": 2, "conditions": 0, "banks": ["scams"]}


async def test_a_trial_changes_nothing(moderator: httpx.AsyncClient, engine: AsyncEngine) -> None:
    allowed, blocked = await add_images(engine, [0.4, 0.95])
    (undecided,) = await add_images(engine, [0.1], decided=False)
    found = (await moderator.post("/policies/test", json={"source": STRICT})).json()
    assert (found["images"], found["human"], found["changed"], found["by_default"]) == (3, 0, 2, 1)
    assert found["verdicts"] == [
        {"before": None, "after": "allow", "images": 1},
        {"before": "allow", "after": "block", "images": 1},
        {"before": "block", "after": "block", "images": 1},
    ]
    assert found["rules"] == [
        {"rule": "strict", "decides": 2, "true_of": 2}, {"rule": "scams", "decides": 0, "true_of": 0},
    ]  # fmt: skip
    assert [one["image_id"] for one in found["examples"]] == [undecided, allowed]
    assert found["examples"][1] == {
        "image_id": allowed, "before": "allow", "before_rule": None, "after": "block", "rule": "strict", "reason": "why",
    }  # fmt: skip
    newest = await moderator.post("/policies/test", json={"source": STRICT, "last": 1})
    assert newest.json()["images"] == 1
    later = await moderator.post("/policies/test", json={"source": STRICT, "since": "2100-01-01T00:00:00Z"})
    assert later.json()["images"] == 0
    assert len((await moderator.get("/policies")).json()) == 1
    async with engine.connect() as connection:
        held = (await connection.execute(text("SELECT image_id, verdict FROM moderation ORDER BY image_id"))).all()
    assert [tuple(row) for row in held] == [(allowed, "allow"), (blocked, "block")]


async def test_a_version_whose_bank_is_gone(admin: httpx.AsyncClient, engine: AsyncEngine) -> None:
    number = (await apply(admin))["id"]
    await apply(admin, "rules: []")
    async with engine.begin() as connection:
        await change_banks(connection, hashes=False)
        await connection.execute(text("UPDATE bank SET removed_at = now()"))
    assert "scams" in is_problem(await admin.post(f"/policies/{number}/rollback", json={}), 409)["detail"]


async def test_a_decision_is_replayed(
    admin: httpx.AsyncClient, moderator: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    (image,) = await add_images(engine, [0.95])
    async with engine.connect() as connection:
        decision = await connection.scalar(text("SELECT id FROM decision WHERE image_id = :id"), {"id": image})
    await apply(admin)
    found = (await moderator.get(f"/decisions/{decision}/replay")).json()
    assert (found["image_id"], found["verdict"], found["rule"], found["same"], found["differences"]) == (
        image, "block", "unsafe-content", True, [],
    )  # fmt: skip
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE decision SET verdict = 'allow'"))
    found = (await moderator.get(f"/decisions/{decision}/replay")).json()
    assert not found["same"]
    assert found["differences"] == [{"what": "verdict", "recorded": "allow", "replayed": "block"}]
