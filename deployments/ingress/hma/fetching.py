"""Fetches a picture from an address that a client gives: within limits, to checked addresses only. Knows no route."""

import asyncio
import ssl
from urllib.parse import urldefrag, urljoin

import httpcore

from configs.settings import Settings
from deployments.webhooks.addresses import AddressRefused, Guard, Resolve, parse, port_of
from deployments.webhooks.client import GuardedBackend
from storage.errors import InvalidInput, TooLarge

_HOPS = 3
"""Redirects that are followed; each leads to an address that is checked like the first."""
_FIELD = "url"


class Fetcher:
    """Reads pictures at addresses. One for a replica: it keeps no connections.

    Args:
        settings: limits of time and size; beside the public internet only networks of ``fetch_allow_private`` are read.
        resolve: gives the addresses of a name.
        tls: what certificates are trusted.
    """

    def __init__(self, settings: Settings, resolve: Resolve, tls: ssl.SSLContext) -> None:
        self._settings, self._tls = settings, tls
        self._guard = Guard(settings, resolve, private="fetch_allow_private")

    async def fetch(self, url: str) -> bytes:
        """The bytes at an address.

        Args:
            url: http(s).
        Raises:
            InvalidInput: the address is malformed, leads where it must not, does not answer in time, or not with 200.
            TooLarge: there are more bytes than in the largest upload.
        """
        total_s = self._settings.webhook_timeout_s
        try:
            async with asyncio.timeout(total_s):
                for _ in range(_HOPS + 1):
                    found = await self._get(url)
                    if isinstance(found, bytes):
                        return found
                    url = found
        except TimeoutError as error:
            raise InvalidInput(f"the address did not answer within {total_s:g} s", _FIELD) from error
        except AddressRefused as error:
            raise InvalidInput(str(error), _FIELD) from error
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            raise InvalidInput(f"the address could not be read: {type(error).__name__}", _FIELD) from error
        raise InvalidInput(f"the address leads on more than {_HOPS} times", _FIELD)

    async def _get(self, url: str) -> bytes | str:
        """The bytes, or the address that a redirect leads to."""
        parsed = parse(url)
        plain, port = parsed.scheme == "http", port_of(parsed)
        host = f"[{parsed.host}]" if ":" in parsed.host else parsed.raw_host.decode()
        default = 80 if plain else 443
        headers = [
            (b"Host", (host if port == default else f"{host}:{port}").encode()),
            (b"Accept", b"image/*"), (b"Accept-Encoding", b"identity"), (b"User-Agent", b"SafeGuard"),
        ]  # fmt: skip
        target = httpcore.URL(scheme=parsed.scheme.encode(), host=parsed.raw_host, port=port, target=parsed.raw_path)
        settings, total = self._settings, self._settings.webhook_timeout_s
        limits = {"connect": settings.webhook_connect_timeout_s, "read": total, "write": total, "pool": total}
        async with (
            httpcore.AsyncConnectionPool(
                ssl_context=self._tls, network_backend=GuardedBackend(self._guard, plain=plain)
            ) as pool,
            pool.stream("GET", target, headers=headers, extensions={"timeout": limits}) as answer,
        ):
            if 300 <= answer.status < 400:
                location = {name.lower(): value for name, value in answer.headers}.get(b"location")
                if location is None:
                    raise InvalidInput(f"the address answers {answer.status} and does not say where to", _FIELD)
                try:
                    return urldefrag(urljoin(url, location.decode("latin-1"))).url
                except ValueError as error:
                    raise InvalidInput(f"not an address: {error}", _FIELD) from error
            if answer.status != 200:
                raise InvalidInput(f"the address answers {answer.status}", _FIELD)
            data = bytearray()
            async for chunk in answer.aiter_stream():
                data += chunk
                if len(data) > settings.max_upload_bytes:
                    raise TooLarge(f"there are more than {settings.max_upload_bytes} bytes at the address")
            return bytes(data)
