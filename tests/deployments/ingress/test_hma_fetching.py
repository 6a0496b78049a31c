"""Photos at addresses: what is read, what is not, and that it holds up nobody."""

import ssl
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from deployments.ingress.hma.fetching import Fetcher
from storage.errors import InvalidInput
from tests.banks import bank_of
from tests.deployments.ingress.conftest import MakeApp, MakeClient, is_problem, picture
from tests.deployments.ingress.hma_console import _no_banks_after, console, photo
from tests.deployments.webhooks.test_client import raw
from tests.events import LOOPBACK, self_signed

__all__ = ["_no_banks_after", "console"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "url is required"),
        ("http://169.254.169.254/latest/meta-data", "not on the public internet"),
        ("https://127.0.0.1/a.png", "not on the public internet"),
        ("https://[::1]/a.png", "not on the public internet"),
        ("https://localhost/a.png", "not on the public internet"),
        ("https://nobody.invalid/a.png", "does not resolve"),
        ("file:///etc/passwd", "not an address of the form"),
        ("https://user:secret@example.org/", "with a password"),
    ],
)
async def test_addresses_that_are_not_read(console: httpx.AsyncClient, url: str, said: str) -> None:
    for path in ("/h/hash", "/m/lookup"):
        if url or path == "/h/hash":
            assert said in is_problem(await console.get(path, params={"url": url}), 422)["detail"]


async def test_where_webhooks_may_lead_is_not_for_those_who_look_up(make_app: MakeApp, make_client: MakeClient) -> None:
    client = await make_client("image:read", target=await make_app(webhook_allow_private=LOOPBACK))
    server = await raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nnot image")
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    for path in ("/hma/h/hash", "/hma/m/lookup"):
        refused = is_problem(await client.get(path, params={"url": url}), 422)["detail"]
        assert "SAFEGUARD_FETCH_ALLOW_PRIVATE can allow its network" in refused
    server.close()


@pytest.mark.usefixtures("busy_threads")
async def test_names_are_asked_for_in_threads_of_their_own(make_app: MakeApp, make_client: MakeClient) -> None:
    client = await make_client("image:read", "admin", target=await make_app(webhook_connect_timeout_s=2.0))
    url = "https://localhost/a.png"
    for answer in (
        await client.get("/hma/h/hash", params={"url": url}),
        await client.get("/hma/m/lookup", params={"url": url}),
        await client.post("/webhooks", json={"url": url}),
    ):
        assert "not on the public internet" in is_problem(answer, 422)["detail"]


@pytest.fixture
async def loopback(make_app: MakeApp) -> FastAPI:
    """An installation that may read addresses on this machine."""
    return await make_app(
        fetch_allow_private=LOOPBACK, webhook_timeout_s=1.0, webhook_connect_timeout_s=0.5, max_upload_bytes=100_000
    )


async def test_a_photo_at_an_address(make_client: MakeClient, loopback: FastAPI, engine: AsyncEngine) -> None:
    client = await make_client("image:read", target=loopback)
    data = picture()
    signal = (await client.post("/hma/h/hash", files=photo(data))).json()["pdq"]
    _, (one,) = await bank_of(engine, [bytes.fromhex(signal)], name=(name := str(uuid4())))
    match = {name: [{"bank_content_id": one, "distance": "0"}]}
    good = f"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data
    server = await raw(good)
    here = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a.png"
    onward = await raw(f"HTTP/1.1 302 Found\r\nlocation: {here}#top\r\ncontent-length: 0\r\n\r\n".encode())
    redirected = f"http://127.0.0.1:{onward.sockets[0].getsockname()[1]}/"
    for url in (here, redirected):
        assert (await client.get("/hma/h/hash", params={"url": url})).json() == {"pdq": signal}
    assert (await client.get("/hma/m/lookup", params={"url": here})).json() == {"pdq": match}
    assert (await client.get("/hma/m/lookup", params={"url": here, "signal_type": "pdq"})).json() == match
    is_problem(await client.get("/hma/h/hash", params={"url": here, "content_type": "video"}), 422)
    server.close()
    onward.close()


async def test_https_with_the_certificates_that_were_read_once(
    servers: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def names(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    served, trusting = self_signed(tmp_path)
    fetcher = Fetcher(servers.model_copy(update={"fetch_allow_private": LOOPBACK}), names, trusting)

    def again(*_: object, **__: object) -> None:
        raise AssertionError("certificates are read on the event loop")

    monkeypatch.setattr(ssl, "create_default_context", again)
    server = await raw(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\npicture", tls=served)
    port = server.sockets[0].getsockname()[1]
    assert await fetcher.fetch(f"https://hook.invalid:{port}/") == b"picture"
    with pytest.raises(InvalidInput, match="could not be read: ConnectError"):
        await fetcher.fetch(f"https://other.invalid:{port}/")
    server.close()


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", 422, "answers 404"),
        (b"HTTP/1.1 302 Found\r\nlocation: http://10.0.0.1/\r\ncontent-length: 0\r\n\r\n", 422, "not on the public"),
        (b"HTTP/1.1 302 Found\r\nlocation: /again\r\ncontent-length: 0\r\n\r\n", 422, "leads on more than 3 times"),
        (b"HTTP/1.1 302 Found\r\nlocation: http://[\r\ncontent-length: 0\r\n\r\n", 422, "not an address"),
        (b"HTTP/1.1 301 Moved\r\ncontent-length: 0\r\n\r\n", 422, "does not say where to"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nnot image", 415, ""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\ncut short", 422, "could not be read"),
        (b"nonsense\r\n\r\n", 422, "could not be read"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_001, 413, "more than 100000 bytes"),
    ],
)
async def test_addresses_that_answer_something_else(
    make_client: MakeClient, loopback: FastAPI, answer: bytes, status: int, said: str
) -> None:
    client = await make_client("image:read", target=loopback)
    server = await raw(answer)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    assert said in is_problem(await client.get("/hma/h/hash", params={"url": url}), status)["detail"]
    server.close()


async def test_an_address_that_does_not_end(make_client: MakeClient, loopback: FastAPI) -> None:
    client = await make_client("image:read", target=loopback)
    server = await raw(b"HTTP/1.1 200 OK\r\n\r\n", drip=True)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    assert (await client.get("/hma/h/hash", params={"url": url})).status_code in (413, 422)
    server.close()
