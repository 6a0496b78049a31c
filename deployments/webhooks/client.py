"""Sends one signed event: with limits of time and size, to checked addresses, never after a redirect. Knows no database."""

import asyncio
import contextlib
import os
import ssl
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import certifi
import httpcore

from configs.settings import Settings
from deployments.webhooks.addresses import AddressRefused, Guard, Resolve, SystemResolver, parse, port_of
from deployments.webhooks.signing import body_of, headers_of
from storage.deliveries import Outgoing
from storage.errors import InvalidInput

_ANSWER_BYTES = 16 * 2**10
_BODY_S = 1.0
_KEPT_S = 15.0
_POOLS = 256
"""More than twice the webhooks that there may be: the one that is closed was used by none of them for long."""


@dataclass(frozen=True)
class Answer:
    """What became of one try.

    Args:
        status: HTTP status; None without an answer.
        error: why it failed; None if the event was taken.
        retry_after_s: pause that the receiver has asked for, seconds.
    """

    status: int | None
    error: str | None
    retry_after_s: float = 0.0


def trusted() -> ssl.SSLContext:
    """What the system and certifi trust. It takes long to make and is not for an event loop's every request: keep it."""
    made = ssl.create_default_context()  # also what SSL_CERT_FILE names: a company's own authority
    made.load_verify_locations(certifi.where())
    return made


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to the very addresses that the guard has checked; TLS still verifies the name."""

    def __init__(self, guard: Guard, *, plain: bool) -> None:
        self._guard = guard
        self._plain = plain
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore's signature)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """See httpcore; the first address that answers is taken."""
        failed: Exception | None = None
        for address in await self._guard.addresses(host, port, plain=self._plain):
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        assert failed is not None
        raise failed

    async def sleep(self, seconds: float) -> None:
        """See httpcore."""
        await asyncio.sleep(seconds)


class WebhookClient:
    """Keeps connections to receivers; make it on the loop that uses it.

    Args:
        settings: limits of time, and where webhooks may lead.
        resolve: gives the addresses of a name; None asks the system.
        tls: what certificates are trusted; None: see ``trusted``.
    """

    def __init__(
        self, settings: Settings, *, resolve: Resolve | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._total_s = settings.webhook_timeout_s
        self._connect_s = settings.webhook_connect_timeout_s
        self._names = SystemResolver()
        self._guard = Guard(settings, resolve or self._names)
        self._tls = tls or trusted()
        self._pools: OrderedDict[tuple[int, str], httpcore.AsyncConnectionPool] = OrderedDict()

    async def _pool(self, webhook_id: int, scheme: str) -> httpcore.AsyncConnectionPool:
        """Each webhook has connections of its own: one pool for all would look at all of them for each request."""
        key = webhook_id, scheme
        if key not in self._pools:
            connector = GuardedBackend(self._guard, plain=scheme == "http")
            self._pools[key] = httpcore.AsyncConnectionPool(
                ssl_context=self._tls, max_connections=None, keepalive_expiry=_KEPT_S, network_backend=connector
            )
        self._pools.move_to_end(key)
        pool = self._pools[key]
        if len(self._pools) > _POOLS:
            _, oldest = self._pools.popitem(last=False)
            await oldest.aclose()
        return pool

    async def send(self, event: Outgoing) -> Answer:
        """One try."""
        body = body_of(event)
        try:
            async with asyncio.timeout(self._total_s):
                return await self._post(event, body)
        except TimeoutError:
            return Answer(None, f"no answer within {self._total_s:g} s")
        except (AddressRefused, InvalidInput) as error:
            return Answer(None, str(error))
        except httpcore.ConnectTimeout:
            return Answer(None, f"no connection within {self._connect_s:g} s")
        except httpcore.ConnectError as error:
            return Answer(None, f"no connection: {_said(error)}")
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            return Answer(None, f"the connection broke: {type(error).__name__}")

    async def _post(self, event: Outgoing, body: bytes) -> Answer:
        url = parse(event.url)
        default = {"http": 80, "https": 443}[url.scheme]
        port = port_of(url)
        host = f"[{url.host}]" if ":" in url.host else url.raw_host.decode()
        headers = [
            (b"Host", (host if port == default else f"{host}:{port}").encode()),
            *headers_of(event.message_id, event.secrets, body, datetime.now(UTC)),
            (b"Accept-Encoding", b"identity"),
            (b"Content-Length", str(len(body)).encode()),
        ]
        target = httpcore.URL(scheme=url.scheme.encode(), host=url.raw_host, port=port, target=url.raw_path)
        limits = {"connect": self._connect_s, "read": self._total_s, "write": self._total_s, "pool": self._total_s}
        pool = await self._pool(event.webhook_id, url.scheme)
        async with pool.stream("POST", target, headers=headers, content=body, extensions={"timeout": limits}) as answer:
            # Of the body nothing is used: a little is read, for a short time, so that the connection can be kept.
            read = 0
            with contextlib.suppress(TimeoutError, httpcore.NetworkError, httpcore.ProtocolError):
                async with asyncio.timeout(_BODY_S):
                    async for chunk in answer.aiter_stream():
                        read += len(chunk)
                        if read > _ANSWER_BYTES:
                            break
        return _judged(answer.status, dict(answer.headers))

    async def close(self) -> None:
        """Closes all connections."""
        for pool in self._pools.values():
            await pool.aclose()
        self._names.close()


def _judged(status: int, headers: dict[bytes, bytes]) -> Answer:
    if 200 <= status < 300:
        return Answer(status, None)
    if 300 <= status < 400:
        return Answer(status, f"answered {status}: redirects are not followed; give the address that it leads to")
    given = {name.lower(): value for name, value in headers.items()}.get(b"retry-after", b"")
    return Answer(status, f"answered {status}", _pause(given.decode("ascii", "replace").strip()))


def _pause(given: str) -> float:
    if given.isdigit():
        return float(given[:9])
    try:
        wanted = parsedate_to_datetime(given)
        return max(0.0, (wanted - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0.0


def _said(error: Exception) -> str:
    """What the system or TLS says, in few words."""
    cause: BaseException = error
    while (deeper := cause.__cause__ or cause.__context__) is not None:
        cause = deeper
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the certificate is not valid: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"TLS: {cause.reason or 'failed'}"
    return os.strerror(cause.errno) if isinstance(cause, OSError) and cause.errno else type(cause).__name__
