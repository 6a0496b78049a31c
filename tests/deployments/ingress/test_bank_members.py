"""Members of banks through the API: images and hashes, notes, removal, release from quarantine; bad input changes nothing."""

from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.objects import ObjectStore
from tests.deployments.ingress.conftest import MakeClient, Upload, is_problem
from tests.moderation import bank, look_backs, processed

P, S = "0f" * 32, "a1" * 32


@pytest.fixture
async def moderator(make_client: MakeClient) -> httpx.AsyncClient:
    return await make_client("moderate", "image:write")


@pytest.fixture
async def path(engine: AsyncEngine) -> str:
    return f"/banks/{(await bank(engine)).id}"


async def test_an_image_is_added_noted_and_removed(
    moderator: httpx.AsyncClient, engine: AsyncEngine, objects: ObjectStore, path: str
) -> None:
    (image,) = await processed(engine, objects)
    added = (await moderator.put(f"{path}/images/{image}")).json()
    assert (added["member"]["image_id"], added["member"]["note"], added["member"]["pdq"]) == (image, "", None)
    assert [one[0] for one in await look_backs(engine, int(path.split("/")[-1]))] == [added["look_back"]]
    again = (await moderator.put(f"{path}/images/{image}", json={"note": "из «чата» 👮"})).json()
    assert (again["member"]["note"], again["look_back"]) == ("из «чата» 👮", None)
    assert (await moderator.put(f"{path}/images/{image}", json={})).json()["member"]["note"] == "из «чата» 👮"
    assert (await moderator.get(f"{path}/members")).json() == [again["member"]]
    problem = is_problem(await moderator.delete(f"/image/{image}"), 409)
    assert "банк «" in problem["detail"]
    assert (await moderator.delete(f"{path}/images/{image}")).json()["look_back"] > added["look_back"]
    is_problem(await moderator.delete(f"{path}/images/{image}"), 404)
    assert (await moderator.get(f"{path}/members")).json() == []


async def test_images_that_cannot_be_members(moderator: httpx.AsyncClient, upload: Upload, path: str) -> None:
    waiting = await upload()
    assert "UPLOADED" in is_problem(await moderator.put(f"{path}/images/{waiting}"), 409)["detail"]
    is_problem(await moderator.put(f"{path}/images/{10**18}"), 404)
    is_problem(await moderator.put(f"/banks/{10**18}/images/{waiting}"), 404)
    for wrong in ({"note": "\0"}, {"note": "x" * 1001}, {"colour": "red"}, {"note": 7}, []):
        is_problem(await moderator.put(f"{path}/images/{waiting}", json=wrong), 422)
    is_problem(await moderator.put(f"{path}/images/{waiting}", content=b"{"), 422)


async def test_hashes(moderator: httpx.AsyncClient, path: str) -> None:
    sent = {"hashes": [{"pdq": P.upper(), "note": "n"}, {"sha256": S}, {"pdq": P, "sha256": S}, {"pdq": P}]}
    done = (await moderator.post(f"{path}/hashes", json=sent)).json()
    assert (done["added"], done["already_there"], len(done["look_backs"])) == (3, 1, 1)
    members = (await moderator.get(f"{path}/members")).json()
    assert [(one["pdq"], one["sha256"], one["note"]) for one in members] == [(P, None, "n"), (None, S, ""), (P, S, "")]
    page = (await moderator.get(f"{path}/members?after={members[0]['id']}&limit=1")).json()
    assert page == members[1:2]
    changed = (await moderator.patch(f"{path}/members/{members[0]['id']}", json={"note": "другая"})).json()
    assert changed == {**members[0], "note": "другая"}
    assert (await moderator.delete(f"{path}/members/{members[0]['id']}")).json()["look_back"]
    for method in ("DELETE", "PATCH"):
        for member in (members[0]["id"], 10**18):
            is_problem(await moderator.request(method, f"{path}/members/{member}", json={"note": ""}), 404)
    assert (await moderator.get(f"{path}/members")).json() == members[1:]


@pytest.mark.parametrize(
    ("sent", "field", "said"),
    [
        ({"pdq": P[1:]}, "hashes.1.pdq", "63 digits instead of 64"), ({"pdq": "z" * 64}, "hashes.1.pdq", "hexadecimal"),
        ({"sha256": S + "0"}, "hashes.1.sha256", "65 digits"), ({"pdq": P, "note": "\0"}, "note", "U+0000"),
        ({}, "hashes.1", "neither pdq nor sha256"), ({"md5": "0" * 32}, "hashes.1.md5", ""), ({"pdq": ""}, "hashes.1.pdq", ""),
    ],
)  # fmt: skip
async def test_bad_hashes(moderator: httpx.AsyncClient, path: str, sent: dict[str, Any], field: str, said: str) -> None:
    answer = await moderator.post(f"{path}/hashes", json={"hashes": [{"pdq": P}, sent]})
    (error,) = is_problem(answer, 422)["errors"]
    assert error["field"] == field and said in error["message"]
    assert (await moderator.get(f"{path}/members")).json() == [], "not even the good one"
    for wrong in ({"hashes": []}, {"hashes": [{"pdq": P}] * 1001}, {}):
        is_problem(await moderator.post(f"{path}/hashes", json=wrong), 422)


async def test_release(moderator: httpx.AsyncClient, engine: AsyncEngine, path: str) -> None:
    await moderator.post(f"{path}/hashes", json={"hashes": [{"pdq": P}, {"sha256": S}]})
    first, second = (await moderator.get(f"{path}/members")).json()
    async with engine.begin() as connection:
        statement = "UPDATE bank_member SET quarantined_at = now(), quarantine_reason = 'much' WHERE id = :id"
        await connection.execute(text(statement), {"id": first["id"]})
    (held,) = (await moderator.get(f"{path}/members?quarantined=true")).json()
    assert (held["id"], held["quarantine_reason"]) == (first["id"], "much")
    assert (await moderator.get(path)).json()["quarantined"] == 1
    released = (await moderator.post(f"{path}/members/{first['id']}/release")).json()
    assert released["member"]["quarantined_at"] is None and released["member"]["released_at"] and released["look_back"]
    for member, status in ((first["id"], 409), (second["id"], 409), (10**18, 404)):
        is_problem(await moderator.post(f"{path}/members/{member}/release"), status)
