"""Lists of hashes through the API: imported whole or not at all, exported in three forms, within a limit of their own."""

from hashlib import sha256

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.deployments.ingress.conftest import MakeApp, MakeClient, is_problem
from tests.moderation import bank

P = "0f" * 32


@pytest.fixture
async def moderator(make_client: MakeClient) -> httpx.AsyncClient:
    return await make_client("moderate")


@pytest.fixture
async def path(engine: AsyncEngine) -> str:
    return f"/banks/{(await bank(engine)).id}"


async def test_in_and_out(moderator: httpx.AsyncClient, path: str) -> None:
    body = "pdq,sha256,note\r\n" + "".join(f"{sha256(str(n).encode()).hexdigest()},,строка {n}\r\n" for n in range(20))
    done = (await moderator.post(f"{path}/import", params={"source": "список"}, content=body.encode())).json()
    assert (done["added"], done["already_there"], done["refused"], done["errors"]) == (20, 0, 0, [])
    again = (await moderator.post(f"{path}/import", content=body.encode())).json()
    assert (again["added"], again["already_there"], again["look_backs"]) == (0, 20, [])
    assert (await moderator.get(f"{path}/members?limit=1")).json()[0]["source"] == "список"
    out = await moderator.get(f"{path}/export")
    assert out.text == body and out.headers["content-type"] == "text/csv; charset=utf-8"
    for form, kind in (("threatexchange", "text/csv; charset=utf-8"), ("updates", "application/x-ndjson")):
        out = await moderator.get(f"{path}/export", params={"format": form, "images": True})
        assert out.headers["content-type"] == kind and len(out.text.splitlines()) >= 20
        back = (await moderator.post(f"{path}/import", content=out.content)).json()
        assert (back["added"], back["already_there"]) == (0, 20)


async def test_bad_lists_change_nothing(moderator: httpx.AsyncClient, path: str) -> None:
    problem = is_problem(await moderator.post(f"{path}/import", content=f"pdq\n{P}\n{P[2:]}\nzz\n".encode()), 422)
    assert "nothing was imported" in problem["detail"]
    assert problem["errors"][0] == {"field": "line 3", "message": "pdq has 62 digits instead of 64"}
    for body in (b"", b"\x89PNG\r\n\x1a\n", b"[]", b"colour\nred\n", b"pdq\n"):
        is_problem(await moderator.post(f"{path}/import", content=body), 422)
    for source in ("a\0", "x" * 201):
        is_problem(await moderator.post(f"{path}/import", params={"source": source}, content=P.encode()), 422)
    assert (await moderator.get(f"{path}/members")).json() == []
    kept = await moderator.post(f"{path}/import?keep_good=true", content=f"pdq\n{P}\nzz\n".encode())
    assert kept.json()["added"] == 1 and kept.json()["errors"] == [
        {"line": 3, "message": "pdq has 2 digits instead of 64"}
    ]
    is_problem(await moderator.post(f"/banks/{10**18}/import", content=P.encode()), 404)
    is_problem(await moderator.get(f"/banks/{10**18}/export"), 404)
    is_problem(await moderator.get(f"{path}/export?format=pdf"), 422)


async def test_lists_have_a_limit_of_their_own(make_app: MakeApp, make_client: MakeClient, path: str) -> None:
    app = await make_app(max_upload_bytes=1024, max_import_bytes=100_000)
    moderator = await make_client("moderate", target=app)
    body = "".join(f"{sha256(str(n).encode()).hexdigest()}\n" for n in range(1500)).encode()
    assert (await moderator.post(f"{path}/import", content=body)).json()["added"] == 1500
    is_problem(await moderator.post(f"{path}/import", content=body * 2), 413)
    is_problem(await moderator.post(f"{path}/hashes", content=body), 413)
