"""Every address against no key, a bad key, and each wrong scope."""

import re
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.ingress.access import Scope
from storage.keys import SCOPES, create_key, revoke_key
from tests.deployments.ingress.conftest import MakeClient, is_problem
from tests.storage.test_keys import expire

ROUTES = [
    ("GET", "/image/all?status=UPLOADED", "image:read"),
    ("GET", "/image/1", "image:read"),
    ("POST", "/image", "image:write"),
    ("DELETE", "/image/1000000000", "image:write"),
    ("GET", "/image/poll/nobody", "image:process"),
    ("GET", "/image/1/processed", "image:read"),
    ("POST", f"/image/1/processed?token={uuid4()}", "image:process"),
    ("GET", "/image/1/return_images", "image:read"),
    ("GET", "/image/1/matches", "image:read"),
    ("GET", "/image/1/detections", "image:read"),
    ("GET", "/image/1/moderation", "image:read"),
    ("PUT", "/image/1000000000/moderation", "moderate"),
    ("POST", "/image/1000000000/moderation/reverse", "moderate"),
    ("GET", "/image/1000000000/cluster", "moderate"),
    ("GET", "/review", "moderate"),
    ("POST", "/review/next", "moderate"),
    ("POST", "/review/1000000000/renew", "moderate"),
    ("POST", "/review/1000000000/release", "moderate"),
    ("POST", "/review/1000000000/decide", "moderate"),
    ("GET", "/image/1/file", "image:read"),
    ("POST", "/search", "image:read"),
    ("GET", "/models", "image:read"),
    ("GET", "/jobs", "admin"),
    ("POST", "/jobs", "admin"),
    ("GET", "/jobs/1000000000", "admin"),
    ("GET", "/jobs/1000000000/failures", "admin"),
    ("POST", "/jobs/1000000000/retry", "admin"),
    ("POST", "/jobs/1000000000/pause", "admin"),
    ("GET", "/lookbacks", "moderate"),
    ("POST", "/lookbacks", "admin"),
    ("GET", "/lookbacks/1000000000", "moderate"),
    ("POST", "/lookbacks/1000000000/cancel", "admin"),
    ("GET", "/webhooks", "admin"),
    ("POST", "/webhooks", "admin"),
    ("GET", "/webhooks/1000000000", "admin"),
    ("PATCH", "/webhooks/1000000000", "admin"),
    ("DELETE", "/webhooks/1000000000", "admin"),
    ("POST", "/webhooks/1000000000/rotate", "admin"),
    ("POST", "/webhooks/1000000000/test", "admin"),
    ("GET", "/webhooks/1000000000/deliveries", "admin"),
    ("POST", "/webhooks/1000000000/replay", "admin"),
    ("GET", "/policies", "moderate"),
    ("GET", "/policies/active", "moderate"),
    ("GET", "/policies/1000000000", "moderate"),
    ("POST", "/policies", "admin"),
    ("POST", "/policies/check", "moderate"),
    ("POST", "/policies/test", "moderate"),
    ("POST", "/policies/1000000000/rollback", "admin"),
    ("GET", "/decisions/1000000000/replay", "moderate"),
    ("GET", "/hma/h/hash?url=https://192.0.2.1/", "image:read"),
    ("POST", "/hma/h/hash", "image:read"),
    ("GET", "/hma/m/lookup", "image:read"),
    ("POST", "/hma/m/lookup", "image:read"),
    ("GET", "/hma/m/raw_lookup", "image:read"),
    ("POST", "/hma/m/compare", "image:read"),
    ("GET", "/hma/m/index/status", "image:read"),
    ("GET", "/hma/status", "image:read"),
    ("GET", "/hma/c/banks", "moderate"),
    ("GET", "/hma/c/bank/none", "moderate"),
    ("GET", "/hma/c/bank/none/content/1", "moderate"),
    ("GET", "/hma/c/signal_type", "moderate"),
    ("GET", "/hma/c/content_type", "moderate"),
    ("GET", "/audit", "admin"),
    ("GET", "/audit/head", "admin"),
    ("GET", "/banks", "moderate"),
    ("POST", "/banks", "admin"),
    ("GET", "/banks/1000000000", "moderate"),
    ("PATCH", "/banks/1000000000", "admin"),
    ("DELETE", "/banks/1000000000", "admin"),
    ("GET", "/banks/1000000000/members", "moderate"),
    ("PUT", "/banks/1000000000/images/1", "moderate"),
    ("DELETE", "/banks/1000000000/images/1", "moderate"),
    ("POST", "/banks/1000000000/hashes", "moderate"),
    ("PATCH", "/banks/1000000000/members/1", "moderate"),
    ("DELETE", "/banks/1000000000/members/1", "moderate"),
    ("POST", "/banks/1000000000/members/1/release", "moderate"),
    ("POST", "/banks/1000000000/import", "moderate"),
    ("GET", "/banks/1000000000/export", "moderate"),
]


