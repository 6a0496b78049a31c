"""Where requests may lead: the guard against requests into private networks (SSRF). Imports configs and errors only.

A name is resolved here, every address that it has is checked, and the very address that was checked is connected to
(``client.GuardedBackend``), so a name that changes its mind in between gains nothing.
"""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from socket import SOCK_STREAM, getaddrinfo
from socket import gaierror as ResolutionError
from typing import Literal

import httpx

from configs.settings import Settings
from storage.errors import InvalidInput, SafeGuardError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Private = Literal["webhook_allow_private", "fetch_allow_private"]
Resolve = Callable[[str, int], Awaitable[list[str]]]
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NEVER = tuple(
    ipaddress.ip_network(one)
    for one in ("168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24", "fec0::/10", "3fff::/20")
)
"""Global for some versions of Python: metadata of Azure and Oracle, protocol assignments, the old 6to4 relays, sites'
own addresses, documentation."""
_MAX_URL = 2000
_THREADS = 32
"""One name that hangs holds up nobody else."""


class AddressRefused(SafeGuardError):
    """An address must not be connected to; the message says why."""


class SystemResolver:
    """Asks the system for the addresses of a name, in threads of its own: names that hang hold up nothing else."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="resolve")

    async def __call__(self, host: str, port: int) -> list[str]:
        """See ``Resolve``."""
        asked = partial(getaddrinfo, host, port, type=SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, asked)
        return list(dict.fromkeys(str(one[4][0]) for one in found))

    def close(self) -> None:
        """Waits for none of the names that hang."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _meant(address: Address) -> Address:
    """The IPv4 address inside of an IPv6 one, where there is one."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        inside = address.sixtofour or (address.teredo and address.teredo[1])
        if inside and not inside.is_global:
            return inside
    return address


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


class Guard:
    """Checks addresses.

    Args:
        settings: say which networks and whether plain http are allowed.
        resolve: gives the addresses of a name.
        private: the setting that allows networks beside the public internet. One for each of those who give addresses:
            where an admin's webhooks may lead is not for whoever looks a picture up.
    """

    def __init__(self, settings: Settings, resolve: Resolve, *, private: Private = "webhook_allow_private") -> None:
        self._allowed: Sequence[Network] = getattr(settings, private)
        self._setting = f"SAFEGUARD_{private.upper()}"
        self._http = settings.webhook_allow_http
        self._timeout_s = settings.webhook_connect_timeout_s
        self._resolve = resolve

    def _allows(self, address: Address) -> bool:
        return any(address.version == network.version and address in network for network in self._allowed)

    def refusal(self, address: str, *, plain: bool) -> str | None:
        """Why an IP address must not be connected to; None if it may.

        Args:
            address: as the resolver gives it.
            plain: without TLS.
        """
        found = _literal(address)
        if found is None:
            return f"{address} is no IP address"
        meant = _meant(found)
        if self._allows(meant):
            return None
        never = any(meant.version == network.version and meant in network for network in _NEVER)
        if never or not meant.is_global or meant.is_multicast or meant.is_reserved:
            return f"{address} is not on the public internet; {self._setting} can allow its network"
        if plain and not self._http:
            return f"http:// is only for networks in {self._setting}, or with SAFEGUARD_WEBHOOK_ALLOW_HTTP"
        return None

    async def addresses(self, host: str, port: int, *, plain: bool) -> list[str]:
        """The addresses of a host, each checked.

        Raises:
            AddressRefused: it has none within the limit of time, or one that must not be connected to.
        """
        if _literal(host) is not None:
            found: Sequence[str] = [host]
        else:
            try:
                async with asyncio.timeout(self._timeout_s):
                    found = await self._resolve(host, port)
            except (ResolutionError, UnicodeError) as error:
                raise AddressRefused(f"the name {host} does not resolve") from error
            except TimeoutError as error:
                raise AddressRefused(f"the name {host} did not resolve within {self._timeout_s:g} s") from error
        if not found:
            raise AddressRefused(f"the name {host} does not resolve")
        for one in found:
            reason = self.refusal(one, plain=plain)
            if reason is not None:
                raise AddressRefused(reason if one == host else f"{host}: {reason}")
        return list(found)

    async def check(self, url: str) -> str:
        """An address that somebody wants to have events sent to.

        Returns:
            It in its normal form.
        Raises:
            InvalidInput: it is malformed, its name does not resolve, or it leads where it must not.
        """
        parsed = parse(url)
        try:
            await self.addresses(parsed.raw_host.decode(), port_of(parsed), plain=parsed.scheme == "http")
        except AddressRefused as error:
            raise InvalidInput(str(error), "url") from error
        return str(parsed)


def port_of(url: httpx.URL) -> int:
    """The port, where none is given that of the scheme."""
    return url.port or (443 if url.scheme == "https" else 80)


def parse(url: str) -> httpx.URL:
    """An address in parts.

    Raises:
        InvalidInput: it is no http(s) address of a host, or has a password or a fragment.
    """
    if len(url) > _MAX_URL:
        raise InvalidInput(f"the address is longer than {_MAX_URL} characters", "url")
    try:
        parsed = httpx.URL(url)
        host = parsed.raw_host.decode()
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise InvalidInput(f"not an address: {error}", "url") from error
    if parsed.scheme not in ("http", "https") or not host:
        raise InvalidInput("not an address of the form https://host/path", "url")
    if parsed.userinfo:
        raise InvalidInput("an address with a password is not taken; check the signature instead", "url")
    if parsed.fragment:
        raise InvalidInput("what follows # is never sent; leave it out", "url")
    if parsed.port is not None and not 0 < parsed.port < 2**16:
        raise InvalidInput(f"there is no port {parsed.port}", "url")
    return parsed
