"""The queue through the API: taken, kept, given back, decided with its token; counted and listed; bad input is told."""

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from storage.database import create_engine
from storage.objects import ObjectStore
from tests.deployments.ingress.conftest import MakeClient, is_problem
from tests.filtering import DOUBTFUL, linked, processed
from tests.installation import apart


@pytest.fixture(scope="module")
def servers(servers: Settings) -> Iterator[Settings]:
    """What the fixtures of the ingress use too: an installation whose queue is this module's own."""
    with apart(servers) as settings:
        yield settings


@pytest_asyncio.fixture
async def engine(servers: Settings) -> AsyncIterator[AsyncEngine]:
    made = create_engine(servers)
    async with made.begin() as connection:
        await connection.execute(text("DELETE FROM image"))
    yield made
    await made.dispose()


@pytest.fixture
def objects(servers: Settings) -> Iterator[ObjectStore]:
    store = ObjectStore(servers)
    yield store
    store.close()


async def take(reviewer: httpx.AsyncClient) -> dict[str, Any]:
    answer = await reviewer.post("/review/next")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_from_the_queue_to_the_decision(
    make_client: MakeClient, engine: AsyncEngine, objects: ObjectStore
) -> None:
    anna, boris = await make_client("moderate", "image:read"), await make_client("moderate")
    assert await take(anna) == {"detail": "no image waits for a review"}
    first, copy = await processed(engine, objects, [DOUBTFUL, DOUBTFUL])
    await linked(engine, first, copy)
    task, other = await take(anna), await take(boris)
    assert (task["image_id"], other["image_id"]) == (first, copy)
    assert (await take(anna))["token"] == task["token"]
    assert task["preview"] == f"/api/v1/image/{first}/file?preview=blurred"
    assert task["moderation"] == (await anna.get(f"/image/{first}/moderation")).json()
    seen = (await anna.get(task["cluster"].removeprefix("/api/v1"))).json()
    assert [one["id"] for one in seen["images"]] == [first, copy]

    longer = await anna.post(f"/review/{first}/renew", json={"token": task["token"]})
    assert longer.json()["expires_at"] >= task["expires_at"] and longer.json()["token"] == task["token"]
    assert (await boris.post(f"/review/{copy}/release", json={"token": other["token"]})).status_code == 204
    is_problem(await boris.post(f"/review/{copy}/release", json={"token": other["token"]}), 409)

    decision = {"token": task["token"], "verdict": "block", "reason": "as agreed"}
    is_problem(await boris.post(f"/review/{first}/decide", json=decision), 409)
    whole = {**decision, "cluster": True, "digest": seen["digest"]}
    decided = (await anna.post(f"/review/{first}/decide", json=whole)).json()
    assert (decided["verdict"], decided["by_person"], decided["decided"]) == ("block", True, [first, copy])
    detail = is_problem(await anna.post(f"/review/{first}/decide", json=whole), 409)["detail"]
    assert detail.startswith(f"the lease on image {first} is over") and "is block by" in detail
    assert "detail" in await take(boris)


async def test_what_waits(make_client: MakeClient, engine: AsyncEngine, objects: ObjectStore) -> None:
    anna = await make_client("moderate")
    empty = (await anna.get("/review")).json()
    assert empty == {"waiting": 0, "leased": 0, "oldest": None, "groups": [], "images": [], "next": None}
    unseen, first, second = await processed(engine, objects, [{}, DOUBTFUL, DOUBTFUL])
    await take(anna)
    page = (await anna.get("/review?limit=2")).json()
    assert (page["waiting"], page["leased"], page["next"]) == (3, 1, f"5-{second}")
    assert [(one["severity"], one["rule"], one["waiting"]) for one in page["groups"]] == [
        (5, "possibly-unsafe-content", 2), (3, "unseen", 1),
    ]  # fmt: skip
    assert page["oldest"] == min(one["oldest"] for one in page["groups"])
    assert [one["id"] for one in page["images"]] == [first, second]
    assert page["images"][0]["until"] and page["images"][1]["reviewer"] is None
    rest = (await anna.get(f"/review?limit=2&after={page['next']}")).json()
    assert ([one["id"] for one in rest["images"]], rest["next"]) == ([unseen], None)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "after=5", "after=11-1", "after=5-x", f"after=5-{10**19 - 1}",
              "after=5-1%00", "after=5-1%0A", "after=5-" + "1" * 500],
)  # fmt: skip
async def test_a_page_that_cannot_be(make_client: MakeClient, query: str) -> None:
    shown = is_problem(await (await make_client("moderate")).get(f"/review?{query}"), 422)
    assert shown["errors"][0]["field"] == query.partition("=")[0]


async def test_bad_input_changes_nothing(make_client: MakeClient, engine: AsyncEngine, objects: ObjectStore) -> None:
    (image,) = await processed(engine, objects, [DOUBTFUL])
    anna = await make_client("moderate", "image:read")
    token = (await take(anna))["token"]
    good = {"token": token, "verdict": "allow", "reason": "r"}
    bad: list[tuple[dict[str, Any], str]] = [
        ({**good, "verdict": "review"}, "verdict"), ({**good, "reason": ""}, "reason"),
        ({**good, "reason": " "}, "reason"), ({**good, "reason": "x" * 1001}, "reason"),
        ({**good, "reason": "\0"}, "reason"), ({**good, "token": "x"}, "token"), ({"verdict": "allow"}, "token"),
        ({**good, "actor": "x"}, "actor"), ({**good, "cluster": True}, "body"),
    ]  # fmt: skip
    for body, field in bad:
        shown = is_problem(await anna.post(f"/review/{image}/decide", json=body), 422)
        assert field in [one["field"] for one in shown["errors"]]
    for action in ("renew", "release"):
        for wrong in ({}, {"token": "\0"}, {"token": token, "reason": "r"}):
            is_problem(await anna.post(f"/review/{image}/{action}", json=wrong), 422)
    for action in ("renew", "release", "decide"):
        body = good if action == "decide" else {"token": token}
        is_problem(await anna.post(f"/review/{10**18}/{action}", json=body), 404)
        is_problem(await anna.post(f"/review/{2**63}/{action}", json=body), 422)
        is_problem(await anna.post(f"/review/{image}/{action}", json={**body, "token": str(uuid4())}), 409)
    held = (await anna.get(f"/image/{image}/moderation")).json()
    assert (held["verdict"], held["by_person"]) == ("review", False)
    assert (await anna.post(f"/review/{image}/decide", json=good)).status_code == 200