def test_the_list_is_complete(app: FastAPI) -> None:
    documented = {
        (method.upper(), path)
        for path, methods in app.openapi()["paths"].items()
        for method in methods
        if not path.startswith("/health/")
    }
    listed = set()
    for method, path, _ in ROUTES:
        name = re.sub(r"jobs/\d+", "jobs/{job_id}", path.split("?")[0]).replace("pause", "{action}")
        name = re.sub(r"lookbacks/\d+", "lookbacks/{lookback_id}", name).replace("cancel", "{action}")
        name = re.sub(r"webhooks/\d+", "webhooks/{webhook_id}", name)
        name = re.sub(r"policies/\d+", "policies/{policy_id}", name)
        name = re.sub(r"decisions/\d+", "decisions/{decision_id}", name)
        for thing in ("webhook", "bank", "member"):
            name = re.sub(rf"{thing}s/\d+", f"{thing}s/{{{thing}_id}}", name)
        name = name.replace("bank/none", "bank/{bank_name}").replace("content/1", "content/{content_id}")
        listed.add((method, "/api/v1" + re.sub(r"/\d+", "/{image_id}", name).replace("nobody", "{model_name}")))
    assert listed == documented


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
async def test_a_route_wants_a_key_with_its_scope(make_client: MakeClient, method: str, path: str, scope: str) -> None:
    is_problem(await (await make_client()).request(method, path), 401)
    others = [one for one in SCOPES if one not in (scope, "admin")]
    assert scope in is_problem(await (await make_client(*others)).request(method, path), 403)["detail"]
    for enough in (scope, "admin"):
        assert (await (await make_client(enough)).request(method, path)).status_code not in (401, 403, 500)


async def test_a_body_is_not_read_before_the_key_is_known(make_client: MakeClient) -> None:
    nobody = await make_client()
    headers = {"content-type": "multipart/form-data; boundary=x"}
    is_problem(await nobody.post("/image", content=b"nonsense", headers=headers), 401)
    is_problem(await nobody.post(f"/image/1/processed?token={uuid4()}", content=b"{"), 401)


async def test_both_headers_carry_keys(engine: AsyncEngine, make_client: MakeClient) -> None:
    nobody, name = await make_client(), str(uuid4())
    key = await create_key(engine, name, ["image:read"], actor="test")
    for headers in ({"Authorization": f"Bearer {key}"}, {"authorization": f"bearer {key}"}, {"X-API-Key": key}):
        assert (await nobody.get("/models", headers=headers)).status_code == 200
    bad = [
        {"Authorization": f"Basic {key}"}, {"Authorization": key}, {"Authorization": "Bearer "}, {"X-API-Key": ""},
        {"X-API-Key": key + "x"}, {"Authorization": "Bearer wrong", "X-API-Key": key}, {b"X-API-Key": b"\xff\xfe"},
    ]  # fmt: skip
    for wrong in bad:
        is_problem(await nobody.get("/models", headers=httpx.Headers(wrong)), 401)
    await revoke_key(engine, name, actor="test")
    is_problem(await nobody.get("/models", headers={"X-API-Key": key}), 401)


async def test_a_key_expires(engine: AsyncEngine, make_client: MakeClient) -> None:
    name, soon = str(uuid4()), datetime.now(UTC) + timedelta(minutes=10)
    key = await create_key(engine, name, ["image:read"], expires_at=soon, actor="test")
    nobody = await make_client()
    assert (await nobody.get("/models", headers={"X-API-Key": key})).status_code == 200
    await expire(engine, name)
    is_problem(await nobody.get("/models", headers={"X-API-Key": key}), 401)


async def test_a_rate_limit_says_when_to_come_back(engine: AsyncEngine, make_client: MakeClient) -> None:
    key = await create_key(engine, str(uuid4()), ["image:read"], rate_limit=2, actor="test")
    nobody = await make_client()
    answers = [await nobody.get("/models", headers={"X-API-Key": key}) for _ in range(6)]
    limited = [answer for answer in answers if answer.status_code != 200]
    assert len(limited) >= 2  # a new minute may begin in between
    for answer in limited:
        is_problem(answer, 429)
        assert 1 <= int(answer.headers["retry-after"]) <= 60


def test_a_route_cannot_ask_for_a_scope_that_is_not() -> None:
    with pytest.raises(ValueError, match="no such scope"):
        Scope("image:raed")
