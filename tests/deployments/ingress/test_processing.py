"""Documented endpoints 4 to 6 and the delivery of results, as an outside worker meets them."""

import asyncio
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.keys import create_key
from tests.deployments.ingress.conftest import MakeApp, MakeClient, Upload, is_problem


async def work(client: httpx.AsyncClient, queue: str, related: list[Any]) -> tuple[int, str, httpx.Response]:
    """Polls one image and delivers a result; returns its id, the callback address and the answer."""
    polled = (await client.get(f"/image/poll/{queue}")).json()
    answer = await client.post(polled["img_callback_url"], json={"result": related})
    return polled["id"], polled["img_callback_url"], answer


async def status_of(client: httpx.AsyncClient, image_id: int) -> str:
    return str((await client.get(f"/image/{image_id}")).json()["status"])


async def test_poll_answers_exactly_the_document(client: httpx.AsyncClient, upload: Upload, queue: str) -> None:
    image_id = await upload()
    answer = await client.get(f"/image/poll/{queue}")
    shown = answer.json()
    assert answer.status_code == 200
    assert list(shown) == ["id", "s3_path", "img_callback_url"]
    assert shown["id"] == image_id
    assert shown["s3_path"] == (await client.get(f"/image/{image_id}")).json()["s3_path"]
    address = urlsplit(shown["img_callback_url"])
    assert (address.scheme, address.netloc) == ("http", "restapi:8000")
    assert address.path == f"/api/v1/image/{image_id}/processed"
    assert UUID(parse_qs(address.query)["token"][0])
    assert await status_of(client, image_id) == "PROCESSING"
    again = await client.get(f"/image/poll/{queue}")
    assert (again.status_code, again.json()) == (200, {"detail": f"no new images for model {queue}"})


async def test_a_public_address_wins_in_callbacks(
    make_app: MakeApp, make_client: MakeClient, upload: Upload, queue: str
) -> None:
    image_id = await upload()
    behind = await make_client("image:process", target=await make_app(public_url="https://safeguard.example/"))
    shown = (await behind.get(f"/image/poll/{queue}")).json()
    assert shown["img_callback_url"].startswith(f"https://safeguard.example/api/v1/image/{image_id}/processed?token=")


async def test_results_are_exactly_the_document(client: httpx.AsyncClient, upload: Upload, queue: str) -> None:
    first, second, third = [await upload() for _ in range(3)]
    await work(client, queue, [])
    image_id, _, delivered = await work(client, queue, [str(first), first])
    assert image_id == second
    path = (await client.get(f"/image/{second}")).json()["s3_path"]
    expected = {"img_url": path, "return": "true", "id": str(second), "result": [str(first)]}
    assert (delivered.status_code, delivered.json()) == (200, expected)
    assert list(delivered.json()) == ["img_url", "return", "id", "result"]
    assert (await client.get(f"/image/{second}/processed")).json() == expected
    last, _, nothing = await work(client, queue, [])
    assert last == third
    assert (nothing.json()["return"], nothing.json()["result"]) == ("false", [])


async def test_related_images_are_exactly_the_document_and_symmetric(
    client: httpx.AsyncClient, upload: Upload, queue: str
) -> None:
    first, second = await upload(), await upload()
    await work(client, queue, [])
    await work(client, queue, [first])
    for one, other in ((first, second), (second, first)):
        path = (await client.get(f"/image/{other}")).json()["s3_path"]
        answer = await client.get(f"/image/{one}/return_images")
        assert (answer.status_code, answer.json()) == (200, [{"id": other, "file_link": path}])
    assert (await client.get(f"/image/{first}/processed")).json()["result"] == [str(second)]


async def test_only_processed_images_are_related(client: httpx.AsyncClient, upload: Upload, queue: str) -> None:
    waiting, _ = await upload(model_name=f"{queue}-other"), await upload()
    image_id, _, answer = await work(client, queue, [waiting])
    assert answer.status_code == 200 and answer.json()["result"] == []
    assert (await client.get(f"/image/{image_id}/return_images")).json() == []
    await work(client, f"{queue}-other", [])
    assert (await client.get(f"/image/{image_id}/processed")).json()["result"] == [str(waiting)]


async def test_the_callback_address_reads_the_same_with_and_without_token(
    client: httpx.AsyncClient, upload: Upload, queue: str
) -> None:
    image_id = await upload()
    polled = (await client.get(f"/image/poll/{queue}")).json()
    for address in (polled["img_callback_url"], f"/image/{image_id}/processed"):
        shown = is_problem(await client.get(address), 409)
        assert shown["image_status"] == "PROCESSING" and "PROCESSING" in shown["detail"]
    full = {"img_url": polled["s3_path"], "return": "false", "id": str(image_id), "result": []}
    delivered = await client.post(polled["img_callback_url"], json=full)
    assert delivered.json() == full
    assert (await client.get(polled["img_callback_url"])).json() == full


