"""kill -9 at random moments in a bulk job; then everything is compared, row for row, with an undisturbed run.

    python -m benchmarks.backfill_faults PHOTOS [--pictures 2000] [--kills 10] [--seed 1]

Two installations in folders of their own (removed afterwards) index the same corpus of photos, edited copies and broken
objects. In the second a part drawn at random is killed after a pause drawn at random, again and again; PostgreSQL, S3 and
the Ray head are brought back by `up`, a dead job by `jobs resume`. Compared are images, detections, content scores, links
with their evidence, failures, counters and every vector. Exit code 1 if anything differs.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from benchmarks.pictures import corpus
from benchmarks.processes import PARTS, process_of
from benchmarks.servers import installation
from configs.models import load_models
from configs.settings import Settings
from deployments.similarity.replicas import spaces_of
from graphs.jobs import change, show, start
from graphs.service import up
from storage import jobs
from storage.database import create_engine
from storage.errors import SafeGuardError
from storage.job_tables import JobStatus
from storage.objects import ObjectStore
from storage.vectors import VectorTable, connect

BUCKET = "corpus"
SOURCE = f"s3://{BUCKET}/2024/"
JOB_PARTS = {"job's worker": ("ReaderAndDescriber", "Matcher"), "job's writer": ("Writer",)}
KILLED = ["job's runner", *JOB_PARTS, "SimilarityWriter", "PostgreSQL", "S3", "GCS"]
TOLERANCE = 1e-4
"""Of a number of a vector, which are up to 1: another process may round a float16 otherwise. How many did is printed."""
DIGIT = 1e-4
"""The last of numbers in evidence: what was rounded otherwise before may end on the other side of a half."""
IMAGE_COLUMNS = "s3_path, name, status, model_name, sha256, size_bytes, media_type, width, height, etag"


@dataclass
class Outcome:
    """What a run left behind, by path: ids may differ between two runs."""

    tables: dict[str, dict[Any, Any]] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


async def put_corpus(settings: Settings, data: Iterable[tuple[str, bytes]]) -> None:
    """Stores the pictures in folders, and one broken object for each hundred of them."""
    bucket = ObjectStore(settings.model_copy(update={"s3_bucket": BUCKET}))
    await bucket.ensure_buckets()
    for number, (name, content) in enumerate(data):
        await bucket.put(f"2024/{number // 200:03}/{name}", content, "image/jpeg")
        if number % 100 == 0:
            await bucket.put(f"2024/{number // 200:03}/broken-{number}.jpg", content[: len(content) // 3], "image/jpeg")
    bucket.close()


def job_part(home: Path, part: str) -> psutil.Process | None:
    """A process of a part of the job or of the service, None where there is none now."""
    if part in PARTS:
        return process_of(home, part)
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            ours = process.environ().get("SAFEGUARD_HOME") == str(home)
            title = " ".join(command)
            if part == "job's runner":
                right = "graphs.backfill" in title and "ray::" not in title and "python" in process.name()
            else:
                right = title.startswith("ray::") and any(f"({stage})" in title for stage in JOB_PARTS[part])
            if ours and right:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found[0] if found else None


def follow(home: Path, job_id: int, seconds: float) -> JobStatus | None:
    """Waits; returns the status when the job has ended before, None after ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            status = asyncio.run(show(home, job_id)).status
        except (SafeGuardError, OSError):
            status = JobStatus.RUNNING
        if status in (JobStatus.DONE, JobStatus.FAILED, JobStatus.CANCELLED):
            return JobStatus(status)
        time.sleep(1.0)
    return None


