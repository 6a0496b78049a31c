"""What webhooks deliver and what they cost.

    python -m benchmarks.webhooks [--events 2000] [--rounds 15]

Deliveries a second to a receiver in this process, the time from a commit to its arrival while nothing else is sent, and
the time of the transaction that finishes 32 images with 0, 1 and 10 webhooks that want all its events. The embedded
servers in a folder of their own (removed afterwards).
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network

from rich.console import Console
from rich.table import Table
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.servers import own_servers
from configs.settings import Settings
from deployments.webhooks.client import WebhookClient
from deployments.webhooks.sender import Sender
from storage import claims, webhooks
from storage.claims import FoundObject, Outcome
from storage.database import create_engine
from storage.outbox import EventType, emit, emit_many
from storage.policy_changes import ensure_active

IMAGES = 32
_FILL = text("""
INSERT INTO image (name, status, model_name, s3_path, sha256, size_bytes, media_type, width, height, uploaded_at)
SELECT 'a', 'UPLOADED', 'm', 'images/' || gen_random_uuid(), sha256(gen_random_uuid()::text::bytea), 1, 'image/jpeg', 9, 9,
       now() FROM generate_series(1, :count)
""")


class Receiver:
    """Takes every message at once and notes when it came."""

    def __init__(self) -> None:
        self.arrived: list[float] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                self.arrived.append(time.perf_counter())
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def until(self, count: int) -> None:
        """Waits for so many messages."""
        async with asyncio.timeout(600):
            while len(self.arrived) < count:  # noqa: ASYNC110 (an event for each would be measured too)
                await asyncio.sleep(0.002)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on the loopback."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    yield receiver
    server.close()


@asynccontextmanager
async def sending(engine: AsyncEngine, settings: Settings) -> AsyncIterator[None]:
    """A sender with the options of serve_config.yaml."""
    client = WebhookClient(settings)
    sender = Sender(engine, settings, client)
    await sender.start()
    yield
    await sender.close()
    await client.close()


@asynccontextmanager
async def wanting(engine: AsyncEngine, url: str, count: int) -> AsyncIterator[None]:
    """So many webhooks that want everything."""
    made = [await webhooks.create(engine, url, created_by="benchmark") for _ in range(count)]
    yield
    for one in made:
        assert one.id is not None
        await webhooks.remove(engine, one.id, actor="benchmark")


async def per_second(engine: AsyncEngine, settings: Settings, events: int, count: int) -> float:
    """Deliveries a second of a backlog, two events an image, to ``count`` webhooks."""
    async with receiving() as receiver, wanting(engine, receiver.url, count):
        for start in range(0, events, 20):
            async with engine.begin() as connection:
                batch = [(EventType.IMAGE_DECIDED, n // 2, {"verdict": "allow"}) for n in range(start, start + 20)]
                await emit_many(connection, batch)
        begun = time.perf_counter()
        async with sending(engine, settings):
            await receiver.until(events * count)
            taken = time.perf_counter() - begun
    return events * count / taken


async def latencies(engine: AsyncEngine, settings: Settings, rounds: int) -> list[float]:
    """Seconds from a commit to the arrival, one event at a time."""
    found = []
    async with receiving() as receiver, wanting(engine, receiver.url, 1), sending(engine, settings):
        for n in range(rounds + 3):
            await asyncio.sleep(0.1)
            async with engine.begin() as connection:
                await emit(connection, EventType.IMAGE_DECIDED, n, {"verdict": "allow"})
            committed = time.perf_counter()
            await receiver.until(n + 1)
            found.append(receiver.arrived[-1] - committed)
    return found[3:]  # listening and the first connection are left out


async def finishing(engine: AsyncEngine, counts: list[int], rounds: int) -> dict[int, list[float]]:
    """Seconds of the transaction that finishes 32 images, by number of webhooks; nothing is sent meanwhile."""
    found: dict[int, list[float]] = {count: [] for count in counts}
    for turn in range(rounds + 2):
        for count in counts:
            async with wanting(engine, "http://127.0.0.1:9/", count):
                async with engine.begin() as connection:
                    await connection.execute(_FILL, {"count": IMAGES})
                held = await claims.claim(engine, ["m"], IMAGES, lease_s=600, max_attempts=3)
                objects = [FoundObject("person", 0.9, (1.0, 2.0, 3.0, 4.0), "nanodet@1")] * 2
                outcomes = [Outcome(one, objects=objects, content_scores={"f@1": 0.1}) for one in held]
                begun = time.perf_counter()
                done = await claims.finish(engine, outcomes)
                taken = time.perf_counter() - begun
                assert len(done) == IMAGES
                if turn >= 2:
                    found[count].append(taken)
    return found


async def measure(settings: Settings, events: int, rounds: int, console: Console) -> None:
    """Everything, printed."""
    engine = create_engine(settings, pool_size=8)
    await ensure_active(engine, actor="benchmark")
    table = Table("what", "median", "of", "least", "most", title="webhooks")
    for count in (1, 10):
        rate = await per_second(engine, settings, events // count, count)
        table.add_row(f"deliveries a second, {count} webhooks", f"{rate:.0f}", f"{events} deliveries", "", "")
    seconds = {"commit to arrival, ms": await latencies(engine, settings, max(50, rounds))}
    finished = await finishing(engine, [0, 1, 10], rounds)
    seconds |= {f"finishing {IMAGES} images with {count} webhooks, ms": taken for count, taken in finished.items()}
    for what, taken in seconds.items():
        numbers = (f"{one * 1000:.1f}" for one in (statistics.median(taken), min(taken), max(taken)))
        median, least, most = numbers
        table.add_row(what, median, str(len(taken)), least, most)
    console.print(table)
    await engine.dispose()


def main() -> None:
    """Starts the servers, measures, removes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with own_servers() as made:
        settings = made.model_copy(update={"webhook_allow_private": [ip_network("127.0.0.0/8")]})
        events = max(200, options.events // 200 * 200)
        asyncio.run(measure(settings, events, options.rounds, Console(width=110, highlight=False)))


if __name__ == "__main__":
    main()
