"""kill -9 of every part in turn, in the middle of uploads; then everything is compared with an undisturbed run.

    python -m benchmarks.faults PHOTOS [--pictures 500] [--clients 8]

Two installations in folders of their own (removed afterwards): in the first nothing happens, in the second one part after
another is killed while pictures are uploaded; PostgreSQL, S3 and the Ray head are brought back by `up`, the rest by Ray.
Exit code 1 if anything is lost, double, missing or claims to be stored and is not.
"""

import argparse
import asyncio
import io
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from benchmarks.client import Client
from benchmarks.edits import EVERYDAY
from configs.models import load_models
from configs.settings import Settings
from deployments.similarity.replicas import spaces_of
from graphs.service import down, up
from storage.database import create_engine
from storage.errors import NotFound
from storage.objects import ObjectStore
from storage.vectors import VectorTable, connect

PARTS = {
    "pipeline replica": "ray::ServeReplica:safeguard:Pipeline",
    "embedder replica": "ray::ServeReplica:safeguard:Embedder",
    "similarity writer": "ray::ServeReplica:safeguard:SimilarityWriter",
    "PostgreSQL": "postgres",
    "S3 server": "weed",
    "Ray head": "gcs_server",
}
OURS = ("PostgreSQL", "S3 server", "Ray head")
"""Parts that nothing but `up` brings back; Ray restarts its replicas by itself."""
LEASE_S = 15


@dataclass
class Outcome:
    """What a run left behind; pictures are known by their names, since ids differ between runs."""

    statuses: Counter[str] = field(default_factory=Counter)
    links: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)
    attempts: Counter[int] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)
    seconds: float = 0.0