def run(
    home: Path,
    data: list[tuple[str, bytes]],
    kills: int,
    seed: int,
    cpus: int,
    console: Console,
    expected_s: float = 0.0,
) -> Outcome:
    """Indexes the corpus, killing parts ``kills`` times within about ``expected_s`` seconds, and looks at what is left."""
    running = up(home, say=lambda _: None)
    asyncio.run(put_corpus(running.settings, data))
    draw = np.random.default_rng(seed)
    begun = time.monotonic()
    job = asyncio.run(
        start(home, SOURCE, model_name=None, cpus=cpus, gpus=0, reads_per_s=None, niceness=0, segment_units=32)
    )
    assert job.id is not None
    done, longest = 0, 1.6 * expected_s / max(1, kills)
    while done < kills:
        pause = float(draw.uniform(0, longest))
        part = str(draw.choice(KILLED))
        if follow(home, job.id, pause) == JobStatus.DONE:
            console.print(f"the job was done after {done} kills")
            break
        process = job_part(home, part)
        if process is None:
            console.print(f"{time.monotonic() - begun:6.1f} s  the {part} does not run at this moment")
        else:
            process.kill()
            done += 1
            console.print(f"{time.monotonic() - begun:6.1f} s  kill {done}: the {part} (process {process.pid})")
        revive(home, job.id)
    while (status := follow(home, job.id, 60)) != JobStatus.DONE:
        if time.monotonic() - begun > 3600:
            raise RuntimeError(f"the job is {status} after an hour")
        revive(home, job.id)
    outcome = asyncio.run(examine(running.settings, job.id))
    outcome.seconds = time.monotonic() - begun
    return outcome


def revive(home: Path, job_id: int) -> None:
    """What an operator does: `up`, and `jobs resume` where the job has no living process or has failed."""
    time.sleep(2)
    up(home, say=lambda _: None)
    job = asyncio.run(show(home, job_id))
    dead = job_part(home, "job's runner") is None
    if job.status != JobStatus.DONE and (job.status == JobStatus.FAILED or dead):
        asyncio.run(change(home, job_id, JobStatus.WAITING))


async def examine(settings: Settings, job_id: int) -> Outcome:
    """Everything that the job made, by path."""
    outcome = Outcome()
    engine = create_engine(settings, pool_size=1)
    async with engine.connect() as connection:

        async def rows(statement: str) -> list[Any]:
            return list((await connection.execute(text(statement))).all())

        paths = {row.id: row.s3_path for row in await rows("SELECT id, s3_path FROM image")}
        outcome.tables["images"] = {row.s3_path: tuple(row) for row in await rows(f"SELECT {IMAGE_COLUMNS} FROM image")}
        outcome.tables["detections"] = {
            (paths[row.image_id], row.ordinal): tuple(row)[1:] for row in await rows("SELECT * FROM detection")
        }
        outcome.tables["content scores"] = {
            (paths[row.image_id], row.model): row.score for row in await rows("SELECT * FROM content_score")
        }
        outcome.tables["links"] = {
            frozenset((paths[row.image_a], paths[row.image_b])): (
                row.relation, row.method, row.score, row.threshold, _by_path(row.evidence, paths),
            )
            for row in await rows("SELECT * FROM image_match")
        }  # fmt: skip
        outcome.tables["failures"] = {
            row.path: (row.etag, row.size, row.reason) for row in await rows("SELECT * FROM job_failure")
        }
    job = await jobs.get(engine, job_id)
    outcome.counters = {name: getattr(job, name) for name in ("objects", "skipped", "indexed", "done", "failed")}
    connection_to_vectors = await connect(settings)
    for space in spaces_of(load_models(settings.models_file)):
        table = await VectorTable.open(connection_to_vectors, space, create=False)
        assert table is not None
        held, _ = await table.read_since(-1)
        keys = list(zip(held.image_ids.tolist(), held.regions.tolist(), strict=True))
        assert len(keys) == len(set(keys)), f"{space.name}: {len(keys) - len(set(keys))} rows are double"
        outcome.tables[f"vectors of {space.name}"] = {
            (paths.get(image_id, image_id), region): (*box.tolist(), *vector.tolist())
            for (image_id, region), box, vector in zip(keys, held.boxes, held.vectors, strict=True)
        }
    await engine.dispose()
    return outcome