async def test_a_repeat_is_answered_as_before(client: httpx.AsyncClient, upload: Upload, queue: str) -> None:
    first, _ = await upload(), await upload()
    await work(client, queue, [])
    _, address, answer = await work(client, queue, [first])
    repeat = await client.post(address, json={"result": []})
    assert (repeat.status_code, repeat.json()) == (200, answer.json())


async def test_an_expired_or_foreign_token_changes_nothing(
    client: httpx.AsyncClient, upload: Upload, queue: str, make_app: MakeApp, make_client: MakeClient
) -> None:
    image_id = await upload()
    hasty = await make_client("image:process", target=await make_app(worker_lease_s=0.2))
    late = (await hasty.get(f"/image/poll/{queue}")).json()["img_callback_url"]
    is_problem(await client.post(f"/image/{image_id}/processed?token={uuid4()}", json={"result": []}), 409)
    await asyncio.sleep(0.3)
    is_problem(await client.post(late, json={"result": []}), 409)
    assert await status_of(client, image_id) == "PROCESSING"
    polled = (await client.get(f"/image/poll/{queue}")).json()
    assert polled["id"] == image_id and polled["img_callback_url"] != late
    is_problem(await client.post(late, json={"result": []}), 409)
    assert (await client.post(polled["img_callback_url"], json={"result": []})).status_code == 200


async def test_an_image_that_fails_says_why(
    client: httpx.AsyncClient, upload: Upload, queue: str, make_app: MakeApp, make_client: MakeClient
) -> None:
    image_id = await upload()
    hasty = await make_client("image:process", target=await make_app(worker_lease_s=0.01, max_attempts=1))
    await hasty.get(f"/image/poll/{queue}")
    await asyncio.sleep(0.05)
    assert "detail" in (await hasty.get(f"/image/poll/{queue}")).json()
    shown = is_problem(await client.get(f"/image/{image_id}/processed"), 409)
    assert shown["image_status"] == "FAILED" and "lease" in shown["detail"]
    listed = (await client.get("/image/all", params={"status": "FAILED", "after": image_id - 1})).json()
    assert image_id in [row["id"] for row in listed]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "result"),
        ({"result": None}, "result"),
        ({"result": "1"}, "result"),
        ({"result": ["x"]}, "result.0"),
        ({"result": [1, 0]}, "result.1"),
        ({"result": [True]}, "result.0"),
        ({"result": [1.5]}, "result.0"),
        ({"result": [2**63]}, "result.0"),
        ({"result": ["9" * 30]}, "result.0"),
        ({"result": [2**63 - 1]}, "result"),
        ({"result": list(range(1, 10_002))}, "result"),
        ({"result": [], "id": "999999"}, "id"),
        ({"result": [], "other": 1}, "other"),
        ({"result": [], "return": "maybe"}, None),
        ([], None),
        ("text", None),
    ],
)  # fmt: skip
async def test_delivery_refuses(
    client: httpx.AsyncClient, upload: Upload, queue: str, body: Any, field: str | None
) -> None:
    image_id = await upload()
    address = (await client.get(f"/image/poll/{queue}")).json()["img_callback_url"]
    shown = is_problem(await client.post(address, json=body), 422)
    assert field is None or shown["errors"][0]["field"] == field
    assert await status_of(client, image_id) == "PROCESSING"


async def test_delivery_refuses_itself_no_json_and_no_token(
    client: httpx.AsyncClient, upload: Upload, queue: str
) -> None:
    image_id = await upload()
    address = (await client.get(f"/image/poll/{queue}")).json()["img_callback_url"]
    is_problem(await client.post(address, json={"result": [image_id]}), 422)
    for content in (b"", b"{", b"\xff\xfe", b"[" * 5000, b'{"result": [], "result": NaN}'):
        is_problem(await client.post(address, content=content), 422)
    is_problem(await client.post(address, content=b'{"result": [' + b" " * 2**20 + b"]}"), 413)
    path = f"/image/{image_id}/processed"
    for query in ("", "?token=", "?token=x"):
        shown = is_problem(await client.post(path + query, json={"result": []}), 422)
        assert shown["errors"][0]["field"] == "token"
    is_problem(await client.post(f"/image/{2**62}/processed?token={uuid4()}", json={"result": []}), 404)


