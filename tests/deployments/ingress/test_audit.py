"""GET /audit: pages and filters; what cannot be asked is a 422."""

from datetime import datetime
from urllib.parse import quote
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.audit import record_many
from storage.audit_chain import entry_hash
from storage.audit_log import head
from tests.deployments.ingress.conftest import MakeClient, Upload, is_problem


async def test_pages_lead_to_each_other(engine: AsyncEngine, make_client: MakeClient) -> None:
    subject, actor = f"котик/{uuid4()}", f"a&b {uuid4()}"
    async with engine.begin() as connection:
        await record_many(
            connection, actor, [("thing.do", subject, {"n": n, "x": 0.1, "none": None}) for n in range(5)]
        )
        await record_many(connection, actor, [("thing.undo", subject, {}), ("thing.do", "thing/other", {})])
    client = await make_client("admin")
    address = f"/audit?subject={quote(subject)}&action=thing.do&actor={quote(actor, safe='')}&limit=2"
    numbers, previous = [], ""
    while address:
        answer = await client.get(address.removeprefix("/api/v1"))
        assert answer.status_code == 200
        for one in answer.json():
            numbers.append(one["detail"]["n"])
            assert (one["actor"], one["action"], one["subject"]) == (actor, "thing.do", subject)
            assert previous in ("", one["previous_hash"])
            previous = one["hash"]
            behind, at = bytes.fromhex(one["previous_hash"]), datetime.fromisoformat(one["at"])
            assert one["hash"] == entry_hash(
                behind, one["sequence"], at, one["actor"], one["action"], one["subject"], one["detail"]
            ).hex()  # fmt: skip
        address = answer.headers.get("link", "").partition(">")[0].removeprefix("<")
    assert numbers == [0, 1, 2, 3, 4]
    assert (await client.get(f"/audit?subject={quote(subject)}&action=thing.undo")).json()[0]["detail"] == {}
    assert (await client.get(f"/audit?actor={uuid4()}")).json() == []


async def test_a_deletion_is_in_it(make_client: MakeClient, upload: Upload) -> None:
    image_id = await upload()
    assert (await (await make_client("image:write")).delete(f"/image/{image_id}")).status_code == 204
    client = await make_client("admin")
    (entry,) = (await client.get(f"/audit?subject=image/{image_id}")).json()
    assert entry["action"] == "image.delete" and len(entry["detail"]["sha256"]) == 64


async def test_the_head_is_the_newest_entry(engine: AsyncEngine, make_client: MakeClient) -> None:
    client = await make_client("admin")  # making its key is the newest entry
    newest = (await client.get("/audit/head")).json()
    assert newest == {"sequence": (at := await head(engine)).sequence, "hash": at.hash.hex()}
    (entry,) = (await client.get(f"/audit?after={newest['sequence'] - 1}")).json()
    assert (entry["action"], entry["hash"]) == ("key.create", newest["hash"])


@pytest.mark.parametrize(
    "query",
    ["subject=a%00b", "action=%00", "actor=" + "a" * 401, "limit=0", "limit=1001", "after=-1", f"after={2**63}"],
)
async def test_what_cannot_be_asked(make_client: MakeClient, query: str) -> None:
    is_problem(await (await make_client("admin")).get(f"/audit?{query}"), 422)
