"""Are the hot queries fast on a filled table? Fills a database of its own, prints each plan's index and milliseconds.

    python -m benchmarks.database --rows 1000000

Needs a PostgreSQL (``safeguard up``, or SAFEGUARD_DATABASE_URL) whose user may create a database; drops it at the end.
Exits with 1 if a hot query scans a whole table.
"""

import argparse
import asyncio
import json
import time
from typing import Any

import asyncpg
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from sqlalchemy.dialects.postgresql.base import PGDialect

from configs.settings import load_settings
from storage import claims, images, migrate
from storage.database import database_dsn

DATABASE = "safeguard_benchmark"
TINY = {"generation"}
"""Tables of a few rows: reading them whole is the best plan."""

FILL_IMAGES = """
INSERT INTO image (name, status, model_name, s3_path, sha256, size_bytes, media_type, width, height, uploaded_at, attempt,
                   lease_token, lease_expires_at)
SELECT 'picture ' || i, CASE WHEN i % 100 < 2 THEN 'UPLOADED' WHEN i % 1000 = 500 THEN 'PROCESSING' ELSE 'PROCESSED' END,
       CASE WHEN i % 7 = 0 THEN 'other' ELSE 'safeguard-v1' END, 'images/' || i, sha256(int8send(i / 2)), 50000,
       'image/jpeg', 500, 375, now(), 1, CASE WHEN i % 1000 = 500 THEN gen_random_uuid() END,
       CASE WHEN i % 1000 = 500 THEN now() + (i % 600) * interval '1 second' END
FROM generate_series($1::bigint, $2::bigint) AS i
"""
FILL_LINKS = """
INSERT INTO image_match (image_a, image_b, descriptor, relation, method, score, threshold, evidence)
SELECT i, i + j, d, 'copy', 'pdq', 0.9, 0.88, '{"distance_bits": 12}' FROM generate_series($1::bigint, $2::bigint) AS i,
generate_series(1, 2) AS j, unnest(ARRAY['new@1', 'old@1']) AS d WHERE i + j <= $2
"""
FILL_GENERATIONS = """
INSERT INTO generation (model_name, state, descriptor)
VALUES ('safeguard-v1', 'live', 'new@1'), ('safeguard-v1', 'previous', 'old@1'), ('other', 'live', 'new@1')
"""


def hot_queries(middle: int) -> dict[str, str]:
    """Name -> SQL as the platform sends it, with values in place."""
    claim = str(claims.CLAIM)
    for name, value in {":lease_s": "60", ":model_name": "'safeguard-v1'", ":limit": "16"}.items():
        claim = claim.replace(name, value)
    # The driver's dialect writes operators of its own: the plain one gives SQL as a person would type it.
    links = str(images.matches_query(middle).compile(dialect=PGDialect(), compile_kwargs={"literal_binds": True}))
    return {
        "claim 16": claim,
        "expired leases": "SELECT id FROM image WHERE status = 'PROCESSING' AND lease_expires_at < now() LIMIT 200",
        "list a page by status": "SELECT id, name, s3_path FROM image WHERE status = 'PROCESSED'"
        f" AND uploaded_at IS NOT NULL AND id > {middle} ORDER BY id LIMIT 1000",
        "one image": f"SELECT * FROM image WHERE id = {middle} AND uploaded_at IS NOT NULL",
        "links of an image": links,
        "same bytes": f"SELECT id FROM image WHERE sha256 = sha256(int8send({middle // 2}))",
        "unfinished uploads": "SELECT id FROM image WHERE uploaded_at IS NULL AND created_at < now() - interval '1 hour'",
    }


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """All nodes of a plan."""
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


async def measure(dsn: str, rows: int, console: Console) -> bool:
    """Fills the database and prints the table; True if no hot query scans a table."""
    connection = await asyncpg.connect(dsn, timeout=10)
    started = time.monotonic()
    await connection.execute(FILL_GENERATIONS)
    for first in range(1, rows + 1, 100_000):
        last = min(rows, first + 99_999)
        await connection.execute(FILL_IMAGES, first, last, timeout=600)
        await connection.execute(FILL_LINKS, first, last, timeout=600)
    await connection.execute("VACUUM ANALYZE", timeout=600)
    size = await connection.fetchval("SELECT pg_database_size(current_database())")
    console.print(
        f"{rows:,} images filled in {time.monotonic() - started:.0f} s, {size / rows:.0f} bytes an image with links"
    )
    table = Table("query", "ms", "buffers", "by", title=f"hot queries at {rows:,} images")
    good = True
    for name, query in hot_queries(rows // 2).items():
        best: dict[str, Any] | None = None
        for _ in range(5):
            async with connection.transaction():
                explained = json.loads(await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}"))[0]
            if best is None or explained["Execution Time"] < best["Execution Time"]:
                best = explained
        assert best is not None
        parts = nodes(best["Plan"])
        scans = [node["Relation Name"] for node in parts if node["Node Type"] == "Seq Scan"]
        scans = [name for name in scans if name not in TINY]
        good &= not scans
        used = sorted({node["Index Name"] for node in parts if "Index Name" in node})
        buffers = best["Plan"]["Shared Hit Blocks"] + best["Plan"]["Shared Read Blocks"]
        table.add_row(
            name, f"{best['Execution Time']:.2f}", str(buffers), "SCAN " + scans[0] if scans else ", ".join(used)
        )
    console.print(table)
    await connection.close()
    return good


async def main() -> int:
    """Makes the database, measures, drops it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    settings = load_settings()
    dsn = database_dsn(settings)
    own = dsn.rsplit("/", 1)[0] + "/" + DATABASE
    admin = await asyncpg.connect(dsn, timeout=10)
    await admin.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
    await admin.execute(f"CREATE DATABASE {DATABASE}")
    try:
        await asyncio.to_thread(migrate.upgrade, settings.model_copy(update={"database_url": SecretStr(own)}))
        return 0 if await measure(own, rows, Console(width=130)) else 1
    finally:
        await admin.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")
        await admin.close()


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
