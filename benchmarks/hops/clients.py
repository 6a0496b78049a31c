"""Clients that keep their connection and cost as little as they can: they share the machine with what they measure."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_LIMIT_S = 30.0


@dataclass(frozen=True)
class Times:
    """Seconds that each call took, and calls a second of all clients together."""

    taken_s: Sequence[float]
    per_s: float

    def ms(self, share: float) -> float:
        """A quantile in milliseconds."""
        return float(np.quantile(self.taken_s, share) * 1000)


def joined(rounds: Sequence[Times]) -> Times:
    """Several rounds of the same as one."""
    return Times([one for times in rounds for one in times.taken_s], float(np.mean([one.per_s for one in rounds])))


def get(port: int, path: str, key: str, *, clients: int, seconds: float) -> Times:
    """GETs of one address on loopback by ``clients`` at a time, for so long.

    Raises:
        RuntimeError: an answer was not 200.
        OSError: nobody listens there, or an answer took too long.
    """
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\n\r\n".encode()

    async def client(end: float) -> list[float]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        taken = []
        try:
            while (begun := time.perf_counter()) < end:
                writer.write(request)
                async with asyncio.timeout(_LIMIT_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    await reader.readexactly(_length(head))
                taken.append(time.perf_counter() - begun)
        finally:
            writer.close()
        return taken

    async def run() -> list[list[float]]:
        end = time.perf_counter() + seconds
        return await asyncio.gather(*(client(end) for _ in range(clients)))

    taken = [one for client in asyncio.run(run()) for one in client]
    return Times(taken, len(taken) / seconds)


def _length(head: bytes) -> int:
    """Bytes of the body that belongs to the head of an answer.

    Raises:
        RuntimeError: it is not 200, or does not say how long it is.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
    if first.split()[1] != "200" or "content-length" not in fields:
        raise RuntimeError(f"unexpected answer: {first}")
    return int(fields["content-length"])
