"""Stands between clients and one server, and breaks their connections: resets, stalls, and clients that vanish."""

import asyncio
import contextlib
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from deployments.bulk.background import BackgroundLoop
from storage.database import KEEPALIVE_COUNT, KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S

_CHUNK = 65_536
RESET, STALL, VANISH = "reset", "stalled", "vanished"
_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER of 0 s: closing sends RST, as a firewall or a crashed machine does, and drops what is on its way."""


@dataclass(frozen=True)
class Fate:
    """What befalls a connection in the middle of what it carries.

    Args:
        kind: ``reset``: both ends hear of it. ``stalled``: nothing passes for a while, then all of it.
            ``vanished``: the client hears of it at once, the server only after a while.
        upward: counted are bytes towards the server, else those from it: then it has done what the client never hears of.
        after: so many bytes.
        seconds: that stalling lasts, or that the server does not hear of it.
    """

    kind: str
    upward: bool
    after: int
    seconds: float


def fates(draw: np.random.Generator, *, most_bytes: int, most_s: float) -> Iterator[Fate]:
    """Fates without end: half of them resets; the bytes from 100 on are drawn evenly by their order of magnitude.

    Args:
        most_bytes: after which it comes at the latest, in the direction that was drawn.
        most_s: that a connection stalls, or that its end is unheard of, at the longest.
    """
    while True:
        kind = str(draw.choice([RESET, RESET, STALL, VANISH]))
        after = int(np.exp(draw.uniform(np.log(100), np.log(most_bytes))))
        yield Fate(kind, bool(draw.integers(2)), after, float(draw.uniform(most_s / 4, most_s)))


class _Connection:
    def __init__(self, relay: "Relay", client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._relay, self._client, self._server = relay, client, server
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._passed = {True: 0, False: 0}
        self._fate: Fate | None = None
        self.turn()

    def turn(self) -> None:
        """Meets the next fate that there is, counted from now on, or none."""
        self._fate, self._passed = self._relay.next_fate(), {True: 0, False: 0}

    async def carry(self, client: asyncio.StreamReader, server: asyncio.StreamReader) -> None:
        """Passes on what comes, until both ends have closed or its fate has ended it."""
        ways = [
            asyncio.create_task(self._pass(client, self._server, True)),
            asyncio.create_task(self._pass(server, self._client, False)),
        ]
        try:
            await asyncio.gather(*ways)
        except (OSError, asyncio.CancelledError):  # one of the ends has broken off, or fate has, or the relay ends
            pass
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for writer in (self._client, self._server):
                _break(writer)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upward: bool) -> None:
        while data := await reader.read(_CHUNK):
            fate = self._fate
            if fate is not None and fate.upward == upward:
                left = fate.after - self._passed[upward]
                self._passed[upward] += len(data)
                if len(data) >= left:
                    await self._send(writer, data[:left])
                    data = data[max(0, left) :]
                    await self._befall(fate)
            await self._send(writer, data)
        await self._flowing.wait()
        if writer.can_write_eof():
            writer.write_eof()

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        await self._flowing.wait()
        writer.write(data)
        await writer.drain()

    async def _befall(self, fate: Fate) -> None:
        self._fate = None
        self._relay.befell[fate.kind] += 1
        if fate.kind == RESET:
            raise ConnectionResetError
        self._flowing.clear()
        if fate.kind == VANISH:
            _break(self._client)
        await asyncio.sleep(fate.seconds)
        if fate.kind == VANISH:
            raise ConnectionResetError
        self._flowing.set()
        self.turn()


def _break(writer: asyncio.StreamWriter) -> None:
    found = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    writer.transport.abort()


def _look_after(writer: asyncio.StreamWriter) -> None:
    """A client that is cut off is missed as soon as PostgreSQL would miss it, had it the connection itself."""
    found = writer.get_extra_info("socket")
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S),
        (socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S),
        (socket.TCP_KEEPCNT, KEEPALIVE_COUNT),
        (socket.TCP_USER_TIMEOUT, 1000 * (KEEPALIVE_IDLE_S + KEEPALIVE_INTERVAL_S * KEEPALIVE_COUNT)),
    ):
        found.setsockopt(socket.IPPROTO_TCP, option, value)


class Relay:
    """Passes connections on to one server, in a thread of its own.

    Args:
        host, port: of the server.
        listen: the address that it is reached at.
    """

    def __init__(self, host: str, port: int, *, listen: str = "127.0.0.1") -> None:
        self._target, self._listen = (host, port), listen
        self._loop = BackgroundLoop()
        self._fates: Iterator[Fate | None] = iter(())
        self._connections: dict[_Connection, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.befell: Counter[str] = Counter()
        self._server = self._loop.run(asyncio.start_server(self._accept, listen, 0))

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def address(self) -> str:
        """Host and port as they stand in addresses."""
        return f"{self._listen}:{self.port}"

    def disturb(self, wanted: Iterator[Fate | None]) -> None:
        """From now on every connection meets a fate, those there are and then those to come, in their order."""

        async def turn() -> None:
            self._fates = wanted
            for connection in self._connections:
                connection.turn()

        self._loop.run(turn())

    def calm(self) -> None:
        """No connection is broken any more; stalls that have begun come to their end."""
        self.disturb(iter(()))

    def next_fate(self) -> Fate | None:
        """The fate of the next connection."""
        return next(self._fates, None)

    def close(self) -> None:
        """Breaks all connections and listens no more."""

        async def end() -> None:
            self._server.close()
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._loop.run(end())

    async def _accept(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            try:
                server, to_server = await asyncio.open_connection(*self._target)
            except OSError:
                _break(to_client)
                return
            _look_after(to_client)
            connection = _Connection(self, to_client, to_server)
            self._connections[connection] = None
            try:
                await connection.carry(client, server)
            finally:
                del self._connections[connection]
        finally:
            self._tasks.discard(task)
