"""Every answer of every address carries the headers, errors included; nothing says which programs answer."""

import re

import httpx
import pytest

from tests.deployments.ingress.conftest import MakeApp, MakeClient
from tests.deployments.ingress.test_access import ROUTES

ROOT = "http://restapi:8000"
OTHERS = [
    ("GET", f"{ROOT}/health/live"),
    ("GET", f"{ROOT}/health/ready"),
    ("GET", f"{ROOT}/docs"),
    ("GET", f"{ROOT}/openapi.json"),
    ("GET", f"{ROOT}/nothing"),
    ("PATCH", "/image/1"),
    ("GET", "/image/nonsense"),
]


def check(answer: httpx.Response) -> None:
    headers = answer.headers
    for name in ("x-content-type-options", "x-frame-options", "referrer-policy", "content-security-policy"):
        assert len(headers.get_list(name)) == 1, name
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    if "json" in headers.get("content-type", ""):
        assert headers["cache-control"] == "no-store"
    assert not {"server", "x-powered-by", "via", "strict-transport-security"} & set(headers)
    assert not re.search(r"(uvicorn|starlette|fastapi|python|ray)/[\d.]+", str(headers).lower())


@pytest.mark.parametrize(("method", "path"), [route[:2] for route in ROUTES] + OTHERS)
async def test_every_answer_has_them(make_client: MakeClient, method: str, path: str) -> None:
    for client in (await make_client(), await make_client("admin")):
        check(await client.request(method, path))


@pytest.mark.parametrize(("method", "path"), [route[:2] for route in ROUTES])
async def test_unexpected_errors_have_them(make_app: MakeApp, make_client: MakeClient, method: str, path: str) -> None:
    broken = await make_client("admin", target=await make_app({"engine": None}))
    answer = await broken.request(method, path)
    assert answer.status_code == 500
    check(answer)


async def test_the_documentation_works_within_its_policy(make_client: MakeClient) -> None:
    client = await make_client()
    page = await client.get(f"{ROOT}/docs")
    assert "script-src 'self' 'unsafe-inline'" in page.headers["content-security-policy"]
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)""", page.text)
    assert len(loaded) >= 2
    for address in loaded:
        assert address.startswith("/"), "the policy would block it"
        assert (await client.get(f"{ROOT}{address}")).status_code == 200
    other = await client.get(f"{ROOT}/health/live")
    assert "script-src" not in other.headers["content-security-policy"]


async def test_tls_only_is_said_where_it_is_set(make_app: MakeApp, make_client: MakeClient) -> None:
    client = await make_client(target=await make_app(hsts_s=86_400))
    assert (await client.get("/models")).headers["strict-transport-security"] == "max-age=86400"
