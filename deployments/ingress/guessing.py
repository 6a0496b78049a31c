"""Whoever sends wrong keys again and again has to wait: counted per address, in the memory of each replica. Knows no route."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from ipaddress import IPv6Address, ip_address, ip_network

from pydantic import IPvAnyNetwork
from starlette.requests import Request

from storage.errors import RateLimited

_MOST_ADDRESSES = 10_000
_WINDOW_S = 60.0
_log = logging.getLogger(__name__)


def client_address(request: Request, trusted: Sequence[IPvAnyNetwork]) -> str | None:
    """Who really called: the last address that no proxy of ours has.

    ``X-Forwarded-For`` is read from its end, where our own proxies write, and no further than the first address that is
    not one of theirs: what a caller writes into it is never believed.

    Args:
        trusted: networks of our proxies.
    Returns:
        An address, for IPv6 its network of 64 bits, which one customer has as a whole; None where every address is a
        proxy's: then it is not known who called.
    """
    sent = [part.strip() for value in request.headers.getlist("x-forwarded-for") for part in value.split(",")]
    hops = [*sent, request.client.host if request.client else ""]
    for hop in reversed(hops):
        try:
            address = ip_address(hop)
        except ValueError:
            return None
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        address = mapped or address
        if any(address.version == network.version and address in network for network in trusted):
            continue
        return str(address) if address.version == 4 else str(ip_network(f"{address}/64", strict=False))
    return None


class WrongKeys:
    """How often each address was wrong within the last minute.

    Args:
        most: wrong keys a minute before an address has to wait; 0 is no limit.
        clock: seconds that only grow.
        addresses: remembered at most; the one that began longest ago is forgotten first.
    """

    def __init__(
        self, most: int, *, clock: Callable[[], float] = time.monotonic, addresses: int = _MOST_ADDRESSES
    ) -> None:
        self._most = most
        self._clock = clock
        self._addresses = addresses
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def check(self, address: str | None) -> None:
        """Lets an address try, whatever key it has now: an answer to a right one would make guessing worth while.

        Raises:
            RateLimited: it was wrong too often.
        """
        begun, count = self._seen.get(address or "", (0.0, 0))
        left = begun + _WINDOW_S - self._clock()
        if self._most and address and count >= self._most and left > 0:
            raise RateLimited("too many wrong keys from this address", left)

    def count(self, address: str | None) -> None:
        """One more wrong key of an address."""
        if address is None or not self._most:
            return
        now = self._clock()
        begun, count = self._seen.get(address, (now, 0))
        if now - begun >= _WINDOW_S:
            begun, count = now, 0
            self._seen.pop(address, None)
        self._seen[address] = (begun, count + 1)
        if count + 1 == self._most:
            _log.warning("%s has sent %d wrong keys and must wait", address, self._most)
        while len(self._seen) > self._addresses:
            self._seen.popitem(last=False)

    def __len__(self) -> int:
        return len(self._seen)
