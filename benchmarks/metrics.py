"""What metrics cost: a reading of PostgreSQL on a filled database, and each kind of recording.

    python -m benchmarks.metrics [--images 300000] [--seconds 10]

The embedded PostgreSQL in a folder of its own (removed afterwards). "Share of a core" is the CPU time of this process and of
PostgreSQL over the pause between two readings, ``--seconds``.
"""

import argparse
import asyncio
import time
from collections.abc import Callable

import asyncpg
import psutil
from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.database import FILL_IMAGES
from benchmarks.servers import own_servers
from configs.settings import Settings
from deployments.metrics.collector import Collector
from deployments.metrics.local import LocalSink
from deployments.metrics.meters import meters, recording_to, stage
from deployments.metrics.registry import RaySink
from storage import figures
from storage.database import create_engine, database_dsn

_KNOWN = ["safeguard-v1"]
_VERDICTS = """
INSERT INTO moderation (image_id, verdict, severity, decision_id, facts_digest)
SELECT id, CASE WHEN id % 200 = 0 THEN 'review' WHEN id % 50 = 0 THEN 'block' ELSE 'allow' END, 0, id, ''
FROM image WHERE status = 'PROCESSED'
"""


async def fill(settings: Settings, images: int) -> None:
    """Images in all statuses of two models, and a verdict on each processed one."""
    connection = await asyncpg.connect(database_dsn(settings), timeout=10)
    for first in range(1, images + 1, 100_000):
        await connection.execute(FILL_IMAGES, first, min(images, first + 99_999), timeout=600)
    for statement in (_VERDICTS, "VACUUM ANALYZE"):
        await connection.execute(statement, timeout=600)
    await connection.close()


def _cpu_s(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes if process.is_running())


async def readings(engine: AsyncEngine, every_s: float, rounds: int = 12) -> list[tuple[str, str]]:
    """Milliseconds of the quick and of the slow part, and the share of a core of two minutes' worth of them."""
    rows = []
    parts = {"every reading": figures.figures, "every sixth": figures.slow_figures}
    for name, read in parts.items():
        taken = []
        for _ in range(5):
            began = time.perf_counter()
            await read(engine, _KNOWN)
            taken.append(time.perf_counter() - began)
        rows.append((f"PostgreSQL, {name}, median of 5", f"{sorted(taken)[2] * 1e3:.1f} ms"))
    with recording_to(LocalSink()):
        collector = Collector(engine, _KNOWN)
        await collector.collect()
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]  # PostgreSQL with its backends
        before = _cpu_s(processes)
        for _ in range(rounds):
            await collector.collect()
        spent = _cpu_s(processes) - before
    rows.append((f"collector, share of a core at a reading every {every_s:g} s", f"{spent / rounds / every_s:.2%}"))
    return rows


def recordings(count: int = 20_000) -> list[tuple[str, str]]:
    """Microseconds of each kind of recording, through Ray's metrics."""
    with recording_to(RaySink()):

        def in_stage() -> None:
            with stage("fetch", 8):
                pass

        kinds: dict[str, Callable[[], None]] = {
            "counter": lambda: meters().add("safeguard_claims_total", attempt="first"),
            "gauge": lambda: meters().set("safeguard_slots", 3, deployment="Pipeline"),
            "histogram": lambda: meters().observe("safeguard_http_latency_seconds", 0.01),
            "stage (three counters and two clocks)": in_stage,
        }
        rows = []
        for name, record in kinds.items():
            record()
            began = time.perf_counter()
            for _ in range(count):
                record()
            rows.append((f"recording: {name}", f"{(time.perf_counter() - began) / count * 1e6:.1f} µs"))
    return rows


async def measure(settings: Settings, images: int, every_s: float) -> Table:
    """All of it as a table."""
    engine = create_engine(settings)
    await fill(settings, images)
    table = Table("what", "cost", title=f"metrics at {images:,} images")
    for row in await readings(engine, every_s) + recordings():
        table.add_row(*row)
    await engine.dispose()
    return table


def main() -> None:
    """Starts PostgreSQL, measures, stops it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=300_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with own_servers() as settings:
        Console(width=110).print(asyncio.run(measure(settings, options.images, options.seconds)))


if __name__ == "__main__":
    main()
