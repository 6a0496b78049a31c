"""The limit on bodies, with and without Content-Length."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from deployments.ingress.body import FORM_BYTES, BodyLimit
from tests.deployments.ingress.conftest import MakeApp, MakeClient, is_problem, picture

LIMIT = 10_000


@pytest.fixture
async def small(make_app: MakeApp, make_client: MakeClient) -> httpx.AsyncClient:
    return await make_client("image:write", "image:read", target=await make_app(max_upload_bytes=LIMIT))


async def test_a_declared_length_is_refused_before_anything_is_read() -> None:
    read, sent = 0, []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()

    async def receive() -> Any:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b"x" * 10, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    limit = BodyLimit(app, 10)
    for length, status in ((b"11", 413), (b"9" * 40, 413), (b"-1", 400), (b"1e3", 400), (b"", 400)):
        sent.clear()
        await limit({"type": "http", "method": "POST", "headers": [(b"content-length", length)]}, receive, send)
        assert (sent[0]["status"], read) == (status, 0)
    await limit({"type": "http", "method": "POST", "headers": [(b"content-length", b"10")]}, receive, send)
    assert read == 1


async def test_a_body_of_unknown_length_is_counted(small: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        while sent < 100 * LIMIT:
            sent += 1000
            yield bytes(1000)

    headers = {"content-type": "multipart/form-data; boundary=x"}
    for path in ("/image", "/search"):
        sent = 0
        is_problem(await small.post(path, content=endless(), headers=headers), 413)
        assert sent <= LIMIT + FORM_BYTES + 2000


async def test_a_declared_length_is_refused_by_the_application(small: httpx.AsyncClient) -> None:
    answer = await small.post("/image", content=bytes(LIMIT + FORM_BYTES + 1))
    assert is_problem(answer, 413)["type"] == "urn:problem-type:too-large"


async def test_a_file_at_the_limit_passes_and_a_field_over_its_limit_does_not(
    make_app: MakeApp, make_client: MakeClient, queue: str
) -> None:
    data = picture((200, 200))
    exact = await make_client("image:write", target=await make_app(max_upload_bytes=len(data)))
    form = {"name": "n", "model_name": queue}
    assert (await exact.post("/image", data=form, files={"file": ("f", data)})).status_code == 201
    is_problem(await exact.post("/image", data=form, files={"file": ("f", data + b"x")}), 413)
    large = {**form, "other": "x" * (FORM_BYTES + 1)}
    is_problem(await exact.post("/image", data=large, files={"file": ("f", b"")}), 422)
