"""What the chain of the audit costs: entries a second by connections that write at the same time, with it and without.

    python -m benchmarks.audit [--seconds 3]

A transaction an entry, and 100 entries a transaction; the embedded PostgreSQL in a folder of its own (removed afterwards).
"Without" is the same row in a table without chain and lock. Last: how fast ``verify`` follows the chain.
"""

import argparse
import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from benchmarks.servers import own_servers
from configs.settings import Settings
from storage.audit import record_many
from storage.audit_check import verify
from storage.audit_log import head
from storage.database import create_engine

_DETAIL = {
    "verdict": "review", "policy": "default@1", "rules": ["unsafe"], "scores": {"nsfw": 0.8231, "copy": 0.1174},
}  # fmt: skip
_PLAIN = text("""
INSERT INTO plain (at, actor, action, subject, detail, previous_hash, hash)
VALUES (clock_timestamp(), :actor, :action, :subject, CAST(:detail AS jsonb), :hash, :hash)
""")
_Entries = list[tuple[str, str, dict[str, Any]]]
_Write = Callable[[AsyncConnection, _Entries], Awaitable[None]]


async def chained(connection: AsyncConnection, entries: _Entries) -> None:
    """As the product writes."""
    await record_many(connection, "benchmark", entries)


async def plain(connection: AsyncConnection, entries: _Entries) -> None:
    """The same bytes, chained to nothing."""
    rows = [
        {"actor": "benchmark", "action": action, "subject": subject, "detail": json.dumps(detail),
         "hash": hashlib.sha256(subject.encode()).digest()}
        for action, subject, detail in entries
    ]  # fmt: skip
    await connection.execute(_PLAIN, rows)


async def rate(engine: AsyncEngine, write: _Write, writers: int, a_commit: int, seconds: float) -> float:
    """Entries a second."""
    end = time.perf_counter() + seconds
    begun, written = time.perf_counter(), 0

    async def run(writer: int) -> int:
        done = 0
        while time.perf_counter() < end:
            entries = [("image.decide", f"image/{writer}{done + n}", _DETAIL) for n in range(a_commit)]
            async with engine.begin() as connection:
                await write(connection, entries)
            done += a_commit
        return done

    written = sum(await asyncio.gather(*(run(writer) for writer in range(writers))))
    return written / (time.perf_counter() - begun)


async def measure(settings: Settings, seconds: float, console: Console) -> None:
    """Everything, printed."""
    engine = create_engine(settings, pool_size=8)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE plain (LIKE audit INCLUDING INDEXES)"))
        await connection.execute(text("ALTER TABLE plain ALTER COLUMN sequence ADD GENERATED ALWAYS AS IDENTITY"))
    table = Table(
        "connections", "entries a commit", "without chain, entries/s", "with chain, entries/s", title="the audit"
    )
    for a_commit in (1, 100):
        for writers in (1, 4, 8):
            rates = [await rate(engine, write, writers, a_commit, seconds) for write in (plain, chained)]
            table.add_row(str(writers), str(a_commit), *(f"{one:,.0f}" for one in rates))
    console.print(table)
    begun = time.perf_counter()
    checked = await verify(engine, known=await head(engine))
    taken = time.perf_counter() - begun
    assert checked.broken is None
    console.print(
        f"verify: {checked.head.sequence:,} entries in {taken:.1f} s, {checked.head.sequence / taken:,.0f} a second"
    )
    await engine.dispose()


def main() -> None:
    """Runs it on servers of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each cell of the table")
    chosen = parser.parse_args()
    with own_servers() as settings:
        asyncio.run(measure(settings, chosen.seconds, Console()))


if __name__ == "__main__":
    main()
