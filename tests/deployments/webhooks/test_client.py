"""One try: to the address that was checked, with the name's certificate, within limits of time and size."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from configs.settings import Settings
from deployments.webhooks.addresses import Guard
from deployments.webhooks.client import WebhookClient
from storage.deliveries import Outgoing
from tests.events import Receiver, answers, self_signed, sending

MakeClient = Callable[..., Awaitable[WebhookClient]]


def event(url: str) -> Outgoing:
    return Outgoing(1, 1, "image.decided", 7, {}, datetime.now(UTC), 1, uuid4(), url, ("whsec_AAAA",))


@pytest.fixture
async def make_client(servers: Settings) -> AsyncIterator[MakeClient]:
    made: list[WebhookClient] = []

    async def make(resolve: Any = None, tls: ssl.SSLContext | None = None, **settings: Any) -> WebhookClient:
        made.append(WebhookClient(sending(servers, **settings), resolve=resolve, tls=tls))
        return made[-1]

    yield make
    for client in made:
        await client.close()


class Names:
    """A name server that gives another answer each time, then the last one again."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def __call__(self, _host: str, _port: int) -> list[str]:
        self.asked += 1
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


async def test_the_address_that_was_checked_is_connected_to(make_client: MakeClient) -> None:
    """No system knows this name: the connection can only lead to what the guard saw, and it is asked once."""
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    client = await make_client(names)
    async with Receiver() as receiver:
        answer = await client.send(event(f"http://hook.invalid:{receiver.port}/x"))
    assert (answer.status, answer.error, names.asked) == (200, None, 1)
    assert receiver.received[0].headers["host"] == f"hook.invalid:{receiver.port}"


async def test_a_name_that_changes_its_mind_gains_nothing(make_client: MakeClient) -> None:
    """Rebinding: good when the webhook was added, inward when it is sent to."""
    async with Receiver() as inward:
        names = Names(["93.184.215.14"], ["127.0.0.1"])
        client = await make_client(names, webhook_allow_private=[], webhook_connect_timeout_s=0.5)
        guard = Guard(Settings().model_copy(update={"webhook_allow_http": True}), names)
        url = await guard.check(f"http://hook.invalid:{inward.port}/x")
        answer = await client.send(event(url))
        assert answer.status is None and "not on the public internet" in (answer.error or "")
        assert inward.received == []


async def test_the_next_address_is_tried(make_client: MakeClient) -> None:
    client = await make_client(Names(["127.0.0.2", "127.0.0.1"]))
    async with Receiver() as receiver:
        assert (await client.send(event(f"http://hook.invalid:{receiver.port}/"))).error is None


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return self_signed(tmp_path_factory.mktemp("tls"))


async def test_the_certificate_must_be_that_of_the_name(
    make_client: MakeClient, certificate: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    served, trusting = certificate
    async with Receiver(tls=served) as receiver:
        client = await make_client(Names(["127.0.0.1"]), trusting)
        assert (await client.send(event(f"https://hook.invalid:{receiver.port}/"))).status == 200
        for url in (f"https://other.invalid:{receiver.port}/", receiver.url):
            answer = await client.send(event(url))
            assert answer.status is None and "certificate is not valid" in (answer.error or "")
        stranger = await make_client(Names(["127.0.0.1"]))
        answer = await stranger.send(event(f"https://hook.invalid:{receiver.port}/"))
        assert "certificate is not valid" in (answer.error or "")
        assert len(receiver.received) == 1


async def raw(answer: bytes, *, drip: bool = False, tls: ssl.SSLContext | None = None) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(answer)
        try:
            while drip:
                await writer.drain()
                writer.write(b"x" * 4096)
                await asyncio.sleep(0.001)
        except ConnectionError:
            pass
        finally:
            writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (b"", None, "connection broke"),
        (b"nonsense\r\n\r\n", None, "connection broke"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\ncut", 200, None),
        (b"HTTP/1.1 503 No\r\nretry-after: soon\r\ncontent-length: 0\r\n\r\n", 503, "answered 503"),
    ],
)
async def test_broken_answers(make_client: MakeClient, answer: bytes, status: int | None, said: str | None) -> None:
    server = await raw(answer)
    port = server.sockets[0].getsockname()[1]
    got = await (await make_client()).send(event(f"http://127.0.0.1:{port}/"))
    server.close()
    assert got.status == status
    assert (said in (got.error or "")) if said else got.error is None


async def test_an_endless_answer_is_not_read(make_client: MakeClient) -> None:
    server = await raw(b"HTTP/1.1 200 OK\r\n\r\n", drip=True)
    port = server.sockets[0].getsockname()[1]
    got = await (await make_client(webhook_timeout_s=30.0)).send(event(f"http://127.0.0.1:{port}/"))
    server.close()
    assert (got.status, got.error) == (200, None), "not given up, but answered"


async def test_retry_after_as_seconds_and_as_a_date(make_client: MakeClient) -> None:
    client = await make_client()
    wanted = {"120": 120.0, "Wed, 21 Oct 2015 07:28:00 GMT": 0.0, "-5": 0.0, "": 0.0, "9" * 30: 999_999_999.0}

    async with Receiver() as receiver:
        for given, seconds in wanted.items():
            receiver.behave = answers(503, Retry_After=given)
            assert (await client.send(event(receiver.url))).retry_after_s == seconds


async def test_a_proxy_of_the_environment_is_not_used(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with Receiver() as receiver:
        assert (await (await make_client()).send(event(receiver.url))).error is None
