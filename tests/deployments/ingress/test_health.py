"""Probes, without a key, with parts up and parts down."""

from uuid import uuid4

import httpx
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from storage.database import create_engine
from storage.generations import abandon, begin, ensure_live
from storage.held_up import note
from storage.objects import ObjectStore
from tests.deployments.ingress.conftest import MakeApp, MakeClient, PdqPlatform, is_problem, picture

ROOT = "http://restapi:8000"


async def test_ready_names_every_part(make_client: MakeClient, platform: PdqPlatform) -> None:
    nobody = await make_client()
    assert (await nobody.get(f"{ROOT}/health/live")).json() == {"status": "live"}
    answer = await nobody.get(f"{ROOT}/health/ready")
    assert answer.status_code == 200
    assert {name: check["ok"] for name, check in answer.json()["checks"].items()} == {
        "database": True, "objects": True, "index": True, "models": True,
    }  # fmt: skip
    assert answer.json()["checks"]["index"]["tables"]["pdq@1"]["version"] == 1
    platform.down = True
    shown = is_problem(await nobody.get(f"{ROOT}/health/ready"), 503)
    assert {name: check["ok"] for name, check in shown["checks"].items()} == {
        "database": True, "objects": True, "index": False, "models": False,
    }  # fmt: skip


async def test_uploads_that_wait_for_a_descriptor_are_told_while_searches_go_on(
    make_client: MakeClient, engine: AsyncEngine
) -> None:
    name = f"held-{uuid4().hex[:10]}"
    await ensure_live(engine, {name: "a@1"})
    await begin(engine, name, "b@1")
    await note(engine, name, "b@1", "no weights")
    nobody = await make_client()
    check = (await nobody.get(f"{ROOT}/health/ready")).json()["checks"]["models"]
    assert check["ok"] and f"uploads of {name} wait for b@1" in check["detail"] and "--abandon" in check["detail"]
    await abandon(engine, name)
    assert "detail" not in (await nobody.get(f"{ROOT}/health/ready")).json()["checks"]["models"]


async def test_servers_that_are_away_are_503_everywhere(
    make_app: MakeApp, make_client: MakeClient, servers: Settings
) -> None:
    away = servers.model_copy(
        update={
            "database_url": SecretStr("postgresql://someone:hidden-word@127.0.0.1:9/none"),
            "s3_endpoint": "http://127.0.0.1:9",
            "s3_attempts": 1,
        }
    )
    engine, objects = create_engine(away), ObjectStore(away)
    app = await make_app({"engine": engine, "objects": objects})
    nobody = await make_client(target=app)
    answer = await nobody.get(f"{ROOT}/health/ready")
    shown = is_problem(answer, 503)
    assert not shown["checks"]["database"]["ok"] and not shown["checks"]["objects"]["ok"]
    assert shown["checks"]["models"]["ok"]
    assert (await nobody.get(f"{ROOT}/health/live")).status_code == 200
    answer = await nobody.get("/models", headers={"X-API-Key": "any"})
    is_problem(answer, 503)
    assert "hidden-word" not in answer.text and "127.0.0.1" not in answer.text
    objects.close()
    await engine.dispose()


async def test_an_object_store_that_is_away_stores_nothing(
    make_app: MakeApp, make_client: MakeClient, servers: Settings, queue: str, client: httpx.AsyncClient
) -> None:
    objects = ObjectStore(servers.model_copy(update={"s3_endpoint": "http://127.0.0.1:9", "s3_attempts": 1}))
    writer = await make_client("image:write", target=await make_app({"objects": objects}))
    form = {"name": "n", "model_name": queue}
    is_problem(await writer.post("/image", data=form, files={"file": ("f", picture())}), 503)
    assert "detail" in (await client.get(f"/image/poll/{queue}")).json()
    objects.close()
