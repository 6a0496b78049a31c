"""A person's decision through the API: on an image, on all copies of it, taken back; every bad input is told."""

from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.objects import ObjectStore
from tests.deployments.ingress.conftest import MakeClient, Upload, is_problem
from tests.filtering import SAFE, UNSAFE, linked, processed

BLOCK = {"verdict": "block", "reason": 'учебник "взрывника" \U0001f4a3'}


@pytest.fixture
async def moderator(make_client: MakeClient) -> httpx.AsyncClient:
    return await make_client("moderate", "image:read")


async def test_a_decision_and_its_reversal(
    moderator: httpx.AsyncClient, engine: AsyncEngine, objects: ObjectStore
) -> None:
    (image,) = await processed(engine, objects, [SAFE])
    address = f"/image/{image}/moderation"
    answer = await moderator.put(address, json=BLOCK)
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert shown.pop("decided") == [image] and (await moderator.get(address)).json() == shown
    assert (shown["verdict"], shown["reason"], shown["by_person"]) == ("block", BLOCK["reason"], True)
    assert (shown["rule"], shown["policy_version"], shown["severity"]) == (None, None, 5)
    assert len(shown["decided_by"]) == 36, "the name of the key"
    why = (await moderator.get(f"{address}?explain=true")).json()["explanation"]
    assert (why["cause"], why["policy_says"]["verdict"]) == ("moderator", "allow") and why.get("policy") is None
    back = (await moderator.post(f"{address}/reverse", json={"reason": "a mistake"})).json()
    assert (back["verdict"], back["decided_by"], back["decided"]) == ("allow", "policy", [image])
    assert "no person" in is_problem(await moderator.post(f"{address}/reverse", json={"reason": "r"}), 409)["detail"]


async def test_a_cluster_is_shown_before_it_is_decided(
    moderator: httpx.AsyncClient, engine: AsyncEngine, objects: ObjectStore
) -> None:
    first, second, third = await processed(engine, objects, [SAFE, UNSAFE, SAFE])
    await linked(engine, first, second)
    seen = (await moderator.get(f"/image/{first}/cluster")).json()
    assert (seen["verdicts"], seen["by_person"], seen["cut"]) == ({"allow": 1, "block": 1}, 0, False)
    assert [one["preview"] for one in seen["images"]] == [
        f"/api/v1/image/{one}/file?preview=blurred" for one in (first, second)
    ]
    shown = seen["images"][1]["preview"].removeprefix("/api/v1")
    assert (await moderator.get(shown)).headers["content-type"] == "image/jpeg"
    await linked(engine, third, second)
    stale = {**BLOCK, "cluster": True, "digest": seen["digest"]}
    assert "not what it was" in is_problem(await moderator.put(f"/image/{first}/moderation", json=stale), 409)["detail"]
    fresh = {**stale, "digest": (await moderator.get(f"/image/{first}/cluster")).json()["digest"]}
    answer = (await moderator.put(f"/image/{first}/moderation", json=fresh)).json()
    assert answer["decided"] == [first, second, third]
    digest = (await moderator.get(f"/image/{third}/cluster")).json()["digest"]
    sent = {"reason": "a mistake", "cluster": True, "digest": digest}
    back = (await moderator.post(f"/image/{third}/moderation/reverse", json=sent)).json()
    assert sorted(back["decided"]) == [first, second, third]
    verdicts = [(await moderator.get(f"/image/{one}/moderation")).json()["verdict"] for one in (first, second, third)]
    assert verdicts == ["allow", "block", "allow"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "verdict"),
        ({"verdict": "block"}, "reason"),
        ({**BLOCK, "verdict": "destroy"}, "verdict"),
        ({**BLOCK, "verdict": None}, "verdict"),
        ({**BLOCK, "reason": ""}, "reason"),
        ({**BLOCK, "reason": "  \n "}, "reason"),
        ({**BLOCK, "reason": "x" * 1001}, "reason"),
        ({**BLOCK, "reason": "a\0b"}, "reason"),
        ({**BLOCK, "reason": 7}, "reason"),
        ({**BLOCK, "severity": 11}, "severity"),
        ({**BLOCK, "severity": -1}, "severity"),
        ({**BLOCK, "severity": 10**30}, "severity"),
        ({**BLOCK, "because": "x"}, "because"),
        ({**BLOCK, "cluster": True}, "body"),
        ({**BLOCK, "digest": "0" * 64}, "body"),
        ({**BLOCK, "cluster": True, "digest": "0" * 63}, "digest"),
        ({**BLOCK, "cluster": "all", "digest": "0" * 64}, "cluster"),
    ],
)
async def test_what_is_no_decision_changes_nothing(
    moderator: httpx.AsyncClient, engine: AsyncEngine, objects: ObjectStore, body: dict[str, Any], field: str
) -> None:
    (image,) = await processed(engine, objects, [SAFE])
    shown = is_problem(await moderator.put(f"/image/{image}/moderation", json=body), 422)
    assert shown["errors"][0]["field"] == field
    reversal = {name: value for name, value in body.items() if name not in ("verdict", "severity")}
    if field not in ("verdict", "severity"):
        is_problem(await moderator.post(f"/image/{image}/moderation/reverse", json=reversal), 422)
    held = (await moderator.get(f"/image/{image}/moderation")).json()
    assert (held["verdict"], held["by_person"]) == ("allow", False)


async def test_where_there_is_nothing_to_decide(
    moderator: httpx.AsyncClient, client: httpx.AsyncClient, upload: Upload
) -> None:
    waiting = await upload()
    calls = [("PUT", "moderation", BLOCK), ("POST", "moderation/reverse", {"reason": "r"}), ("GET", "cluster", None)]
    for method, tail, body in calls:
        detail = is_problem(await moderator.request(method, f"/image/{waiting}/{tail}", json=body), 409)["detail"]
        assert detail == f"image {waiting} is UPLOADED"
        is_problem(await moderator.request(method, f"/image/{10**18}/{tail}", json=body), 404)
        for bad in ("0", str(2**63), "x", "1%00"):
            is_problem(await moderator.request(method, f"/image/{bad}/{tail}", json=body), 422)
        is_problem(await client.request(method, f"/image/{waiting}/{tail}", json=body), 403)
    for content in (b"", b"{", b'{"verdict": "block", "reason": "\\ud800"}', b"[]", b"\xff"):
        is_problem(await moderator.put(f"/image/{waiting}/moderation", content=content), 422)
    is_problem(await moderator.put(f"/image/{waiting}/moderation", content=b"x" * (2**20 + 1)), 413)
