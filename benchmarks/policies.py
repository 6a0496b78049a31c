"""What policies and banks cost: microseconds a judgement, and their share of the processing of a picture.

    python -m benchmarks.policies PHOTOS [--banks 1000] [--members 1000] [--rules 100] [--images 480]

Judging runs in this process. Deciding runs against a PostgreSQL of its own: once without banks by the shipped policy,
once with all banks and rules, in transactions of 16 images as the pipeline has them. Comparing runs on one thread
over the hashes of all members, in eight orientations, for the first 32 pictures of PHOTOS; plain processing is what the cascade
takes for the same pictures: decode, networks, search among them, verification. Every 20th image is a copy of a member.
Comparing and plain processing are CPU time of this process, deciding is time on the clock, waiting for the database
included: on a busy machine the share comes out too large, not too small. Exits with 1 where banks and rules cost more
than 5 % of plain processing.
"""

import argparse
import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
from rich.console import Console
from rich.table import Table
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.accuracy.dataset import encoded, read_pictures
from benchmarks.local import LocalCascade
from benchmarks.servers import own_servers
from configs.facts import BankMatch, Facts, SeenObject
from configs.models import load_models
from configs.policies import Policy
from configs.policy_references import Known
from configs.policy_source import parse_policy
from configs.settings import Settings
from deployments.pipeline.look import Look
from deployments.similarity.hash_index import HashIndex
from storage.bank_changes import hold_banks
from storage.database import create_engine, database_dsn
from storage.decisions import decide
from storage.policy_changes import SHIPPED, apply, ensure_active

MOST = 0.05
_BATCH = 16
_PICTURES = 32
_LIMIT = 31
_IMAGES = """
INSERT INTO image (name, status, model_name, s3_path, sha256, size_bytes, media_type, width, height, uploaded_at, processed_at,
                   attempt)
SELECT 'picture ' || i, 'PROCESSED', 'safeguard-v1', 'images/' || i, sha256(int8send(-i)), 50000, 'image/jpeg', 500, 375,
       now(), now(), 1 FROM generate_series(1::bigint, $1::bigint) AS i
"""
_FACTS = (
    "INSERT INTO content_score (image_id, model, score) SELECT id, 'opennsfw@1', (id % 97) / 200.0 FROM image",
    "INSERT INTO detection (image_id, ordinal, label, score, x0, y0, x1, y1, model)"
    " SELECT id, n, 'person', 0.9 - n * 0.1, 0, 0, 100, 100, 'nanodet@1' FROM image, generate_series(0, 2) AS n",
    "INSERT INTO image_match (image_a, image_b, descriptor, relation, method, score, threshold, evidence)"
    " SELECT a.id, a.id + n, '', 'copy', 'pdq', 0.95, 0.88, '{}' FROM image a, generate_series(1, 3) AS n"
    " WHERE EXISTS (SELECT FROM image b WHERE b.id = a.id + n)",
)
_COPIES = """
INSERT INTO image_match (image_a, image_b, descriptor, relation, method, score, threshold, evidence)
SELECT i, $1::bigint + 1 + i % $2::bigint, '', 'copy', 'pdq', 0.95, 0.88, '{}' FROM generate_series(20, $1::bigint, 20) AS i
ON CONFLICT DO NOTHING
"""
_BANKS = """
INSERT INTO bank (name, kind, relations, pdq_distance, created_by)
SELECT 'bank ' || i, 'unacceptable', '{exact,copy}', 31, 'benchmark' FROM generate_series(1, $1::int) AS i
"""
# Of each 1,000 members 900 are PDQ hashes, 99 SHA-256 and one is a stored image.
_MEMBERS = """
INSERT INTO bank_member (bank_id, added_by, image_id, pdq, sha256)
SELECT bank.id, 'benchmark', CASE WHEN n = 0 THEN $2::bigint + bank.id END,
       CASE WHEN n > 0 AND n % 10 <> 0 THEN sha256(int8send(bank.id * 1000000 + n)) END,
       CASE WHEN n > 0 AND n % 10 = 0 THEN sha256(int8send(bank.id * 1000000 + n)) END
FROM bank, generate_series(0, $1::int - 1) AS n
"""


def many_rules(rules: int, banks: int) -> str:
    """A policy of that many rules: banks by name, scores, and combinations with people and files."""
    lines = ["conditions:", "  people: {object: {label: person, min_count: 2}}", "rules:"]
    for number in range(rules):
        names = ", ".join(f"bank {1 + (number * 10 + n) % banks}" for n in range(10))
        when = (
            f"{{match: {{banks: [{names}]}}}}",
            f"{{unsafe: {{min_score: {0.5 + number / (2 * rules):.4f}}}}}",
            f"{{all: [{{use: people}}, {{unsafe: {{min_score: 0.4}}}}, {{not: {{file: {{min_width: {number}}}}}}}]}}",
            f"{{any: [{{match: {{banks: [{names}], min_score: 0.99}}}}, {{file: {{min_bytes: {10**7 + number}}}}}]}}",
        )[number % 4]
        lines.append(f"  - {{name: rule {number}, action: review, severity: {number % 10}, reason: r, when: {when}}}")
    return "\n".join(lines) + "\n"


def facts(matches: int) -> Facts:
    """An image with three people and that many matches in banks."""
    found = tuple(BankMatch(f"bank {n + 1}", "unacceptable", n, None, "copy", "pdq", 0.9, 0.88) for n in range(matches))
    people = tuple(SeenObject("person", 0.9, 0.2) for _ in range(3))
    return Facts(1, "safeguard-v1", "image/jpeg", 50_000, 500, 375, {"opennsfw@1": 0.1}, people, found)