@pytest.mark.parametrize("query", ["wait=-1", "wait=31", "wait=x", "wait=nan", "wait=inf"])
async def test_poll_refuses_a_wait(client: httpx.AsyncClient, queue: str, query: str) -> None:
    is_problem(await client.get(f"/image/poll/{queue}?{query}"), 422)


@pytest.mark.parametrize("name", ["a%20b", "%00", "x" * 129, "m%0A"])
async def test_poll_refuses_a_name(client: httpx.AsyncClient, name: str) -> None:
    is_problem(await client.get(f"/image/poll/{name}"), 422)


async def test_a_waiting_poll_gets_a_new_upload_at_once(client: httpx.AsyncClient, upload: Upload, queue: str) -> None:
    await asyncio.sleep(0.3)  # the listener connects in the background
    waiting = asyncio.create_task(client.get(f"/image/poll/{queue}?wait=30"))
    await asyncio.sleep(0.3)
    began = time.monotonic()
    image_id = await upload()
    assert (await waiting).json()["id"] == image_id
    assert time.monotonic() - began < 15


async def test_a_waiting_poll_gets_an_image_whose_lease_ends(
    client: httpx.AsyncClient, upload: Upload, queue: str, make_app: MakeApp, make_client: MakeClient
) -> None:
    image_id = await upload()
    hasty = await make_client("image:process", target=await make_app(worker_lease_s=0.5))
    await hasty.get(f"/image/poll/{queue}")
    assert (await client.get(f"/image/poll/{queue}?wait=10")).json()["id"] == image_id


async def test_a_poll_that_waits_in_vain_ends_in_time(client: httpx.AsyncClient, queue: str) -> None:
    began = time.monotonic()
    answer = await client.get(f"/image/poll/{queue}?wait=0.5")
    assert answer.json() == {"detail": f"no new images for model {queue}"}
    assert 0.4 < time.monotonic() - began < 15, "as asked for, and not as long as may be asked for"


async def test_one_image_goes_to_one_of_many_pollers(client: httpx.AsyncClient, upload: Upload, queue: str) -> None:
    image_id = await upload()
    answers = await asyncio.gather(*(client.get(f"/image/poll/{queue}") for _ in range(8)))
    assert [answer.json()["id"] for answer in answers if "id" in answer.json()] == [image_id]


async def call_and_leave(app: FastAPI, engine: AsyncEngine, path: str, query: str, *, cancel: bool) -> None:
    """Sends a GET as a server would, and leaves after 0.4 s: by http.disconnect, or by cancelling as Serve does."""
    key = await create_key(engine, str(uuid4()), ["image:process"], actor="test")
    left = asyncio.Event()
    first = True

    async def receive() -> dict[str, Any]:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": b"", "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None: ...

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(b"host", b"x"), (b"x-api-key", key.encode())], "server": ("x", 80), "client": ("y", 1),
    }  # fmt: skip
    task = asyncio.create_task(app(scope, receive, send))
    await asyncio.sleep(0.4)
    if cancel:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        left.set()
        await asyncio.wait_for(task, 20)


@pytest.mark.parametrize("cancel", [False, True])
async def test_a_client_that_leaves_takes_no_image(
    app: FastAPI, engine: AsyncEngine, client: httpx.AsyncClient, upload: Upload, queue: str, cancel: bool
) -> None:
    await call_and_leave(app, engine, f"/api/v1/image/poll/{queue}", "wait=30", cancel=cancel)
    image_id = await upload()
    await asyncio.sleep(0.3)
    assert await status_of(client, image_id) == "UPLOADED"


async def test_a_claim_made_while_the_client_left_is_given_back(
    app: FastAPI, engine: AsyncEngine, client: httpx.AsyncClient, upload: Upload, queue: str
) -> None:
    image_id = await upload()
    # An expiry that must wait for a lock holds the claim open until after the client has gone.
    async with engine.begin() as connection:
        await connection.execute(text("LOCK TABLE image IN SHARE MODE"))
        await call_and_leave(app, engine, f"/api/v1/image/poll/{queue}", "", cancel=True)
    for _ in range(600):
        await asyncio.sleep(0.05)
        if (await status_of(client, image_id)) == "UPLOADED":
            break
    async with engine.connect() as connection:
        row = (
            await connection.execute(text("SELECT status, attempt FROM image WHERE id = :id"), {"id": image_id})
        ).one()
    assert tuple(row) == ("UPLOADED", 0)
    assert (await client.get(f"/image/poll/{queue}")).json()["id"] == image_id
