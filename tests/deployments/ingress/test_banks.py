"""Banks through the API: made, changed, removed; bad input is told with its field and changes nothing."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.deployments.ingress.conftest import MakeClient, is_problem
from tests.moderation import look_backs

P = "0f" * 32


@pytest.fixture
async def admin(make_client: MakeClient) -> httpx.AsyncClient:
    return await make_client("admin")


async def make(admin: httpx.AsyncClient, **more: Any) -> dict[str, Any]:
    answer = await admin.post("/banks", json={"name": f"Банк «{uuid4()}» 👮", "kind": "unacceptable", **more})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/api/v1/banks/{found['id']}"
    return found


async def test_a_bank_is_made_shown_and_listed(admin: httpx.AsyncClient) -> None:
    made = await make(admin, relations=["semantic", "exact"], copy_score=0.9, description='"цитата"')
    assert (made["relations"], made["pdq_distance"], made["copy_score"]) == (["exact", "semantic"], 31, 0.9)
    assert (made["enabled"], made["images"], made["hashes"], made["quarantined"]) == (True, 0, 0, 0)
    assert (await admin.get(f"/banks/{made['id']}")).json() == made
    assert (await admin.get(f"/banks?after={made['id'] - 1}&limit=1")).json() == [made]
    taken = is_problem(await admin.post("/banks", json={"name": made["name"], "kind": "allowed"}), 409)
    assert made["name"] in taken["detail"]
    for path in ("/banks/999999999", f"/banks/{10**18}"):
        for method in ("GET", "DELETE"):
            is_problem(await admin.request(method, path), 404)
        is_problem(await admin.patch(path, json={"enabled": False}), 404)
    is_problem(await admin.get(f"/banks/{2**63}"), 422)


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"name": ""}, "name"), ({"name": "a\0b"}, "name"), ({"name": "x" * 121}, "name"), ({"name": " a"}, "name"),
        ({"name": None}, "name"), ({"name": 7}, "name"), ({"kind": "bad"}, "kind"), ({"relations": []}, "relations"),
        ({"relations": ["near"]}, "relations.0"), ({"pdq_distance": 65}, "pdq_distance"),
        ({"pdq_distance": -1}, "pdq_distance"), ({"copy_score": 1.01}, "copy_score"), ({"colour": "red"}, "colour"),
        ({"semantic_score": "high"}, "semantic_score"), ({"description": "\0"}, "description"),
    ],
)  # fmt: skip
async def test_bad_banks(admin: httpx.AsyncClient, sent: dict[str, Any], field: str) -> None:
    problem = is_problem(await admin.post("/banks", json={"name": "n", "kind": "allowed", **sent}), 422)
    assert field in [one["field"] for one in problem["errors"]]


async def test_changes(admin: httpx.AsyncClient, engine: AsyncEngine) -> None:
    made = await make(admin, copy_score=0.9)
    path = f"/banks/{made['id']}"
    await admin.post(f"{path}/hashes", json={"hashes": [{"pdq": P}]})
    changed = (await admin.patch(path, json={"pdq_distance": 20, "copy_score": None})).json()
    assert (changed["bank"]["pdq_distance"], changed["bank"]["copy_score"]) == (20, None)
    assert (await look_backs(engine, made["id"]))[-1][:2] == (changed["look_back"], "bank")
    until = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    changed = (await admin.patch(path, json={"disabled_until": until.isoformat()})).json()["bank"]
    assert (changed["enabled"], changed["disabled_until"]) == (False, until.isoformat())
    changed = (await admin.patch(path, json={"enabled": True, "name": f"other {uuid4()}"})).json()["bank"]
    assert (changed["enabled"], changed["disabled_until"], changed["pdq_distance"]) == (True, None, 20)
    assert (await admin.patch(path, json={})).json() == {"bank": changed, "look_back": None}
    for wrong in (
        {"disabled_until": "2020-01-01T00:00:00+00:00"}, {"disabled_until": "2090-01-01T00:00:00"}, {"name": None},
        {"enabled": None}, {"pdq_distance": None}, {"kind": "allowed"}, {"name": "a\0"}, {"relations": []},
        {"enabled": True, "disabled_until": until.isoformat()}, {"disabled_until": "9999-12-31T23:59:59-01:00"},
    ):  # fmt: skip
        is_problem(await admin.patch(path, json=wrong), 422)
    assert (await admin.get(path)).json() == changed


async def test_a_removed_bank_is_gone(admin: httpx.AsyncClient, engine: AsyncEngine) -> None:
    made = await make(admin)
    gone = (await admin.delete(f"/banks/{made['id']}")).json()
    assert [(gone["look_back"], "bank")] == [one[:2] for one in await look_backs(engine, made["id"])]
    for method, rest in (("GET", ""), ("DELETE", ""), ("GET", "/members"), ("GET", "/export"), ("POST", "/import")):
        is_problem(await admin.request(method, f"/banks/{made['id']}{rest}"), 404)


async def test_a_moderator_changes_members_and_no_banks(admin: httpx.AsyncClient, make_client: MakeClient) -> None:
    made = await make(admin)
    moderator = await make_client("moderate")
    assert (await moderator.post(f"/banks/{made['id']}/hashes", json={"hashes": [{"pdq": P}]})).status_code == 200
    is_problem(await moderator.patch(f"/banks/{made['id']}", json={"enabled": False}), 403)
    is_problem(await moderator.delete(f"/banks/{made['id']}"), 403)