def judging(policy: Policy, of: Facts) -> float:
    """Microseconds of one judgement: the median of rounds."""
    rounds = []
    for _ in range(20):
        started = time.process_time()
        for _ in range(100):
            policy.judge(of)
        rounds.append((time.process_time() - started) / 100 * 1e6)
    return statistics.median(rounds)


async def deciding(engine: AsyncEngine, images: int) -> float:
    """Milliseconds an image of deciding on all of them anew: the median of transactions of 16."""
    async with engine.begin() as connection:
        await connection.execute(text("TRUNCATE decision, moderation, event CASCADE"))
    taken = []
    for first in range(1, images + 1, _BATCH):
        started = time.perf_counter()
        async with engine.begin() as connection:
            await hold_banks(connection, None)
            made = await decide(connection, range(first, first + _BATCH), cause="benchmark")
        taken.append((time.perf_counter() - started) / len(made) * 1e3)
    return statistics.median(taken)


def plain(settings: Settings, folder: Path) -> tuple[float, list[Look]]:
    """Milliseconds of CPU a picture of the cascade, and what was seen."""
    registry = load_models(settings.models_file)
    cascade = LocalCascade(registry[registry.default], settings, judge=True)
    files = [encoded(picture) for _, picture in read_pictures(folder)[0][:_PICTURES]]
    cascade.look(files[:8])  # warms up
    taken, looks = [], []
    for start in range(0, len(files), 8):
        started = time.process_time()
        found = [one for one in cascade.look(files[start : start + 8]) if isinstance(one, Look)]
        cascade.add(list(enumerate(found, start + 1)))
        for number, one in enumerate(found, start + 1):
            cascade.candidates(one, exclude=number)
        taken.append((time.process_time() - started) / len(found) * 1e3)
        looks += found
    return statistics.median(taken), looks


def comparing(looks: list[Look], hashes: int) -> float:
    """Milliseconds of CPU a picture of the comparison with that many random hashes."""
    numbers = np.random.default_rng(1)
    drawn = numbers.integers(0, 256, (hashes, 32), np.uint8)
    index = HashIndex(drawn, np.arange(hashes, dtype=np.int64), np.full(hashes, _LIMIT, np.int16))
    taken = []
    for one in looks:
        started = time.process_time()
        index.search(np.asarray(one.pdq, np.uint8))
        taken.append((time.process_time() - started) * 1e3)
    return statistics.median(taken)


async def both_ways(settings: Settings, options: argparse.Namespace) -> tuple[float, float]:
    """Milliseconds an image of deciding without banks by the shipped policy, and with all banks and rules."""
    engine = create_engine(settings)
    try:
        await ensure_active(engine, actor="benchmark")
        filler = await asyncpg.connect(database_dsn(settings), timeout=10)
        await filler.execute(_IMAGES, options.images + options.banks, timeout=600)
        for statement in _FACTS:
            await filler.execute(statement, timeout=600)
        await filler.execute(_COPIES, options.images, options.banks)
        await filler.execute("VACUUM ANALYZE", timeout=600)
        await deciding(engine, options.images)  # warms up
        without = await deciding(engine, options.images)
        await filler.execute(_BANKS, options.banks)
        await filler.execute(_MEMBERS, options.members, options.images, timeout=600)
        await filler.execute("VACUUM ANALYZE", timeout=600)
        await filler.close()
        rules = many_rules(options.rules, options.banks)
        await apply(engine, rules, Known(), actor="benchmark", rejudge=False)
        await deciding(engine, options.images)
        return without, await deciding(engine, options.images)
    finally:
        await engine.dispose()


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    for name, default in {"banks": 1000, "members": 1000, "rules": 100, "images": 480}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    options.images -= options.images % _BATCH
    console = Console(width=120)
    with own_servers() as settings:
        return measure(settings, options, console)


def measure(settings: Settings, options: argparse.Namespace, console: Console) -> int:
    """Prints the tables; 1 where banks and rules add more than they may."""
    table = Table("policy", "rules", "µs, no match", "µs, 1 match", "µs, 20 matches")
    for name, source in (("shipped", SHIPPED.read_text()), ("many", many_rules(options.rules, options.banks))):
        policy = parse_policy(source)
        table.add_row(name, str(len(policy.rules)), *(f"{judging(policy, facts(count)):.0f}" for count in (0, 1, 20)))
    console.print(table)
    whole, looks = plain(settings, options.photos)
    hashes = options.banks * options.members
    compared = comparing(looks, hashes)
    without, with_all = asyncio.run(both_ways(settings, options))
    more = compared + with_all - without
    rows: dict[str, Any] = {
        f"plain processing, {len(looks)} pictures": whole,
        "deciding, no bank, the shipped policy": without,
        f"deciding, {options.banks} banks × {options.members} members, {options.rules} rules": with_all,
        f"comparing with {hashes:,} hashes": compared,
        "what banks and rules add": more,
    }
    table = Table("step", "ms a picture", "of plain processing")
    for name, taken in rows.items():
        table.add_row(name, f"{taken:.2f}", f"{taken / whole:.1%}")
    console.print(table)
    return 0 if more <= MOST * whole else 1


if __name__ == "__main__":
    raise SystemExit(main())
