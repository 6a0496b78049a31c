"""Bulk jobs through the API: made with a real corpus, controlled, their failures shown; bad input is told."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from storage import bulk, job_units, jobs
from storage.bulk import BulkFailure, IndexedUnit
from storage.corpus import CorpusObject
from storage.job_tables import JobStatus
from storage.objects import ObjectStore
from tests.deployments.ingress.conftest import MakeClient, PdqPlatform, is_problem


@pytest.fixture(scope="module")
async def bucket(servers: Settings) -> str:
    """A corpus of one picture."""
    name = f"corpus-{uuid4().hex[:12]}"
    store = ObjectStore(servers.model_copy(update={"s3_bucket": name}))
    await store.ensure_buckets()
    await store.put("2024/a.jpg", b"a", "image/jpeg")
    store.close()
    return name


@pytest.fixture
async def admin(make_client: MakeClient, engine: AsyncEngine) -> AsyncIterator[httpx.AsyncClient]:
    yield await make_client("admin")
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM job"))


async def make(admin: httpx.AsyncClient, bucket: str, **more: Any) -> dict[str, Any]:
    answer = await admin.post("/jobs", json={"source": f"s3://{bucket}/2024/", **more})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/api/v1/jobs/{found['id']}"
    return found


async def test_a_job_is_made_submitted_and_shown(
    admin: httpx.AsyncClient, bucket: str, platform: PdqPlatform, engine: AsyncEngine
) -> None:
    job = await make(admin, bucket, cpus=3, reads_per_s=7.5)
    assert platform.submitted == [job["id"]]
    assert (job["status"], job["source"], job["model_name"]) == ("waiting", f"s3://{bucket}/2024/", "safeguard-v1")
    assert (await admin.get(f"/jobs/{job['id']}")).json() == job
    assert (await admin.get("/jobs")).json() == [job]
    held = (await jobs.get(engine, job["id"])).options
    assert (held["cpus"], held["gpus"], held["reads_per_s"]) == (3, 0, 7.5)


async def test_two_jobs_on_one_prefix(admin: httpx.AsyncClient, bucket: str, platform: PdqPlatform) -> None:
    job = await make(admin, bucket)
    problem = is_problem(await admin.post("/jobs", json={"source": f"s3://{bucket}/"}), 409)
    assert f"job {job['id']}" in problem["detail"]
    assert platform.submitted == [job["id"]]


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        ({"source": "s3://BUCKET/nothing/"}, 404, "no objects under"),
        ({"source": "s3://no-such-bucket-here/x"}, 404, "no bucket"),
        ({"source": "https://example.org/a"}, 422, "not an address"),
        ({"source": "s3://safeguard-images/"}, 422, "SafeGuard itself"),
        ({"source": "s3://BUCKET/", "model_name": "nope"}, 422, "safeguard-v1"),
        ({"source": "s3://BUCKET/", "cpus": 0}, 422, "cpus"),
        ({"source": "s3://BUCKET/", "reads_per_s": -1}, 422, "reads_per_s"),
        ({"source": "s3://BUCKET/", "colour": "red"}, 422, "colour"),
        ({}, 422, "source"),
    ],
)
async def test_bad_input(
    admin: httpx.AsyncClient, bucket: str, platform: PdqPlatform, sent: dict[str, Any], status: int, said: str
) -> None:
    body = {key: value.replace("BUCKET", bucket) if isinstance(value, str) else value for key, value in sent.items()}
    answer = await admin.post("/jobs", json=body)
    is_problem(answer, status)
    assert said in answer.text
    assert platform.submitted == [] and (await admin.get("/jobs")).json() == []


@pytest.mark.parametrize("rate", ["Infinity", "1e999", "NaN"])
async def test_a_rate_is_finite(admin: httpx.AsyncClient, bucket: str, platform: PdqPlatform, rate: str) -> None:
    body = f'{{"source": "s3://{bucket}/", "reads_per_s": {rate}}}'
    assert "reads_per_s" in is_problem(await admin.post("/jobs", content=body), 422)["errors"][0]["field"]
    assert platform.submitted == []


async def test_pause_resume_cancel(admin: httpx.AsyncClient, bucket: str, platform: PdqPlatform) -> None:
    number = (await make(admin, bucket))["id"]
    assert (await admin.post(f"/jobs/{number}/pause")).json()["status"] == "paused"
    assert (await admin.post(f"/jobs/{number}/resume")).json()["status"] == "waiting"
    assert (await admin.post(f"/jobs/{number}/cancel")).json()["status"] == "cancelling"
    assert platform.submitted == [number] * 3, "a pause needs nobody; a cancellation needs somebody who takes back"
    is_problem(await admin.post(f"/jobs/{number}/resume"), 409)
    is_problem(await admin.post(f"/jobs/{number}/explode"), 422)
    is_problem(await admin.post("/jobs/999999999/pause"), 404)


async def test_while_ray_is_down_the_job_is_kept(admin: httpx.AsyncClient, bucket: str, platform: PdqPlatform) -> None:
    platform.down = True
    is_problem(await admin.post("/jobs", json={"source": f"s3://{bucket}/2024/"}), 503)
    platform.down = False
    (job,) = (await admin.get("/jobs")).json()
    assert (await admin.post(f"/jobs/{job['id']}/resume")).json()["status"] == "waiting"
    assert platform.submitted == [job["id"]]


async def test_failures_and_retry(
    admin: httpx.AsyncClient, bucket: str, platform: PdqPlatform, engine: AsyncEngine
) -> None:
    number = (await make(admin, bucket))["id"]
    token = await jobs.take(engine, number, lease_s=30)
    found = [CorpusObject(f"s3://{bucket}/2024/{n}.jpg", "e", n) for n in range(3)]
    await job_units.add_listed(engine, number, token, found, unit_size=16)
    (unit,) = await job_units.units(engine, number, [0])
    broken = [
        BulkFailure(*place, "cut short")
        for place in zip(unit.image_ids, unit.paths, unit.etags, unit.sizes, strict=True)
    ]
    await bulk.store_indexed(engine, number, token, "safeguard-v1", [IndexedUnit(0, [], broken)])
    is_problem(await admin.post(f"/jobs/{number}/retry"), 409)
    await jobs.let_go(engine, number, token, JobStatus.DONE, None)

    first = (await admin.get(f"/jobs/{number}/failures?limit=2")).json()
    rest = (await admin.get(f"/jobs/{number}/failures?after={first[-1]['image_id']}")).json()
    assert [one["path"] for one in first + rest] == [one.path for one in found]
    assert {one["reason"] for one in first} == {"cut short"}
    is_problem(await admin.get("/jobs/999999999/failures"), 404)
    shown = (await admin.post(f"/jobs/{number}/retry")).json()
    assert (shown["status"], shown["failed"]) == ("waiting", 0)
    assert platform.submitted == [number, number]


async def test_only_administrators(make_client: MakeClient) -> None:
    others = await make_client("image:read", "image:write", "image:process", "moderate")
    is_problem(await others.get("/jobs"), 403)
    is_problem(await others.post("/jobs", json={"source": "s3://corpus/"}), 403)
    is_problem(await (await make_client()).get("/jobs"), 401)