def _by_path(evidence: dict[str, Any], paths: dict[int, str]) -> str:
    """Evidence as text: ids are replaced by paths; the versions of the tables depend on how often was written."""

    def named(value: Any) -> Any:
        if isinstance(value, dict):
            return {paths.get(int(k), k) if k.isdigit() else k: named(v) for k, v in value.items()}
        return value

    return json.dumps(named({k: v for k, v in evidence.items() if k != "index_versions"}), sort_keys=True)


def _same(table: str, wanted: Any, held: Any) -> bool:
    if table == "links":
        return wanted[:-1] == held[:-1] and _near(json.loads(wanted[-1]), json.loads(held[-1]))
    if not table.startswith("vectors"):
        return bool(wanted == held)
    return len(wanted) == len(held) and bool(np.allclose(wanted, held, rtol=0, atol=TOLERANCE))


def _near(wanted: Any, held: Any) -> bool:
    """Whether two values of JSON are the same, but for the last digit (``DIGIT``) of what is rounded."""
    if isinstance(wanted, dict) and isinstance(held, dict):
        return wanted.keys() == held.keys() and all(_near(value, held[key]) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(held, list):
        return len(wanted) == len(held) and all(map(_near, wanted, held))
    if isinstance(wanted, float) and isinstance(held, float):
        return abs(wanted - held) <= 1.5 * DIGIT
    return bool(wanted == held)


def rounding(calm: Outcome, rough: Outcome) -> tuple[int, float]:
    """How many vectors differ at all, and by how much at most in one number."""
    far = [
        float(np.abs(np.subtract(wanted, rough.tables[name][key])).max())
        for name, table in calm.tables.items()
        if name.startswith("vectors")
        for key, wanted in table.items()
        if key in rough.tables[name] and rough.tables[name][key] != wanted
    ]
    return len(far), max(far, default=0.0)


def differences(calm: Outcome, rough: Outcome) -> list[str]:
    """What is missing, additional or different in the second, at most three examples of each kind."""
    found = []
    if calm.counters != rough.counters:
        found.append(f"counters: {calm.counters} and {rough.counters}")
    for name, wanted in calm.tables.items():
        held = rough.tables[name]
        kinds = {
            "missing": [key for key in wanted if key not in held],
            "additional": [key for key in held if key not in wanted],
            "different": [key for key in wanted if key in held and not _same(name, wanted[key], held[key])],
        }
        for kind, keys in kinds.items():
            if keys:
                found.append(f"{name}: {len(keys)} {kind}, such as {keys[:3]}")
                found += [f"    {wanted[key]}\n    {held[key]}" for key in keys[:1] if kind == "different"]
    return found


def main() -> None:
    """Runs both, prints, and fails if the second differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cpus", type=int, default=2)
    options = parser.parse_args()
    console = Console(width=110, highlight=False)
    data = corpus(options.photos, options.pictures)
    outcomes: dict[str, Outcome] = {}
    for title, kills in (("undisturbed", 0), ("with kills", options.kills)):
        with installation() as home:
            calm_s = outcomes["undisturbed"].seconds if kills else 0.0
            outcomes[title] = run(home, data, kills, options.seed, options.cpus, console, calm_s)
            console.print(f"{title}: done after {outcomes[title].seconds:.0f} s")
    calm, rough = outcomes.values()
    table = Table("", *outcomes)
    for name in calm.tables:
        table.add_row(name, *(str(len(one.tables[name])) for one in outcomes.values()))
    for name in calm.counters:
        table.add_row(
            f"objects {name}" if name != "objects" else name, *(str(o.counters[name]) for o in outcomes.values())
        )
    table.add_row("seconds", *(f"{one.seconds:.0f}" for one in outcomes.values()))
    console.print(table)
    count, most = rounding(calm, rough)
    console.print(f"{count} vectors were rounded otherwise, by {most:.1g} at most in a number")
    troubles = differences(calm, rough)
    for line in troubles:
        console.print(line, soft_wrap=True)
    console.print("equal, row for row" if not troubles else f"{len(troubles)} differences")
    sys.exit(bool(troubles))


if __name__ == "__main__":
    main()