def pictures(folder: Path, count: int) -> list[tuple[str, bytes]]:
    """Photos and edited copies of them, in turns, so that there are links to lose."""
    files = sorted(folder.glob("*.jpg"))[: count // 2]
    rng = np.random.default_rng(3)
    names = ("jpeg10", "mirror", "recolour", "greyscale", "crop70")
    photos = [Image.open(path).convert("RGB") for path in files]
    made: list[tuple[str, bytes]] = []
    for number, (path, photo) in enumerate(zip(files, photos, strict=True)):
        buffer = io.BytesIO()
        EVERYDAY[names[number % len(names)]](photo, rng, photos).save(buffer, "JPEG", quality=90)
        made += [(path.name, path.read_bytes()), (f"edited-{path.name}", buffer.getvalue())]
    return made


def victim(home: Path, part: str) -> psutil.Process:
    """The process of a part of this installation."""
    wanted = PARTS[part]
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if part == "PostgreSQL":
                found = process.name() == "postgres" and str(home) in " ".join(command) and "-D" in command
            else:
                found = wanted in " ".join(command[:1]) and process.environ().get("SAFEGUARD_HOME", str(home)) == str(
                    home
                )
                found = found and (part != "S3 server" or str(home) in " ".join(command))
            if found:
                return process
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    raise RuntimeError(f"no process of the {part} was found")


def run(home: Path, data: list[tuple[str, bytes]], clients: int, kills: list[str], console: Console) -> Outcome:
    """Uploads everything, killing the parts of ``kills`` one after another, and looks at what is left."""
    home.joinpath("settings.env").write_text(f"SAFEGUARD_LEASE_S='{LEASE_S}'\n")
    running = up(home, say=lambda _: None)
    done = threading.Semaphore(0)
    begun = time.monotonic()

    def upload(item: tuple[str, bytes]) -> int:
        with Client(running.url, running.key, timeout_s=30) as client:
            image = client.upload(*item, key=f"fault-{item[0]}")
        done.release()
        return image

    with ThreadPoolExecutor(clients) as pool:
        jobs = [pool.submit(upload, item) for item in data]
        for part in kills:
            for _ in range(len(data) // (len(kills) + 1)):
                done.acquire()
            process = victim(home, part)
            process.kill()
            console.print(f"{time.monotonic() - begun:6.1f} s  killed the {part} (process {process.pid})")
            if part in OURS:
                time.sleep(2)
                running = up(home, say=lambda _: None)
                console.print(f"{time.monotonic() - begun:6.1f} s  `up` has brought it back")
        ids = [job.result() for job in jobs]
    with Client(running.url, running.key) as client:
        client.wait(ids, timeout_s=900)
    outcome = asyncio.run(examine(running.settings, ids, data))
    outcome.seconds = time.monotonic() - begun
    return outcome


async def examine(settings: Settings, ids: list[int], data: list[tuple[str, bytes]]) -> Outcome:
    """Compares PostgreSQL, S3 and the vectors with each other and with what was accepted."""
    outcome = Outcome()
    engine, objects = create_engine(settings, pool_size=2), ObjectStore(settings)
    trouble = outcome.troubles.append
    async with engine.connect() as connection:
        rows = (
            await connection.execute(text("SELECT id, name, status, attempt, s3_path, uploaded_at FROM image"))
        ).all()
        links = (
            await connection.execute(
                text(
                    "SELECT a.name AS one, b.name AS other, m.relation, m.score FROM image_match m"
                    " JOIN image a ON a.id = m.image_a JOIN image b ON b.id = m.image_b"
                )
            )
        ).all()
    if len(ids) != len(set(ids)) or len(set(ids)) != len(data):
        trouble(f"{len(data)} uploads were accepted under {len(set(ids))} ids")
    stored = [row for row in rows if row.uploaded_at is not None]
    if {row.id for row in stored} != set(ids):
        trouble(f"{len(stored)} rows claim to be stored, {len(set(ids))} were accepted")
    outcome.statuses.update(row.status for row in stored)
    outcome.attempts.update(row.attempt for row in stored)
    expected = dict(data)
    for row in stored:
        try:
            if await objects.get(row.s3_path) != expected[row.name]:
                trouble(f"{row.name}: the object holds other bytes")
        except NotFound:
            trouble(f"{row.name}: the row claims an object that is not there")
    for row in links:
        first, second = sorted((row.one, row.other))
        outcome.links[first, second] = (row.relation, row.score)
    connection_to_vectors = await connect(settings)
    for space in spaces_of(load_models(settings.models_file)):
        table = await VectorTable.open(connection_to_vectors, space, create=False)
        if table is None:
            trouble(f"{space.name}: no table")
            continue
        vectors, _ = await table.read_since(-1)
        keys = Counter(zip(vectors.image_ids.tolist(), vectors.regions.tolist(), strict=True))
        double = [key for key, times in keys.items() if times > 1]
        missing = set(ids) - set(vectors.image_ids.tolist())
        foreign = set(vectors.image_ids.tolist()) - {row.id for row in rows}
        for what, found in (("double", double), ("missing", missing), ("of unknown images", foreign)):
            if found:
                trouble(f"{space.name}: {len(found)} vectors {what}")
    objects.close()
    await engine.dispose()
    return outcome


def main() -> None:
    """Runs both, prints, and fails if the second differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    console = Console(width=110, highlight=False)
    data = pictures(options.photos, options.pictures)
    outcomes: dict[str, Outcome] = {}
    for title, kills in (("undisturbed", []), ("with kills", list(PARTS))):
        home = Path(tempfile.mkdtemp(prefix="sg-fault-"))
        home.chmod(0o755)
        try:
            outcomes[title] = run(home, data, options.clients, kills, console)
        finally:
            down(home)
            shutil.rmtree(home, ignore_errors=True)
    calm, rough = outcomes["undisturbed"], outcomes["with kills"]
    table = Table("", *outcomes)
    table.add_row("uploads accepted", *(str(len(data)) for _ in outcomes))
    table.add_row("statuses", *(str(dict(one.statuses)) for one in outcomes.values()))
    table.add_row("claims a picture took", *(str(dict(sorted(one.attempts.items()))) for one in outcomes.values()))
    table.add_row("links", *(str(len(one.links)) for one in outcomes.values()))
    table.add_row("seconds", *(f"{one.seconds:.0f}" for one in outcomes.values()))
    console.print(table)
    lost = [f"link {pair} {calm.links[pair]} is missing" for pair in sorted(calm.links.keys() - rough.links.keys())]
    extra = [f"link {pair} {rough.links[pair]} is new" for pair in sorted(rough.links.keys() - calm.links.keys())]
    unfinished = [
        f"{title}: {dict(one.statuses)}" for title, one in outcomes.items() if set(one.statuses) != {"PROCESSED"}
    ]
    troubles = lost + extra + unfinished + [f"{t}: {what}" for t, one in outcomes.items() for what in one.troubles]
    for line in troubles:
        console.print(line)
    console.print("nothing was lost" if not troubles else f"{len(troubles)} troubles")
    sys.exit(bool(troubles))


if __name__ == "__main__":
    main()
