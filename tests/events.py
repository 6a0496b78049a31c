"""A receiver of webhooks that is a real HTTP server, and a database without events left over."""

import asyncio
import base64
import hashlib
import hmac
import json
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from storage import delivery_log
from storage.delivery_log import DeliveryRecord
from storage.event_tables import DeliveryState, Webhook
from storage.outbox import EventType, emit_many

LOOPBACK = [ip_network("127.0.0.0/8")]


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    headers: dict[str, str]
    body: bytes
    line: str

    @property
    def message_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def content(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    def is_signed_with(self, secret: str) -> bool:
        """By the text of the specification, apart from the product's code."""
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        key = base64.b64decode(secret.split("_", 1)[1])
        wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return f"v1,{wanted}" in self.headers["webhook-signature"].split(" ")


Behave = Callable[[Received], Awaitable[tuple[int, dict[str, str]]]]


async def takes(_: Received) -> tuple[int, dict[str, str]]:
    """A receiver that is well."""
    return 200, {}


def held_back(released: asyncio.Event) -> Behave:
    """Answers 200 once the event is set."""

    async def behave(_: Received) -> tuple[int, dict[str, str]]:
        await released.wait()
        return 200, {}

    return behave


def answers(status: int, **headers: str) -> Behave:
    """A receiver that always says the same."""

    async def behave(_: Received) -> tuple[int, dict[str, str]]:
        return status, headers

    return behave


def self_signed(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For a server: a certificate of hook.invalid that is signed by itself; for a client: trust in that alone."""
    openssl = shutil.which("openssl")
    assert openssl, "the tests need openssl"
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=hook.invalid", "-addext", "subjectAltName=DNS:hook.invalid",
         "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(cert, key)
    return served, ssl.create_default_context(cafile=str(cert))


class Receiver:
    """An HTTP server on the loopback; ``async with Receiver(behave) as receiver``."""

    def __init__(self, behave: Behave = takes, *, tls: ssl.SSLContext | None = None) -> None:
        self.behave = behave
        self.received: list[Received] = []
        self.taken: list[Received] = []
        self._tls = tls
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> "Receiver":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = int(self._server.sockets[0].getsockname()[1])
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}/hook?a=1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def until(self, done: Callable[["Receiver"], bool], timeout_s: float = 60.0) -> None:
        """Waits for something that this server has seen."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: done(self))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines if one)}
                received = Received(headers, await reader.readexactly(int(headers["content-length"])), line)
                self.received.append(received)
                async with self._changed:
                    self._changed.notify_all()
                status, more = await self.behave(received)
                if 200 <= status < 300:
                    self.taken.append(received)
                shown = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in more.items())
                length, body = ("", "") if status == 204 else ("content-length: 2\r\n", "ok")
                writer.write(f"HTTP/1.1 {status} x\r\n{length}{shown}\r\n{body}".encode())
                await writer.drain()
                async with self._changed:
                    self._changed.notify_all()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


def sending(servers: Settings, **more: Any) -> Settings:
    """Settings with small times that let webhooks lead to this machine."""
    small = {
        "webhook_allow_private": LOOPBACK, "webhook_timeout_s": 2.0, "webhook_connect_timeout_s": 1.0,
        "webhook_retry_s": 0.02, "webhook_retry_max_s": 0.2,
    }  # fmt: skip
    return servers.model_copy(update={**small, **more})


async def forget_events(engine: AsyncEngine) -> None:
    """Takes all webhooks, events and deliveries away."""
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM webhook"))
        await connection.execute(text("DELETE FROM event"))


async def until(done: Callable[[], Awaitable[Any]], timeout_s: float = 60.0) -> Any:
    """Asks again until the answer is true; returns it."""
    async with asyncio.timeout(timeout_s):
        while not (found := await done()):  # noqa: ASYNC110 (what is waited for is in PostgreSQL)
            await asyncio.sleep(0.02)
    return found


async def happen(engine: AsyncEngine, *images: int | None, type: EventType = EventType.IMAGE_DECIDED) -> None:
    """An event for each number, in one transaction."""
    async with engine.begin() as connection:
        await emit_many(connection, [(type, image, {"place": n}) for n, image in enumerate(images)])


async def records(engine: AsyncEngine, webhook: Webhook, *states: DeliveryState) -> list[DeliveryRecord]:
    assert webhook.id is not None
    return await delivery_log.listing(engine, webhook.id, states=states or tuple(DeliveryState))


async def settled(engine: AsyncEngine, webhook: Webhook, count: int) -> list[DeliveryRecord]:
    """All deliveries, by event, once so many are through or dead and none waits."""

    async def done() -> list[DeliveryRecord]:
        found = await records(engine, webhook)
        waiting = [one for one in found if one.state == DeliveryState.WAITING]
        return sorted(found, key=lambda one: one.event_id) if len(found) == count and not waiting else []

    found: list[DeliveryRecord] = await until(done)
    return found
