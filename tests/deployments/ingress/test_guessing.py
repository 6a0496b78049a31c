"""Wrong keys are limited per address; who called is told only by proxies that are ours."""

from ipaddress import ip_network

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request

from deployments.ingress.guessing import WrongKeys, client_address
from storage.errors import RateLimited
from storage.keys import create_key
from tests.deployments.ingress.conftest import MakeApp, is_problem

OURS = [ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8"), ip_network("::1/128")]


def called(client: str, *forwarded: str) -> str | None:
    headers = [(b"x-forwarded-for", one.encode()) for one in forwarded]
    return client_address(Request({"type": "http", "headers": headers, "client": (client, 1)}), OURS)


@pytest.mark.parametrize(
    ("client", "forwarded", "address"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),  # a stranger's word
        ("127.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("127.0.0.1", ["192.0.2.1, 198.51.100.1, 10.0.0.3"], "198.51.100.1"),
        ("127.0.0.1", ["192.0.2.1", "198.51.100.1", "10.0.0.3"], "198.51.100.1"),
        ("10.0.0.2", ["10.0.0.3"], None),
        ("127.0.0.1", [], None),
        ("127.0.0.1", ["nonsense"], None),
        ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", [], "203.0.113.7"),
        ("::ffff:10.0.0.1", [], None),
    ],
)
def test_the_caller_is_the_last_address_that_is_no_proxy_of_ours(
    client: str, forwarded: list[str], address: str | None
) -> None:
    assert called(client, *forwarded) == address


def test_an_address_waits_after_too_many_and_others_do_not() -> None:
    now = [100.0]
    wrong = WrongKeys(3, clock=lambda: now[0])
    for _ in range(3):
        wrong.check("a")
        wrong.count("a")
        now[0] += 10
    with pytest.raises(RateLimited) as refused:
        wrong.check("a")
    assert refused.value.retry_after_s == pytest.approx(30.0)
    wrong.check("b")
    wrong.check(None)
    now[0] += 30
    wrong.check("a")
    wrong.count("a")
    wrong.check("a")  # a new minute has begun


def test_memory_is_bounded_and_zero_is_no_limit() -> None:
    wrong = WrongKeys(1, addresses=5)
    for number in range(50):
        wrong.count(str(number))
    assert len(wrong) == 5
    with pytest.raises(RateLimited):
        wrong.check("49")
    unlimited = WrongKeys(0)
    for _ in range(100):
        unlimited.count("a")
    unlimited.check("a")
    assert len(unlimited) == 0


async def test_the_api_refuses_an_address_that_guesses(engine: AsyncEngine, make_app: MakeApp, queue: str) -> None:
    app = await make_app(wrong_keys_per_minute=3)
    key = await create_key(engine, queue, ["image:read"], actor="test")

    async def models(address: str, key: str | None, app: FastAPI = app) -> httpx.Response:
        transport = httpx.ASGITransport(app, client=(address, 1))
        headers = {} if key is None else {"X-API-Key": key}
        async with httpx.AsyncClient(transport=transport, base_url="http://restapi/api/v1", headers=headers) as client:
            return await client.get("/models")

    for _ in range(5):
        is_problem(await models("203.0.113.7", None), 401)  # no key is no guess
    for number in range(3):
        is_problem(await models("203.0.113.7", f"sg_{number}"), 401)
    for guess in ("sg_4", key):
        refused = await models("203.0.113.7", guess)
        assert "wrong keys" in is_problem(refused, 429)["detail"]
        assert int(refused.headers["retry-after"]) <= 60
    assert (await models("203.0.113.8", key)).status_code == 200
    assert (await models("127.0.0.1", key)).status_code == 200
